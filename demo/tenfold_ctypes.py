"""Runs engines from Python through the C ABI (include/tenfold/tenfold.h), with nothing but ctypes and NumPy.

``TENFOLD_LIBRARY`` names the shared library; without it build/release/lib/libtenfold.so is taken.
"""

import ctypes
import json
import os
import pathlib

import numpy

MAX_RANK = 8
# By tenfold_dtype. bfloat16 (4) has no NumPy type.
DTYPES = {1: numpy.float32, 2: numpy.float64, 3: numpy.float16, 5: numpy.int8, 6: numpy.uint8, 7: numpy.int16,
          8: numpy.uint16, 9: numpy.int32, 10: numpy.uint32, 11: numpy.int64, 12: numpy.uint64, 13: numpy.bool_}


class Error(RuntimeError):
    """A failure of the library. ``code`` is its name, such as "invalid_argument"."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class _Info(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("dtype", ctypes.c_int), ("rank", ctypes.c_int32),
                ("dims", ctypes.c_int64 * MAX_RANK)]


class _Tensor(ctypes.Structure):
    _fields_ = [("dtype", ctypes.c_int), ("rank", ctypes.c_int32), ("dims", ctypes.c_int64 * MAX_RANK),
                ("data", ctypes.c_void_p), ("size_bytes", ctypes.c_size_t)]


def _open_library():
    default = pathlib.Path(__file__).resolve().parents[1] / "build/release/lib/libtenfold.so"
    library = ctypes.CDLL(os.environ.get("TENFOLD_LIBRARY", str(default)))
    library.tenfold_last_error.restype = ctypes.c_char_p
    library.tenfold_status_name.restype = ctypes.c_char_p
    pointer, text, integer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32
    for name, arguments in {
        "tenfold_engine_load": [text, text, ctypes.POINTER(pointer)],
        "tenfold_engine_num_inputs": [pointer, ctypes.POINTER(integer)],
        "tenfold_engine_num_outputs": [pointer, ctypes.POINTER(integer)],
        "tenfold_engine_get_input": [pointer, integer, ctypes.POINTER(_Info)],
        "tenfold_engine_get_output": [pointer, integer, ctypes.POINTER(_Info)],
        "tenfold_context_create": [pointer, integer, ctypes.POINTER(pointer)],
        "tenfold_context_set_input": [pointer, text, ctypes.POINTER(ctypes.c_int64), integer, pointer, ctypes.c_size_t],
        "tenfold_context_run": [pointer],
        "tenfold_context_get_output": [pointer, text, ctypes.POINTER(_Tensor)],
    }.items():
        getattr(library, name).argtypes = arguments
    for name in ("tenfold_engine_free", "tenfold_context_free"):
        getattr(library, name).argtypes = [pointer]
        getattr(library, name).restype = None
    return library


class Engine:
    """An engine file with one context of profile 0. One thread at a time."""

    def __init__(self, path, threads=0):
        """:param threads: 0 takes as many as the engine was built for, at most the cores there are.
        :raises Error: the file cannot be read, is broken, or was built for another processor.
        """
        self._library = _open_library()
        self._engine, self._context = ctypes.c_void_p(), ctypes.c_void_p()
        options = json.dumps({"threads": threads}).encode() if threads else None
        self._check(self._library.tenfold_engine_load(str(path).encode(), options, ctypes.byref(self._engine)))
        self._check(self._library.tenfold_context_create(self._engine, 0, ctypes.byref(self._context)))
        self.inputs = self._names("input")
        self.outputs = self._names("output")

    def __del__(self):
        if getattr(self, "_context", None):
            self._library.tenfold_context_free(self._context)
        if getattr(self, "_engine", None):
            self._library.tenfold_engine_free(self._engine)

    def run(self, inputs):
        """Runs once.

        :param inputs: name -> array; dtype as the engine's input, shape within the profile. Copied only if not C-contiguous.
        :returns: name -> new array, for every output.
        :raises Error: ``code`` is "invalid_argument" for a missing or unknown name, a wrong dtype or shape.
        """
        kept = []
        for name, value in inputs.items():
            array = numpy.ascontiguousarray(value)
            if name in self.inputs and array.dtype != self.inputs[name]:
                raise Error("invalid_argument", f"input '{name}' has dtype {array.dtype}, expected {self.inputs[name]}")
            kept.append(array)
            dims = (ctypes.c_int64 * max(array.ndim, 1))(*numpy.shape(value))
            self._check(self._library.tenfold_context_set_input(
                self._context, name.encode(), dims, numpy.ndim(value), array.ctypes.data, array.nbytes))
        self._check(self._library.tenfold_context_run(self._context))
        return {name: self._output(name) for name in self.outputs}

    def _output(self, name):
        tensor = _Tensor()
        self._check(self._library.tenfold_context_get_output(self._context, name.encode(), ctypes.byref(tensor)))
        array = numpy.empty(tuple(tensor.dims[:tensor.rank]), DTYPES[tensor.dtype])
        if tensor.size_bytes:
            ctypes.memmove(array.ctypes.data, tensor.data, tensor.size_bytes)
        return array

    def _names(self, kind):
        count, info, names = ctypes.c_int32(), _Info(), {}
        self._check(getattr(self._library, f"tenfold_engine_num_{kind}s")(self._engine, ctypes.byref(count)))
        for index in range(count.value):
            self._check(getattr(self._library, f"tenfold_engine_get_{kind}")(self._engine, index, ctypes.byref(info)))
            names[info.name.decode()] = numpy.dtype(DTYPES[info.dtype])
        return names

    def _check(self, status):
        if status != 0:
            code = self._library.tenfold_status_name(status).decode()
            raise Error(code, self._library.tenfold_last_error().decode(errors="replace"))
