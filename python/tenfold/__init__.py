"""Tenfold compiles a trained neural network into an engine for the processor at hand, and runs it.

    import tenfold

    engine = tenfold.compile("model.onnx", shapes={"x": ((1, 3, 224, 224), (4, 3, 224, 224), (8, 3, 224, 224))})
    scores = engine(pixels)          # a NumPy array, or any tensor that speaks DLPack
    engine.save("model.engine")

Messages of a build go to the logger ``tenfold`` of the standard module ``logging``.
"""

from tenfold._core import Context, Error, TensorInfo, __version__
from tenfold.compiler import compile
from tenfold.engine import Engine, Profile, ProfiledStep

__all__ = ["Context", "Engine", "Error", "Profile", "ProfiledStep", "TensorInfo", "__version__", "compile"]
