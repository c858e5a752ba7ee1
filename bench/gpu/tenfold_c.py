"""The few functions of Tenfold's C ABI that the benchmark calls, with tensors of PyTorch as operands."""
import ctypes
import json
import os
import pathlib

DTYPES = {"torch.float32": 1, "torch.float64": 2, "torch.float16": 3, "torch.bfloat16": 4, "torch.int8": 5,
          "torch.uint8": 6, "torch.int32": 9, "torch.int64": 11, "torch.bool": 13}


def library(path=None):
    folder = pathlib.Path(__file__).resolve().parents[2]
    for candidate in [path, os.environ.get("TENFOLD_LIBRARY"), folder / "build/release/lib/libtenfold.so"]:
        if candidate and pathlib.Path(candidate).exists():
            lib = ctypes.CDLL(str(candidate))
            lib.tenfold_last_error.restype = ctypes.c_char_p
            return lib
    raise SystemExit("libtenfold.so is not there; build it, or name it with TENFOLD_LIBRARY")


class Engine:
    def __init__(self, lib, path, device="cuda"):
        self.lib, self.engine, self.context = lib, ctypes.c_void_p(), ctypes.c_void_p()
        options = json.dumps({"device": device}).encode()
        self._check(lib.tenfold_engine_load(str(path).encode(), options, ctypes.byref(self.engine)))
        self._check(lib.tenfold_context_create(self.engine, 0, ctypes.byref(self.context)))
        self.keep = {}

    def _check(self, status):
        if status != 0:
            raise RuntimeError(self.lib.tenfold_last_error().decode())

    def set_input(self, name, tensor):
        dims = (ctypes.c_int64 * max(1, tensor.dim()))(*tensor.shape)
        self.keep[name] = tensor
        self._check(self.lib.tenfold_context_set_input(
            self.context, name.encode(), dims, tensor.dim(), ctypes.c_void_p(tensor.data_ptr()),
            ctypes.c_size_t(tensor.numel() * tensor.element_size())))

    def set_output(self, name, tensor):
        self.keep[name] = tensor
        self._check(self.lib.tenfold_context_set_output(
            self.context, name.encode(), ctypes.c_void_p(tensor.data_ptr()),
            ctypes.c_size_t(tensor.numel() * tensor.element_size())))

    def enqueue(self, stream):
        self._check(self.lib.tenfold_context_enqueue(self.context, ctypes.c_void_p(stream)))

    def warm_up(self):
        self._check(self.lib.tenfold_context_warm_up(self.context))

    def step_times(self):
        self._check(self.lib.tenfold_context_set_profiling(self.context, 1))
        self._check(self.lib.tenfold_context_run(self.context))
        text = ctypes.c_char_p()
        self._check(self.lib.tenfold_context_step_times(self.context, ctypes.byref(text)))
        times = json.loads(text.value)
        self.lib.tenfold_free(text)
        self._check(self.lib.tenfold_context_set_profiling(self.context, 0))
        return times
