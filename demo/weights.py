"""Readers of weight files, so that the demos need neither torch nor safetensors."""

import collections
import io
import json
import pickle
import struct

import numpy

# torch's storage classes, and what they hold.
_STORAGES = {"FloatStorage": numpy.float32, "LongStorage": numpy.int64, "DoubleStorage": numpy.float64}


class _Storage:
    def __init__(self, dtype):
        self.dtype = dtype
        self.values = None


def _rebuild_tensor(storage, offset, size, stride, *_):
    return storage, offset, size, stride


class _Unpickler(pickle.Unpickler):
    """Knows the few names that a state dictionary uses and refuses all others: a pickle could call anything."""

    def __init__(self, file, storages):
        super().__init__(file)
        self._storages = storages

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"unexpected {module}.{name} in a weight file")

    def persistent_load(self, identifier):
        _, dtype, key, *_ = identifier
        return self._storages.setdefault(key, _Storage(dtype))


def read_torch_state(data):
    """A state dictionary saved by torch before version 1.6: five pickles, then the storages one after the other.

    :param data: the file's bytes.
    :returns: name -> array.
    """
    file = io.BytesIO(data)
    storages = {}
    magic, version, _ = (_Unpickler(file, storages).load() for _ in range(3))
    if magic != 0x1950A86A20F9469CFC6C or version != 1001:
        raise ValueError("not a torch file of the old format")
    tensors = _Unpickler(file, storages).load()
    for key in _Unpickler(file, storages).load():
        storage = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        storage.values = numpy.frombuffer(file.read(count * numpy.dtype(storage.dtype).itemsize), storage.dtype)
    arrays = {}
    for name, (storage, offset, size, stride) in tensors.items():
        values = storage.values[offset:]
        strides = [step * values.itemsize for step in stride]
        arrays[name] = numpy.lib.stride_tricks.as_strided(values, size, strides).copy()
    return arrays


def read_safetensors(data):
    """:returns: name -> array, of a .safetensors file's bytes; the format: 8 bytes of length, a JSON header, the data."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    types = {"F32": numpy.float32, "I64": numpy.int64}
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = numpy.frombuffer(data[8 + length + begin:8 + length + end], types[entry["dtype"]])
        arrays[name] = values.reshape(entry["shape"])
    return arrays
