"""INetworkDefinition: a network under construction, by hand or by the parser."""

import numpy as np

from . import network_layers, version
from ._core_access import _core
from .enums import DataType, LayerType, NetworkDefinitionCreationFlag, as_member
from .errors import Error, argument_error, state_error, unsupported
from .interfaces import Reporter, Scoped
from .layer import ILayer
from .layers_control import Scope
from .lowering import Lowering
from .tensor import ITensor
from .values import as_dims, core_dtype


def strongly_typed_bit():
    return 0 if version.MAJOR >= 11 else NetworkDefinitionCreationFlag.STRONGLY_TYPED.value


class INetworkDefinition(network_layers.LayerAdders, Reporter, Scoped):
    """Made by Builder.create_network. Holds its builder, so it works on when the caller drops the builder."""

    def __init__(self):
        raise TypeError("a network is made by Builder.create_network")

    @classmethod
    def _make(cls, builder, flags):
        network = object.__new__(cls)
        network._builder, network._logger = builder, builder.logger
        network._flags = flags
        network.name = "Unnamed Network 0"
        network._inputs, network._layers, network._outputs = [], [], []
        network._shape_outputs, network._debug = [], []
        network._mark_unfused = False
        network._weights_names = {}  # (layer, role) -> name given by set_weights_name
        network._refit_marks = set()
        network._forget()
        return network

    # --- The compiler's network -------------------------------------------------------------------------------------
    # `_core` holds the nodes of the first `_clean` layers of `_order`; `_ends[i]` is how many nodes the first i layers
    # have. `_ids` gives a tensor's number there.

    def _forget(self):
        self._core = None
        self._order, self._ids, self._ends, self._clean = [], {}, [0], 0
        self._weights = {}  # (layer, role) -> number of the constant
        self._scope = None

    def _touch(self, layer):
        """`layer` changed (None: the inputs did): what was inferred from it on is out of date."""
        if self._core is None:
            return
        if layer is None:
            self._forget()
            return
        for position in range(self._clean):
            if self._order[position] == layer:
                self._rewind(position)
                return

    def _rewind(self, position):
        self._core.truncate(self._ends[position])
        for layer in self._order[position : self._clean]:
            for tensor in layer._outputs:
                self._ids.pop(tensor, None)
            for key in [key for key in self._weights if key[0] == layer]:
                del self._weights[key]
        del self._ends[position + 1 :]
        self._clean = position

    def _sync(self):
        """Brings the compiler's network up to date. Raises the error of the first layer whose operands do not fit."""
        if self._core is not None and self._clean == len(self._layers):
            return
        if self._core is None:
            self._start()
        if self._scope is None:
            self._scope = Scope(self._core, self._ids)
        order = self._sorted_layers()
        if order[: self._clean] != self._order[: self._clean]:
            self._rewind(0)
        self._order = order
        for layer in order[self._clean :]:
            before = self._core.num_nodes
            try:
                operands = [None if t is None else self._operand(t) for t in layer._operands()]
                outputs = layer._lower_typed(Lowering(self._core, layer.name, operands, self._scope))
            except BaseException as error:
                self._core.truncate(before)
                if isinstance(error, Error) and f"'{layer.name}'" not in str(error):
                    error.args = (f"tensorrt: layer '{layer.name}' ({layer._layer_type.name}): {error}",)
                raise
            for tensor, number in zip(layer._outputs, outputs):
                if tensor is not None and number is not None and number >= 0:
                    self._ids[tensor] = number
            self._ends.append(self._core.num_nodes)
            self._clean += 1

    def _start(self):
        self._forget()
        self._core = _core.Network()
        for tensor in self._inputs:
            dims = [
                dim if dim >= 0 else tensor._dim_names.get(i, f"{tensor.name}#{i}")
                for i, dim in enumerate(tensor._input_shape)
            ]
            number = self._core.add_input(tensor.name, core_dtype(tensor._input_dtype, f"input '{tensor.name}'"), dims)
            if tensor._model_dtype is not None and tensor._model_dtype != tensor._input_dtype:
                number = Lowering(self._core, f"{tensor.name}/Cast", []).cast(
                    number, core_dtype(tensor._model_dtype, "input")
                )
            self._ids[tensor] = number
        self._ends = [self._core.num_nodes]

    def _sorted_layers(self):
        """The layers so that each comes after what it reads; their own order where it does."""
        done, order = set(), []
        for start in self._layers:
            stack = [(start, iter(start._operands()))] if start not in done else []
            open_layers = {start}
            while stack:
                layer, operands = stack[-1]
                for tensor in operands:
                    producer = tensor._layer if tensor is not None else None
                    if producer is None or producer in done:
                        continue
                    if producer in open_layers:
                        raise argument_error(
                            f"layer '{layer.name}' reads '{tensor.name}', which depends on the layer itself"
                        )
                    open_layers.add(producer)
                    stack.append((producer, iter(producer._operands())))
                    break
                else:
                    stack.pop()
                    done.add(layer)
                    order.append(layer)
        return order

    def _operand(self, tensor):
        if tensor not in self._ids and tensor._array is not None:
            self._ids[tensor] = self._core.add_constant(tensor._array, tensor.name)
        if tensor not in self._ids:
            raise state_error(f"tensor '{tensor.name}' is no longer part of the network")
        return self._ids[tensor]

    def _constant_of(self, tensor):
        """The array of a tensor that is constant; None for others."""
        if tensor._array is not None:
            return tensor._array
        return self._core.constant_value(self._ids[tensor])

    def _number(self, tensor):
        self._sync()
        if tensor not in self._ids:
            raise state_error(f"tensor '{tensor.name}' is no longer part of the network")
        return self._ids[tensor]

    def _info(self, tensor):
        return self._core_info(self._number(tensor))

    def _core_info(self, number):
        return self._core.value_info(number)

    def _layer_weights(self, layer, role, number):
        """Called by layers that are being lowered, with the constant that holds their weights. A layer in the body of a
        loop is lowered twice; the first time is in place."""
        self._weights.setdefault((layer, role), number)
        return number

    # --- Inputs and outputs -----------------------------------------------------------------------------------------

    def add_input(self, name, dtype, shape):
        if not isinstance(name, str) or not name:
            raise argument_error(f"add_input: the name must be a text that is not empty, got {name!r}")
        if any(tensor.name == name for tensor in self._inputs):
            raise argument_error(f"add_input: there is an input '{name}' already")
        dtype = as_member(DataType, dtype, "add_input: dtype")
        core_dtype(dtype, f"input '{name}'")
        dims = as_dims(shape, f"the shape of input '{name}'")
        if any(dim < -1 for dim in dims):
            raise argument_error(f"input '{name}': dimensions are sizes, or -1 for those decided later, got {dims}")
        tensor = ITensor._make(self, name)
        tensor._input_dtype, tensor._input_shape = dtype, dims
        self._inputs.append(tensor)
        self._touch(None)
        return tensor

    def _set_input_shape(self, tensor, dims):
        tensor._input_shape = dims
        self._touch(None)

    def _set_input_dtype(self, tensor, dtype):
        """The engine takes another type than the layers were made for, and converts."""
        if tensor._model_dtype is None:
            tensor._model_dtype = tensor._input_dtype
        tensor._input_dtype = dtype
        self._touch(None)

    def _check_tensor(self, tensor, what):
        if not isinstance(tensor, ITensor):
            raise argument_error(f"{what} must be a tensorrt.ITensor, got {type(tensor).__name__}")
        if tensor._network is not self:
            raise argument_error(f"{what}: tensor '{tensor.name}' belongs to another network")
        return tensor

    def mark_output(self, tensor):
        self._check_tensor(tensor, "mark_output")
        if tensor not in self._outputs:
            self._outputs.append(tensor)

    def unmark_output(self, tensor):
        self._check_tensor(tensor, "unmark_output")
        if tensor in self._outputs:
            self._outputs.remove(tensor)

    def _is_output(self, tensor):
        return tensor in self._outputs

    def mark_output_for_shapes(self, tensor):
        """An output that is read on the host: on this device every output is."""
        self.mark_output(tensor)
        self._shape_outputs.append(tensor)
        return True

    def unmark_output_for_shapes(self, tensor):
        self.unmark_output(tensor)
        if tensor in self._shape_outputs:
            self._shape_outputs.remove(tensor)
        return True

    def remove_tensor(self, tensor):
        """Takes an input that no layer reads, or an output's mark, out of the network."""
        self._check_tensor(tensor, "remove_tensor")
        readers = [layer.name for layer in self._layers if tensor in layer._operands()]
        if readers:
            raise argument_error(f"remove_tensor: '{tensor.name}' is read by layer '{readers[0]}'")
        self.unmark_output(tensor)
        if tensor in self._inputs:
            self._inputs.remove(tensor)
            self._touch(None)

    def mark_debug(self, tensor):
        self._check_tensor(tensor, "mark_debug")
        if tensor not in self._debug:
            self._debug.append(tensor)
        return True

    def unmark_debug(self, tensor):
        self._check_tensor(tensor, "unmark_debug")
        if tensor in self._debug:
            self._debug.remove(tensor)
        return True

    def is_debug_tensor(self, tensor):
        return tensor in self._debug

    def mark_unfused_tensors_as_debug_tensors(self):
        """Every value that the engine keeps becomes a debug tensor; fusions stay as they are."""
        self._mark_unfused = True
        return True

    def unmark_unfused_tensors_as_debug_tensors(self):
        self._mark_unfused = False
        return True

    def _is_shape_tensor(self, tensor):
        """Integer tensors of rank 0 or 1 whose elements the compiler knows as expressions over sizes, or that decide a
        shape."""
        if tensor.dtype not in (DataType.INT32, DataType.INT64) or len(tensor.shape) > 1:
            return False
        number = self._number(tensor)
        if tensor.is_network_input:
            return any(tensor in layer._shape_operands() for layer in self._layers)
        return self._core.known_elements(number) is not None

    # --- Enumeration ------------------------------------------------------------------------------------------------
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    num_layers = property(lambda self: len(self._layers))
    has_implicit_batch_dimension = False
    has_explicit_precision = False
    builder = property(lambda self: self._builder)
    flags = property(lambda self: self._flags)

    def get_flag(self, flag):
        flag = as_member(NetworkDefinitionCreationFlag, flag, "get_flag")
        if flag is NetworkDefinitionCreationFlag.STRONGLY_TYPED:
            return bool(self._flags >> strongly_typed_bit() & 1)
        if flag is NetworkDefinitionCreationFlag.EXPLICIT_BATCH:
            return True
        return bool(self._flags >> flag.value & 1)

    @staticmethod
    def _at(items, index, what):
        if not isinstance(index, (int, np.integer)) or not -len(items) <= index < len(items):
            raise IndexError(f"the network has {len(items)} {what}; there is none with index {index!r}")
        return items[index]

    def get_input(self, index):
        return self._at(self._inputs, index, "inputs")

    def get_output(self, index):
        return self._at(self._outputs, index, "outputs")

    def get_layer(self, index):
        return self._at(self._layers, index, "layers")._view()

    def __len__(self):
        return len(self._layers)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [layer._view() for layer in self._layers[index]]
        return self.get_layer(index)

    def __iter__(self):
        return iter([layer._view() for layer in self._layers])

    def __bool__(self):
        return True

    # --- Weights that a refit may change --------------------------------------------------------------------------

    def set_weights_name(self, weights, name):
        """Names the weights of a layer of this network, which is found by the array it was made with."""
        from .values import Weights

        array = weights.numpy() if isinstance(weights, Weights) else np.asarray(weights)
        for layer in self._layers:
            for role in ("kernel", "bias", "scale", "shift", "power", "weights"):
                kept = layer._values.get(role)
                if isinstance(kept, Weights) and kept.size and np.shares_memory(kept.numpy(), array):
                    self._weights_names[layer, "constant" if role == "weights" else role] = str(name)
                    return True
        return False

    def mark_weights_refittable(self, name):
        self._refit_marks.add(str(name))
        return True

    def unmark_weights_refittable(self, name):
        self._refit_marks.discard(str(name))
        return True

    def are_weights_marked_refittable(self, name):
        return name in self._refit_marks

    def _add(self, layer):
        self._layers.append(layer)
        return layer

    def _layer_name(self, layer_type):
        """TensorRT's names for layers without one: "(Unnamed Layer* 3) [Convolution]"."""
        words = "".join(word.capitalize() for word in LayerType(layer_type).name.split("_"))
        return f"(Unnamed Layer* {len(self._layers)}) [{words}]"


__all__ = ["INetworkDefinition", "ILayer", "unsupported"]
