"""ILayer: what all layers share, and the attributes they declare.

A layer keeps the attributes that TensorRT gives it. When the network is asked for shapes or built, each layer adds its
nodes to the compiler's network (`_lower`), from the first changed layer on.
"""

from .enums import DataType, LayerType, as_member
from .errors import argument_error, unsupported
from .tensor import FLOATS, ITensor
from .values import core_dtype, trt_dtype


class Attribute:
    """A layer's attribute: `convert(value, what)` checks what is assigned; assignment makes shapes out of date."""

    def __init__(self, convert, default=None, alias=None):
        self._convert, self._default, self._alias = convert, default, alias

    def __set_name__(self, owner, name):
        self._name = self._alias or name

    def __get__(self, layer, owner):
        if layer is None:
            return self
        return layer._values.get(self._name, self._default)

    def __set__(self, layer, value):
        layer._set(self._name, self._convert(value, f"layer '{layer.name}': {self._name}"))


def member(cls):
    return lambda value, what: as_member(cls, value, what)


class ILayer:
    """One operation of a network. `get_layer` and iteration give the class of the layer's type."""

    _layer_type = None
    _num_outputs = 1

    def __init__(self):
        raise TypeError("a layer is made by the add_ functions of INetworkDefinition or by a parser")

    @classmethod
    def _make(cls, network, name, inputs, num_outputs=None, **values):
        layer = object.__new__(cls)
        layer._network, layer._name, layer._inputs = network, name, list(inputs)
        layer._values = {}
        layer._precision = None
        layer._types = {}  # of outputs, set by the user
        layer._metadata = ""
        layer._ranks = 1
        count = cls._num_outputs if num_outputs is None else num_outputs
        layer._outputs = [
            ITensor._make(network, f"{name}_output" if i == 0 else f"{name}_output_{i}", layer, i) for i in range(count)
        ]
        for key, value in values.items():
            setattr(layer, key, value)
        return layer

    _node = _op_type = None  # what the model said, for layers that a parser made
    _loop = _conditional = None  # what the layer belongs to

    def _set(self, name, value):
        if self._node is not None:
            self._leave_node(f"the change of {name}")
        self._values[name] = value
        self._network._touch(self)

    def _leave_node(self, what):
        """From now on the attributes count, not the node of the model."""
        if not self._node.complete:
            raise unsupported(
                f"layer '{self.name}': {what} of a {self._node.op_type} that came from a model",
                "a model that is changed before it is parsed, or a layer added by hand",
            )
        self._node = None

    def _lower(self, low):
        """Adds the layer's nodes; returns the outputs' numbers."""
        raise unsupported(f"layer '{self.name}' of type {type(self).__name__}", "the layers listed in docs/tensorrt.md")

    def _operands(self):
        """The tensors that lowering reads."""
        return self._inputs if self._node is None else self._node.operands

    def _shape_operands(self):
        """Those whose values decide a shape."""
        from .shape_operands import shape_operands

        return shape_operands(self)

    @property
    def name(self):
        return self._name

    @name.setter
    def name(self, name):
        if not isinstance(name, str):
            raise argument_error(f"a layer's name must be a text, got {name!r}")
        self._name = name
        if self._node is None:  # a model's node keeps the model's name inside the engine
            self._network._touch(self)

    @property
    def type(self):
        return self._layer_type

    @property
    def metadata(self):
        return self._metadata

    @metadata.setter
    def metadata(self, text):
        self._metadata = str(text)

    @property
    def num_ranks(self):
        return self._ranks

    @num_ranks.setter
    def num_ranks(self, ranks):
        if ranks != 1:
            raise unsupported("ILayer.num_ranks other than 1", "one process per device")

    @property
    def num_inputs(self):
        return len(self._inputs)

    @property
    def num_outputs(self):
        return len(self._outputs)

    def get_input(self, index):
        return self._inputs[index] if 0 <= index < len(self._inputs) else None

    def get_output(self, index):
        return self._outputs[index] if 0 <= index < len(self._outputs) else None

    def set_input(self, index, tensor):
        if tensor is not None:
            self._network._check_tensor(tensor, f"layer '{self.name}': input {index}")
        if not isinstance(index, int) or not 0 <= index < 16:
            raise argument_error(f"layer '{self.name}': there is no input {index!r}")
        while len(self._inputs) <= index:
            self._inputs.append(None)
        before = self._inputs[index]
        self._inputs[index] = tensor
        if self._node is not None:
            operands = self._node.operands
            if before is not None and before in operands:
                operands[operands.index(before)] = tensor
            else:
                self._leave_node("a new input")
        self._network._touch(self)

    # Precision. Between floating-point types it is a permission: fp32 is always at least as exact.
    @property
    def precision(self):
        if self._precision is not None:
            return self._precision
        first = next((t for t in self._outputs if t is not None), None)
        return first.dtype if first is not None else DataType.FLOAT

    @precision.setter
    def precision(self, dtype):
        core_dtype(dtype, f"the precision of layer '{self.name}'")
        self._precision = dtype

    @property
    def precision_is_set(self):
        return self._precision is not None

    def reset_precision(self):
        self._precision = None

    def set_output_type(self, index, dtype):
        core_dtype(dtype, f"layer '{self.name}': the type of output {index}")
        self._check_output(index)
        self._types[index] = dtype
        self._network._touch(self)

    def get_output_type(self, index):
        self._check_output(index)
        return self._types.get(index) or self._outputs[index].dtype

    def output_type_is_set(self, index):
        self._check_output(index)
        return index in self._types

    def reset_output_type(self, index):
        self._check_output(index)
        self._outputs[index]._dtype = None
        if self._types.pop(index, None) is not None:
            self._network._touch(self)

    def _check_output(self, index):
        if not isinstance(index, int) or not 0 <= index < len(self._outputs):
            raise argument_error(f"layer '{self.name}' has {len(self._outputs)} outputs; there is no output {index!r}")

    def _lower_typed(self, low):
        """Lowers, and converts outputs to the types that were asked for. Between floating-point types nothing is
        converted inside the network: the engine's outputs are, when they are marked."""
        outputs = list(self._lower(low) if self._node is None else self._node.lower(self, low))
        for index, dtype in self._types.items():
            have = trt_dtype(low.dtype(outputs[index])) if outputs[index] is not None else None
            if outputs[index] is None or have == dtype or (have in FLOATS and dtype in FLOATS):
                continue
            outputs[index] = low.cast(outputs[index], core_dtype(dtype, "the output's type"))
        return outputs

    def _view(self):
        """What `get_layer` gives. A class whose `type` is not the LayerType (activations, pooling) is seen as ILayer
        until the caller assigns `layer.__class__`, as scripts for TensorRT do; both objects are the same layer."""
        if type(self).type is ILayer.type:
            return self
        view = object.__new__(ILayer)
        view.__dict__ = self.__dict__
        view._layer_type = self._layer_type
        return view

    def __dir__(self):
        """What belongs to the API: tools show all of it as the layer's attributes."""
        return [name for name in super().__dir__() if not name.startswith("_") or name.startswith("__")]

    def __eq__(self, other):
        return self.__dict__ is other.__dict__ if isinstance(other, ILayer) else NotImplemented

    def __hash__(self):
        return id(self.__dict__)

    def __repr__(self):
        return f"<tensorrt.{type(self).__name__} '{self._name}'>"


LAYER_CLASSES = {}


def layer_class(layer_type):
    """Registers a class for a LayerType."""

    def register(cls):
        cls._layer_type = getattr(LayerType, layer_type)
        LAYER_CLASSES[cls._layer_type] = cls
        return cls

    return register
