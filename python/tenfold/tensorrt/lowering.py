"""From a layer with TensorRT's attributes to operators in the terms of ONNX: what layers use to add their nodes."""

import numpy as np

from .errors import argument_error
from .values import Weights


class Lowering:
    """Adds nodes to `core`, the compiler's network, on behalf of one layer."""

    def __init__(self, core, layer_name, inputs, scope=None):
        self.core, self.name, self.inputs, self.scope = core, layer_name, inputs, scope
        self._used_name = False

    def op(self, op_type, inputs, num_outputs=1, opset=0, domain="", **attributes):
        """Adds a node; returns its output, or the list of them if there are several. `None` is an omitted input."""
        name = self.name if not self._used_name else f"{self.name}/{op_type}"
        self._used_name = True
        inputs = [-1 if i is None else i for i in inputs]
        while inputs and inputs[-1] == -1:
            inputs.pop()
        attributes = {key: value for key, value in attributes.items() if value is not None}
        outputs = self.core.add_node(op_type, inputs, attributes, num_outputs, name, domain, opset)
        return outputs[0] if num_outputs == 1 else list(outputs)

    def const(self, values, dtype=None, name=""):
        if isinstance(values, Weights):
            values = values.numpy()
        array = np.ascontiguousarray(np.asarray(values) if dtype is None else np.asarray(values, dtype))
        if np.ndim(values) == 0:
            array = array.reshape(())
        return self.core.add_constant(array, name)

    def ints(self, values):
        return self.const(np.asarray(list(values), np.int64).reshape(-1))

    def like(self, values, tensor, shape=None):
        """A constant of `tensor`'s element type; weights of another floating-point type are converted to it."""
        array = values.numpy() if isinstance(values, Weights) else np.asarray(values)
        if shape is not None:
            count = int(np.prod(shape, dtype=np.int64))
            if array.size != count:
                raise argument_error(
                    f"layer '{self.name}': expected {count} weights for shape {tuple(shape)}, got {array.size}"
                )
            array = array.reshape(shape)
        wanted = self.dtype(tensor)
        if wanted in ("bfloat16", "float8e4m3"):
            return self.cast(self.const(array, np.float32), wanted)
        return self.const(array.astype(wanted, copy=False))

    def cast(self, tensor, dtype):
        return tensor if self.dtype(tensor) == dtype else self.op("Cast", [tensor], to=_ONNX_TYPES[dtype])

    def info(self, tensor):
        return self.core.value_info(tensor)

    def dtype(self, tensor):
        return str(self.core.value_info(tensor).dtype)

    def dims(self, tensor):
        return list(self.core.value_info(tensor).dims)

    def rank(self, tensor):
        return len(self.core.value_info(tensor).dims)

    def is_float(self, tensor):
        return self.dtype(tensor) in ("float32", "float16", "bfloat16", "float64")

    def known(self, tensor):
        """The array of a constant; None for what only a run knows."""
        return self.core.constant_value(tensor)

    def static_dims(self, tensor, why):
        dims = self.dims(tensor)
        if any(dim < 0 for dim in dims):
            raise argument_error(
                f"layer '{self.name}': {why} needs a shape that is known when building, got {tuple(dims)}"
            )
        return dims

    def reshape(self, tensor, dims):
        return self.op("Reshape", [tensor, self.ints(dims)])

    def transpose(self, tensor, order):
        return tensor if list(order) == list(range(len(order))) else self.op("Transpose", [tensor], perm=list(order))

    def axis(self, axis, rank, what="axis"):
        if not -rank <= axis < rank:
            raise argument_error(f"layer '{self.name}': {what} {axis} is outside the input's rank {rank}")
        return axis % rank

    def axes_of_mask(self, mask, rank):
        axes = [i for i in range(rank) if mask >> i & 1]
        if mask < 0 or mask >> rank:
            raise argument_error(
                f"layer '{self.name}': the mask of axes {mask:#b} has bits beyond the input's rank {rank}"
            )
        return axes

    def one_axis(self, mask, rank):
        axes = self.axes_of_mask(mask, rank)
        if len(axes) != 1:
            raise argument_error(f"layer '{self.name}': axes must name exactly one axis, got the mask {mask:#b}")
        return axes[0]


# TensorProto.DataType of the ONNX specification.
_ONNX_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
    "bfloat16": 16,
    "float8e4m3": 17,
}
