"""ITensor: a value of a network under construction."""

import numpy as np

from .enums import DataType, TensorFormat, TensorLocation, as_member, mask_of
from .errors import argument_error, unsupported
from .values import Dims, as_dims, core_dtype, trt_dtype

# Element types of the compiler that TensorRT has no name for, by the nearest that it has; only inside a network.
_NEAREST = {
    "float64": DataType.FLOAT,
    "int16": DataType.INT32,
    "uint16": DataType.INT32,
    "uint32": DataType.INT64,
    "uint64": DataType.INT64,
}
FLOATS = (DataType.FLOAT, DataType.HALF, DataType.BF16)


class ITensor:
    """Made by `add_input`, by layers, or by the parser. Shape and type are inferred when asked for."""

    def __init__(self, made=None):
        raise TypeError("an ITensor is made by INetworkDefinition.add_input or by a layer")

    @classmethod
    def _make(cls, network, name, layer=None, index=0):
        tensor = object.__new__(cls)
        tensor._network, tensor._name, tensor._layer, tensor._index = network, name, layer, index
        tensor._input_dtype = tensor._input_shape = None  # of network inputs
        tensor._array = None  # of weights that a parser found in the model
        tensor._model_dtype = None  # of network inputs: what the layers expect, if not _input_dtype
        tensor._dtype = None  # set by the user; else inferred
        tensor._range = None
        tensor._formats = 1 << TensorFormat.LINEAR.value
        tensor._dim_names = {}
        return tensor

    @property
    def name(self):
        return self._name

    @name.setter
    def name(self, name):
        if not isinstance(name, str) or not name:
            raise argument_error(f"a tensor's name must be a text that is not empty, got {name!r}")
        self._name = name

    def _info(self):
        return self._network._info(self)

    @property
    def shape(self):
        """-1 where a dimension is decided at run time. Raises the error of the layer whose operands do not fit."""
        if self._input_shape is not None:
            return Dims(self._input_shape)
        return Dims(self._info().dims)

    @shape.setter
    def shape(self, shape):
        if self._input_shape is None:
            raise argument_error(f"tensor '{self._name}': only the shape of a network input can be set")
        self._network._set_input_shape(self, as_dims(shape, f"the shape of '{self._name}'"))

    @property
    def dtype(self):
        if self._dtype is not None:
            return self._dtype
        if self._input_dtype is not None:
            return self._input_dtype
        name = str(self._info().dtype)
        return trt_dtype(name) or _NEAREST[name]

    @dtype.setter
    def dtype(self, dtype):
        core_dtype(dtype, f"the type of tensor '{self._name}'")
        if self._input_dtype is not None:
            self._network._set_input_dtype(self, dtype)
            return
        if self._layer is not None:
            self._layer.set_output_type(self._index, dtype)
        self._dtype = dtype

    @property
    def is_network_input(self):
        return self._input_shape is not None

    @property
    def is_network_output(self):
        return self._network._is_output(self)

    @property
    def is_shape_tensor(self):
        """Do shapes depend on this tensor's values? True of small integer tensors that shape arithmetic reads or makes."""
        return self._network._is_shape_tensor(self)

    @property
    def is_execution_tensor(self):
        return not self.is_shape_tensor

    @property
    def broadcast_across_batch(self):
        return False

    @broadcast_across_batch.setter
    def broadcast_across_batch(self, value):
        if value:
            raise unsupported("ITensor.broadcast_across_batch (implicit batch)", "a dimension of 1, which broadcasts")

    @property
    def location(self):
        return TensorLocation.HOST if self.is_network_input and self.is_shape_tensor else TensorLocation.DEVICE

    @location.setter
    def location(self, location):
        # Device memory of a CPU engine is host memory, so both places are the same.
        as_member(TensorLocation, location, "location")

    @property
    def allowed_formats(self):
        return self._formats

    @allowed_formats.setter
    def allowed_formats(self, formats):
        mask = mask_of(TensorFormat, formats, "allowed_formats")
        if not mask & (1 << TensorFormat.LINEAR.value):
            raise unsupported(
                f"tensor '{self._name}': a format other than TensorFormat.LINEAR",
                "LINEAR; inside the engine the compiler chooses layouts itself",
            )
        self._formats = mask

    # Ranges for INT8. They are kept for the calibration table; INT8 arithmetic is refused by the build.
    @property
    def dynamic_range(self):
        return self._range

    @dynamic_range.setter
    def dynamic_range(self, bounds):
        self.set_dynamic_range(*bounds)

    def set_dynamic_range(self, min, max):
        low, high = float(min), float(max)
        if not np.isfinite([low, high]).all() or low > high:
            raise argument_error(f"tensor '{self._name}': a range needs min <= max, got {min} and {max}")
        self._range = (low, high)
        return True

    def reset_dynamic_range(self):
        self._range = None

    def set_dimension_name(self, index, name):
        """Inputs whose dimensions have the same name have the same size there, when they are not fixed."""
        if self._input_shape is None:
            raise argument_error(f"tensor '{self._name}': only dimensions of a network input can be named")
        if not 0 <= index < len(self._input_shape):
            raise argument_error(
                f"tensor '{self._name}' has {len(self._input_shape)} dimensions; there is none with index {index}"
            )
        self._dim_names[index] = str(name)
        self._network._touch(None)

    def get_dimension_name(self, index):
        return self._dim_names.get(index, "")

    def __repr__(self):
        return f"<tensorrt.ITensor '{self._name}'>"
