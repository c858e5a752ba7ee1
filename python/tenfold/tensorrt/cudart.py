"""A library with the seven functions of the CUDA runtime that Python tools use to hold buffers, in the host's memory.

For tools that allocate through libcudart and hand the addresses to an engine, such as Polygraphy, on a machine without a
GPU. It is never used unless it is asked for: set TENFOLD_CUDART_SHIM=1 before the tool starts, or call `enable()` before
it loads libcudart. The environment variable LD_LIBRARY_PATH then names the folder first, which is where such tools look.
"""

import ctypes
import os


def directory():
    """The folder that holds libcudart.so."""
    from .. import _core

    folder = os.path.join(os.path.dirname(os.path.abspath(_core.__file__)), "cudart")
    if not os.path.exists(os.path.join(folder, "libcudart.so")):
        raise FileNotFoundError(
            f"there is no libcudart.so in {folder}; build the target tenfold_cudart, or install the wheel"
        )
    return folder


def enable():
    """Puts the folder first in this process's LD_LIBRARY_PATH, which child processes inherit."""
    folder = directory()
    paths = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if path and path != folder]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join([folder, *paths])
    return folder


def load():
    """The library, loaded with ctypes."""
    return ctypes.CDLL(os.path.join(directory(), "libcudart.so"))
