"""The release of TensorRT whose behaviour is imitated where releases differ: TENFOLD_TENSORRT_VERSION, else 10.16.

All names exist whatever is chosen. It decides `__version__`, the bit of STRONGLY_TYPED in `create_network(flags)`, and the
type of shapes that `add_shape` gives (int32 before 10).
"""

import os

_KNOWN = {"8": "8.6.1", "8.6": "8.6.1", "10": "10.16.0", "10.16": "10.16.0", "11": "11.1.0", "11.1": "11.1.0"}
_asked = os.environ.get("TENFOLD_TENSORRT_VERSION", "10.16")
VERSION = _KNOWN.get(_asked, _asked)
if VERSION not in _KNOWN.values():
    raise ImportError(f"TENFOLD_TENSORRT_VERSION is '{_asked}'; it must be one of {', '.join(_KNOWN)}")
MAJOR, _MINOR, _PATCH = (int(part) for part in VERSION.split("."))
# As NV_TENSORRT_VERSION has it, and the first line of a calibration cache.
NUMBER = MAJOR * (10000 if MAJOR >= 10 else 1000) + _MINOR * 100 + _PATCH
