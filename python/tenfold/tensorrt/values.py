"""Small value types of the API: Dims and its relatives, Permutation, Weights, IHostMemory; element types."""

import numbers

import numpy as np

from .enums import DataType
from .errors import argument_error, unsupported

# Element types that Tenfold computes with: TensorRT's name, NumPy's, the compiler's.
_TYPES = [
    (DataType.FLOAT, np.dtype(np.float32), "float32"),
    (DataType.HALF, np.dtype(np.float16), "float16"),
    (DataType.INT8, np.dtype(np.int8), "int8"),
    (DataType.UINT8, np.dtype(np.uint8), "uint8"),
    (DataType.INT32, np.dtype(np.int32), "int32"),
    (DataType.INT64, np.dtype(np.int64), "int64"),
    (DataType.BOOL, np.dtype(np.bool_), "bool"),
]
_NUMPY = {trt: dtype for trt, dtype, _ in _TYPES}
_FROM_NUMPY = {dtype: trt for trt, dtype, _ in _TYPES}
_CORE = {trt: core for trt, _, core in _TYPES} | {DataType.BF16: "bfloat16", DataType.FP8: "float8e4m3"}
_FROM_CORE = {core: trt for trt, core in _CORE.items()}


def nptype(trt_type):
    """The NumPy type of a DataType. TypeError where NumPy has none (bfloat16, fp8, int4)."""
    if trt_type not in _NUMPY:
        raise TypeError(f"Could not resolve TensorRT datatype to an equivalent numpy datatype: {trt_type!s}")
    return _NUMPY[trt_type].type


def volume(iterable):
    """The product of all dimensions; 1 for none."""
    product = 1
    for dim in iterable:
        product *= dim
    return product


def core_dtype(trt_type, what):
    """The compiler's name of a DataType."""
    if not isinstance(trt_type, DataType):
        raise argument_error(f"{what} must be a tensorrt.DataType, got {trt_type!r}")
    if trt_type not in _CORE:
        names = ", ".join(t.name for t in _CORE)
        raise unsupported(f"{what}: {trt_type!s}", f"one of {names}")
    return _CORE[trt_type]


def trt_dtype(core_name):
    """The DataType of a type of the compiler; None for those that TensorRT has no name for (float64, uint16 ...)."""
    return _FROM_CORE.get(str(core_name))


def dtype_of_array(array):
    """The DataType of a NumPy array's elements; None where there is none."""
    return _FROM_NUMPY.get(array.dtype)


def as_int(value, what):
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    raise argument_error(f"{what} must be an integer, got {value!r}")


class Dims:
    """Up to eight dimensions. Behaves as a list of integers of fixed length; -1 is a dimension decided at run time."""

    MAX_DIMS = 8
    _length = None

    def __init__(self, shape=()):
        if isinstance(shape, numbers.Integral):
            raise TypeError(f"{type(self).__name__} takes a sequence of integers, got {shape!r}")
        self._dims = [as_int(dim, f"dimension {i} of {type(self).__name__}") for i, dim in enumerate(shape)]
        if len(self._dims) > self.MAX_DIMS:
            raise argument_error(f"a shape has at most {self.MAX_DIMS} dimensions, got {len(self._dims)}")
        if self._length is not None and len(self._dims) != self._length:
            raise argument_error(f"{type(self).__name__} takes {self._length} dimensions, got {tuple(self._dims)}")

    def __len__(self):
        return len(self._dims)

    def __iter__(self):
        return iter(self._dims)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return tuple(self._dims[index])
        return self._dims[index]

    def __setitem__(self, index, value):
        if isinstance(index, slice):
            values = [as_int(v, "a dimension") for v in value]
            if len(values) != len(self._dims[index]):
                raise argument_error(f"cannot assign {len(values)} dimensions to {len(self._dims[index])}")
            self._dims[index] = values
        else:
            self._dims[index] = as_int(value, "a dimension")

    def __eq__(self, other):
        if isinstance(other, (Dims, tuple, list)):
            return tuple(self) == tuple(other)
        return NotImplemented

    def __hash__(self):
        return hash(tuple(self._dims))

    def __repr__(self):
        return "(" + ", ".join(str(dim) for dim in self._dims) + (",)" if len(self._dims) == 1 else ")")

    __str__ = __repr__


class Dims2(Dims):
    _length = 2


class DimsHW(Dims2):
    @property
    def h(self):
        return self._dims[0]

    @h.setter
    def h(self, value):
        self[0] = value

    @property
    def w(self):
        return self._dims[1]

    @w.setter
    def w(self, value):
        self[1] = value


class Dims3(Dims):
    _length = 3


class Dims4(Dims):
    _length = 4


def as_dims(value, what):
    """A Dims from a Dims, a sequence of integers or, for window sizes, one integer."""
    if isinstance(value, Dims):
        return Dims(value)
    try:
        return Dims(value)
    except TypeError as error:
        raise argument_error(f"{what} must be a shape (a sequence of integers), got {value!r}") from error


class Permutation:
    """An order of axes, for IShuffleLayer."""

    def __init__(self, order=None):
        self._order = list(range(Dims.MAX_DIMS)) if order is None else [as_int(a, "an axis") for a in order]
        if len(self._order) > Dims.MAX_DIMS:
            raise argument_error(f"a permutation has at most {Dims.MAX_DIMS} axes, got {len(self._order)}")

    def __len__(self):
        return len(self._order)

    def __iter__(self):
        return iter(self._order)

    def __getitem__(self, index):
        return self._order[index]

    def __setitem__(self, index, value):
        self._order[index] = as_int(value, "an axis")

    def __eq__(self, other):
        return list(self) == list(other) if isinstance(other, (Permutation, list, tuple)) else NotImplemented

    def __hash__(self):
        return hash(tuple(self._order))

    def __repr__(self):
        return "(" + ", ".join(str(axis) for axis in self._order) + ")"


class Weights:
    """Constant data for a layer. Made of a NumPy array (kept, not copied) or, empty, of a DataType."""

    def __init__(self, a=None, *pointer):
        if isinstance(a, Weights):
            a = a.numpy()
        if pointer:
            a = _array_at(a, *pointer)
        if a is None:
            a = DataType.FLOAT
        if isinstance(a, DataType):
            self._dtype, self._array = a, np.empty(0, nptype(a))
            return
        try:
            array = np.asarray(a)
        except Exception as error:
            raise argument_error(f"weights must be a NumPy array, got {type(a).__name__}") from error
        if not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        self._dtype = dtype_of_array(array)
        if self._dtype is None:
            raise argument_error(
                f"weights of element type {array.dtype} do not exist in TensorRT; "
                f"convert them to one of {', '.join(str(d) for d in _FROM_NUMPY)}"
            )
        self._array = array

    @property
    def dtype(self):
        return self._dtype

    @property
    def size(self):
        return self._array.size

    @property
    def nbytes(self):
        return self._array.nbytes

    def numpy(self):
        return self._array

    def flat(self):
        """As layers show their weights: TensorRT's have no shape."""
        return self._array.reshape(-1)

    def __len__(self):
        return self._array.size

    def __bool__(self):
        return True

    def __array__(self, dtype=None, copy=None):
        return self._array if dtype is None else self._array.astype(dtype)


def _array_at(dtype, address, count):
    """A view of memory that belongs to the caller: Weights(dtype, pointer, count) of release 10."""
    import ctypes

    if not isinstance(dtype, DataType):
        raise argument_error(f"Weights(type, pointer, count) takes a tensorrt.DataType first, got {dtype!r}")
    if as_int(address, "the pointer") == 0 or as_int(count, "the count") < 0:
        raise argument_error(f"Weights(type, pointer, count): pointer {address:#x} and count {count} name no memory")
    kind = np.dtype(nptype(dtype))
    memory = (ctypes.c_char * (count * kind.itemsize)).from_address(address)
    return np.frombuffer(memory, kind)


def as_weights(value, what):
    """Weights from Weights, an array or None; None gives None, and so do weights without elements."""
    if value is None:
        return None
    try:
        weights = value if isinstance(value, Weights) else Weights(value)
    except Exception as error:
        raise argument_error(f"{what}: {error}") from error
    return weights if weights.size else None


class IHostMemory(bytes):
    """Bytes that a build or a serialization gives; has the buffer protocol: `f.write(plan)`, `memoryview(plan)`."""

    @property
    def nbytes(self):
        return len(self)

    @property
    def dtype(self):
        return DataType.INT8

    def __bool__(self):
        return True

    def __repr__(self):
        return f"<tensorrt.IHostMemory of {len(self)} bytes>"

    __str__ = __repr__

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return False
