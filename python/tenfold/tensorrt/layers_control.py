"""Loops and conditions of networks made by hand: ILoop, IIfConditional and their layers.

The layers inside stand in the network's flat list among all others. For shapes they are lowered in place, as the loop's
first iteration or as both branches; nothing reads that, so the compiler drops it. A loop's outputs are then lowered as
one Loop of ONNX, with the layers that depend on recurrences and iterators in its body, and a condition's outputs as one If.
"""

import numpy as np

from ._core_access import _core
from .enums import LoopOutput, TripLimit, as_member
from .errors import argument_error, state_error, unsupported
from .layer import Attribute, ILayer, layer_class
from .lowering import Lowering
from .values import as_int


class Scope:
    """Where layers are lowered to: the network itself, or the body of a loop or branch, which sees outer values."""

    def __init__(self, core, ids, parent=None, captured=None):
        self.core, self.ids, self.parent = core, ids, parent
        self.captured = [] if captured is None else captured  # numbers in the parent's network
        self.nodes = {}  # what loops and conditions in this scope became

    def id_of(self, tensor):
        if tensor in self.ids:
            return self.ids[tensor]
        if self.parent is None:
            raise state_error(f"tensor '{tensor.name}' is no longer part of the network")
        outer = self.parent.id_of(tensor)
        if self.parent.core is self.core:
            return outer
        self.ids[tensor] = self.capture(outer)
        return self.ids[tensor]

    def capture(self, outer):
        array = self.parent.core.constant_value(outer)
        if array is not None:
            return self.core.add_constant(array)
        info = self.parent.core.value_info(outer)
        self.captured.append(outer)
        return self.core.add_input(f"outer{len(self.captured)}", info.dtype, list(info.shape))

    def lower(self, layers):
        for layer in layers:
            operands = [None if t is None else self.id_of(t) for t in layer._operands()]
            outputs = layer._lower_typed(Lowering(self.core, layer.name, operands, self))
            self.ids.update((t, number) for t, number in zip(layer._outputs, outputs) if t is not None)

    def mark(self, numbers):
        """Makes these the outputs of a block; each output is a value of its own."""
        low, seen = Lowering(self.core, "output", []), set()
        for index, number in enumerate(numbers):
            if number in seen or number in self.core.inputs or self.core.constant_value(number) is not None:
                number = low.op("Identity", [number])
            seen.add(number)
            self.core.mark_output(number, f"result{index}")


def _dependent(layers, sources, boundary):
    """The layers that depend on the tensors `sources`, in order."""
    varying, found = set(sources), []
    for layer in layers:
        if layer not in boundary and any(t in varying for t in layer._operands()):
            found.append(layer)
            varying.update(layer._outputs)
    return found


def _needed(layers, targets):
    """Of these layers, in order, those that `targets` are computed by."""
    wanted, found = set(targets), []
    for layer in reversed(layers):
        if any(t in wanted for t in layer._outputs):
            found.append(layer)
            wanted.update(layer._operands())
    return found[::-1]


# --- Loops ------------------------------------------------------------------------------------------------------------


class ILoop:
    def __init__(self):
        raise TypeError("a loop is made by INetworkDefinition.add_loop")

    @classmethod
    def _make(cls, network):
        loop = object.__new__(cls)
        loop._network, loop.name = network, ""
        loop._limits, loop._recurrences, loop._iterators, loop._outputs = [], [], [], []
        return loop

    def _new(self, layers, cls, inputs, num_outputs=None, **values):
        layer = self._network._new(cls, inputs, num_outputs)
        layer._values.update(values)
        layer._loop = self
        layers.append(layer)
        for output in self._outputs:  # what they became lacks the new layer
            self._network._touch(output)
        return layer

    def add_recurrence(self, initial_value):
        """A value that is carried from one iteration to the next; `set_input(1, tensor)` says what it becomes."""
        return self._new(self._recurrences, IRecurrenceLayer, [initial_value])

    def add_trip_limit(self, tensor, kind):
        kind = as_member(TripLimit, kind, "add_trip_limit: kind")
        if any(limit.kind is kind for limit in self._limits):
            raise argument_error(f"the loop has a trip limit of {kind!s} already")
        return self._new(self._limits, ITripLimitLayer, [tensor], kind=kind)

    def add_iterator(self, tensor, axis=0, reverse=False):
        """In each iteration the next slice of the tensor along the axis."""
        return self._new(self._iterators, IIteratorLayer, [tensor], axis=as_int(axis, "axis"), reverse=bool(reverse))

    def add_loop_output(self, tensor, kind, axis=0):
        return self._new(
            self._outputs,
            ILoopOutputLayer,
            [tensor],
            kind=as_member(LoopOutput, kind, "add_loop_output: kind"),
            axis=as_int(axis, "axis"),
        )

    def _boundary(self):
        return {*self._limits, *self._recurrences, *self._iterators, *self._outputs}

    def _limit(self, kind):
        return next((limit._inputs[0] for limit in self._limits if limit.kind is kind), None)


class ILoopBoundaryLayer(ILayer):
    @property
    def loop(self):
        return self._loop


@layer_class("TRIP_LIMIT")
class ITripLimitLayer(ILoopBoundaryLayer):
    _num_outputs = 0
    kind = property(lambda self: self._values["kind"])

    def _lower(self, low):
        return []


@layer_class("RECURRENCE")
class IRecurrenceLayer(ILoopBoundaryLayer):
    def _operands(self):
        return self._inputs[:1]  # the other input comes from later layers

    def _lower(self, low):
        return [low.op("Identity", [low.inputs[0]])]


@layer_class("ITERATOR")
class IIteratorLayer(ILoopBoundaryLayer):
    axis = Attribute(as_int, 0)
    reverse = Attribute(lambda value, what: bool(value), False)

    def _lower(self, low):
        return [self._slice(low, low.const(np.int64(-1 if self.reverse else 0)))]

    def _slice(self, low, index):
        return low.op("Gather", [low.inputs[0], index], axis=self.axis)


@layer_class("LOOP_OUTPUT")
class ILoopOutputLayer(ILoopBoundaryLayer):
    """LAST_VALUE: what a recurrence is after the loop. CONCATENATE, REVERSE: a tensor's values of all iterations."""

    axis = Attribute(as_int, 0)
    kind = property(lambda self: self._values.get("kind", LoopOutput.LAST_VALUE))

    def _operands(self):
        if self._loop is None:
            return super()._operands()
        loop = self._loop
        tensors = [self._inputs[0]]
        for layer in (*loop._limits, *loop._recurrences, *loop._iterators, *loop._outputs):
            tensors += layer._inputs
        return [t for t in dict.fromkeys(tensors) if t is not None]

    def _lower(self, low):
        if self._loop not in low.scope.nodes or not low.core.has_value(low.scope.nodes[self._loop][0]):
            low.scope.nodes[self._loop] = _lower_loop(self._loop, low)
        number = low.scope.nodes[self._loop][self._loop._outputs.index(self)]
        if self.kind is LoopOutput.LAST_VALUE:
            return [number]
        if self.kind is LoopOutput.REVERSE:
            number = low.op(
                "Slice", [number, low.ints([-1]), low.ints([np.iinfo(np.int64).min]), low.ints([0]), low.ints([-1])]
            )
        rank = low.rank(number)
        axis = low.axis(self.axis, rank)
        return [low.transpose(number, [*range(1, axis + 1), 0, *range(axis + 1, rank)])]


def _lower_loop(loop, low):
    """One number for each of the loop's outputs."""
    network, scope, name = loop._network, low.scope, loop.name or low.name
    count, condition = loop._limit(TripLimit.COUNT), loop._limit(TripLimit.WHILE)
    if count is None and condition is None:
        raise argument_error(f"loop '{name}' has no trip limit; add_trip_limit makes one")
    for layer in loop._recurrences:
        if len(layer._inputs) < 2 or layer._inputs[1] is None:
            raise argument_error(
                f"layer '{layer.name}': the recurrence has no next value; set_input(1, tensor) says what it becomes"
            )
    next_values = [layer._inputs[1] for layer in loop._recurrences]
    stacked = []  # tensors whose values of all iterations are wanted
    for layer in loop._outputs:
        if layer.kind is LoopOutput.LAST_VALUE:
            if layer._inputs[0]._layer not in loop._recurrences:
                raise unsupported(
                    f"layer '{layer.name}': LAST_VALUE of a tensor that is no recurrence",
                    "a recurrence that takes this tensor, and its LAST_VALUE",
                )
        elif layer._inputs[0] not in stacked:
            stacked.append(layer._inputs[0])

    varying = [layer._outputs[0] for layer in (*loop._recurrences, *loop._iterators)]
    inside = _dependent(network._order, varying, loop._boundary())
    inner = Scope(_core.Network(), {}, scope)
    body = Lowering(inner.core, name, [], inner)
    iteration = inner.core.add_input("iteration", "int64", ())
    going_on = inner.core.add_input("condition", "bool", ())
    for index, layer in enumerate(loop._recurrences):
        info = scope.core.value_info(scope.id_of(layer._inputs[0]))
        inner.ids[layer._outputs[0]] = inner.core.add_input(f"carried{index}", info.dtype, list(info.shape))
    for layer in loop._iterators:
        low_of_layer = Lowering(inner.core, layer.name, [inner.id_of(layer._inputs[0])], inner)
        index = iteration
        if layer.reverse:
            # Counted from the end: -1, -2 ...
            index = low_of_layer.op("Sub", [low_of_layer.const(np.int64(-1)), iteration])
        inner.ids[layer._outputs[0]] = layer._slice(low_of_layer, index)
    inner.lower(_needed(inside, [*next_values, *stacked]))
    following = [inner.id_of(t) for t in next_values]
    if condition is not None:
        # Whether there is a next iteration depends on what the recurrences will be then.
        after = Scope(
            inner.core, dict(zip((layer._outputs[0] for layer in loop._recurrences), following)), inner, inner.captured
        )
        deciding = _needed(inside, [condition])
        if any(t in {layer._outputs[0] for layer in loop._iterators} for layer in deciding for t in layer._operands()):
            raise unsupported(
                f"loop '{name}': a WHILE condition that depends on an iterator", "a recurrence that counts"
            )
        after.lower(deciding)
        going_on = body.reshape(after.id_of(condition), [])
    inner.mark([going_on, *following, *(inner.id_of(t) for t in stacked)])

    trip = None if count is None else low.reshape(low.cast(scope.id_of(count), "int64"), [])
    first = None if condition is None else low.reshape(scope.id_of(condition), [])
    operands = [-1 if n is None else n for n in (trip, first)] + [
        scope.id_of(layer._inputs[0]) for layer in loop._recurrences
    ]
    numbers = scope.core.add_node(
        "Loop",
        operands,
        None,
        len(loop._recurrences) + len(stacked),
        name,
        blocks={"body": inner.core},
        captured=inner.captured,
    )
    results = []
    for layer in loop._outputs:
        if layer.kind is LoopOutput.LAST_VALUE:
            results.append(numbers[loop._recurrences.index(layer._inputs[0]._layer)])
        else:
            results.append(numbers[len(loop._recurrences) + stacked.index(layer._inputs[0])])
    return results


# --- Conditions -------------------------------------------------------------------------------------------------------


class IIfConditional:
    def __init__(self):
        raise TypeError("a conditional is made by INetworkDefinition.add_if_conditional")

    @classmethod
    def _make(cls, network):
        conditional = object.__new__(cls)
        conditional._network, conditional.name = network, ""
        conditional._condition, conditional._inputs, conditional._outputs = None, [], []
        return conditional

    def _new(self, cls, inputs, num_outputs=None):
        layer = self._network._new(cls, inputs, num_outputs)
        layer._conditional = self
        for output in self._outputs:
            self._network._touch(output)
        return layer

    def set_condition(self, condition):
        """A boolean scalar decides between the branches."""
        if self._condition is not None:
            raise argument_error("the conditional has a condition already")
        self._condition = self._new(IConditionLayer, [condition])
        return self._condition

    def add_input(self, input):
        """A value for use inside the branches: layers that depend on it run only if their branch is taken."""
        layer = self._new(IIfConditionalInputLayer, [input])
        self._inputs.append(layer)
        return layer

    def add_output(self, true_subgraph_output, false_subgraph_output):
        layer = self._new(IIfConditionalOutputLayer, [true_subgraph_output, false_subgraph_output])
        self._outputs.append(layer)
        return layer


class IIfConditionalBoundaryLayer(ILayer):
    @property
    def conditional(self):
        return self._conditional


@layer_class("CONDITION")
class IConditionLayer(IIfConditionalBoundaryLayer):
    _num_outputs = 0

    def _lower(self, low):
        return []


@layer_class("CONDITIONAL_INPUT")
class IIfConditionalInputLayer(IIfConditionalBoundaryLayer):
    def _lower(self, low):
        return [low.op("Identity", [low.inputs[0]])]


@layer_class("CONDITIONAL_OUTPUT")
class IIfConditionalOutputLayer(IIfConditionalBoundaryLayer):
    def _operands(self):
        if self._conditional is None:
            return super()._operands()
        conditional = self._conditional
        tensors = [t for layer in (*conditional._outputs, *conditional._inputs) for t in layer._inputs]
        if conditional._condition is not None:
            tensors += conditional._condition._inputs
        return list(dict.fromkeys(tensors))

    def _lower(self, low):
        nodes, conditional = low.scope.nodes, self._conditional
        if conditional not in nodes or not low.core.has_value(nodes[conditional][0]):
            nodes[conditional] = _lower_conditional(conditional, low)
        return [nodes[conditional][conditional._outputs.index(self)]]


def _lower_conditional(conditional, low):
    network, scope, name = conditional._network, low.scope, conditional.name or low.name
    if conditional._condition is None:
        raise argument_error(f"conditional '{name}' has no condition; set_condition gives it one")
    boundary = {conditional._condition, *conditional._inputs, *conditional._outputs}
    inside = _dependent(network._order, [layer._outputs[0] for layer in conditional._inputs], boundary)

    def branch(position, shared):
        """`shared`: outer values that both branches take, in this order."""
        inner = Scope(_core.Network(), {}, scope)
        taken = {outer: inner.capture(outer) for outer in shared}
        for layer in conditional._inputs:
            outer = scope.id_of(layer._inputs[0])
            inner.ids[layer._outputs[0]] = taken[outer] if outer in taken else inner.capture(outer)
        for tensor in list(scope.ids):
            if scope.ids[tensor] in taken:
                inner.ids.setdefault(tensor, taken[scope.ids[tensor]])
        results = [layer._inputs[position] for layer in conditional._outputs]
        # What is computed in place for shapes only must be computed inside.
        for layer in inside:
            for tensor in layer._outputs:
                inner.ids.pop(tensor, None)
        inner.lower(_needed(inside, results))
        inner.mark([inner.id_of(t) for t in results])
        return inner

    shared = list(dict.fromkeys([*branch(0, []).captured, *branch(1, []).captured]))
    blocks = {"then_branch": branch(0, shared).core, "else_branch": branch(1, shared).core}
    decision = low.reshape(scope.id_of(conditional._condition._inputs[0]), [])
    return scope.core.add_node("If", [decision], None, len(conditional._outputs), name, blocks=blocks, captured=shared)
