"""Layers that compute element by element, along axes, or as products: activations, arithmetic, reductions, matrices."""

import numpy as np

from .enums import (
    ActivationType,
    CumulativeOperation,
    DataType,
    ElementWiseOperation,
    MatrixOperation,
    ReduceOperation,
    ScaleMode,
    TopKOperation,
    UnaryOperation,
)
from .errors import argument_error
from .layer import Attribute, ILayer, layer_class, member
from .layers_conv import _kept
from .values import Weights, as_int, core_dtype


def _number(value, what):
    number = float(value)
    if not np.isfinite(number):
        raise argument_error(f"{what} must be finite, got {value}")
    return number


# What alpha and beta are until they are set: ONNX's defaults for the same function.
_ACTIVATION_DEFAULTS = {
    ActivationType.LEAKY_RELU: (0.01, 0),
    ActivationType.ELU: (1, 0),
    ActivationType.SOFTPLUS: (1, 1),
    ActivationType.SELU: (1.67326319217681884765625, 1.05070102214813232421875),
    ActivationType.CLIP: (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)),
    ActivationType.HARD_SIGMOID: (0.2, 0.5),
    ActivationType.SCALED_TANH: (1, 1),
    ActivationType.THRESHOLDED_RELU: (1, 0),
}


@layer_class("ACTIVATION")
class IActivationLayer(ILayer):
    type = Attribute(member(ActivationType), ActivationType.RELU)  # hides ILayer.type, as in TensorRT

    def _parameter(name, position):
        def get(layer):
            default = _ACTIVATION_DEFAULTS.get(layer._values["type"], (0, 0))[position]
            return layer._values.get(name, default)

        return property(get, lambda layer, value: layer._set(name, _number(value, name)))

    alpha, beta = _parameter("alpha", 0), _parameter("beta", 1)
    del _parameter

    def _lower(self, low):
        x, kind, alpha, beta = low.inputs[0], self.type, self.alpha, self.beta

        def times(tensor, factor):
            return tensor if factor == 1 else low.op("Mul", [tensor, low.like(factor, x)])

        plain = {
            ActivationType.RELU: "Relu",
            ActivationType.SIGMOID: "Sigmoid",
            ActivationType.TANH: "Tanh",
            ActivationType.SOFTSIGN: "Softsign",
        }
        if kind in plain:
            return [low.op(plain[kind], [x])]
        with_alpha = {
            ActivationType.LEAKY_RELU: "LeakyRelu",
            ActivationType.ELU: "Elu",
            ActivationType.THRESHOLDED_RELU: "ThresholdedRelu",
        }
        if kind in with_alpha:
            return [low.op(with_alpha[kind], [x], alpha=alpha)]
        if kind is ActivationType.SELU:
            return [low.op("Selu", [x], alpha=alpha, gamma=beta)]
        if kind is ActivationType.HARD_SIGMOID:
            return [low.op("HardSigmoid", [x], alpha=alpha, beta=beta)]
        if kind is ActivationType.CLIP:
            return [low.op("Clip", [x, low.like(alpha, x), low.like(beta, x)])]
        if kind is ActivationType.SOFTPLUS:
            return [times(low.op("Softplus", [times(x, beta)]), alpha)]
        if kind is ActivationType.SCALED_TANH:
            return [times(low.op("Tanh", [times(x, beta)]), alpha)]
        return [low.op("Gelu", [x], approximate="tanh" if kind is ActivationType.GELU_TANH else "none")]


@layer_class("ELEMENTWISE")
class IElementWiseLayer(ILayer):
    op = Attribute(member(ElementWiseOperation), ElementWiseOperation.SUM)

    _NAMES = {
        "SUM": "Add",
        "PROD": "Mul",
        "MAX": "Max",
        "MIN": "Min",
        "SUB": "Sub",
        "DIV": "Div",
        "POW": "Pow",
        "AND": "And",
        "OR": "Or",
        "XOR": "Xor",
        "EQUAL": "Equal",
        "GREATER": "Greater",
        "LESS": "Less",
    }

    def _lower(self, low):
        a, b = low.inputs[:2]
        if self.op is not ElementWiseOperation.FLOOR_DIV:
            return [low.op(self._NAMES[self.op.name], [a, b])]
        if low.is_float(a):
            return [low.op("Floor", [low.op("Div", [a, b])])]
        # Integer division truncates; taking the remainder with the divisor's sign away first makes it exact.
        return [low.op("Div", [low.op("Sub", [a, low.op("Mod", [a, b])]), b])]


@layer_class("UNARY")
class IUnaryLayer(ILayer):
    op = Attribute(member(UnaryOperation), UnaryOperation.EXP)

    _NAMES = {"RECIP": "Reciprocal", "ISINF": "IsInf", "ISNAN": "IsNaN"}

    def _lower(self, low):
        return [low.op(self._NAMES.get(self.op.name, self.op.name.capitalize()), [low.inputs[0]])]


@layer_class("SCALE")
class IScaleLayer(ILayer):
    """(x * scale + shift) ** power, with one number, one per channel, or one per element."""

    mode = Attribute(member(ScaleMode), ScaleMode.UNIFORM)
    channel_axis = Attribute(as_int, 1)

    def _weights(name):
        def get(layer):
            return (layer._values.get(name) or Weights()).flat()

        return property(get, lambda layer, value: layer._set(name, _kept(value, name)))

    shift, scale, power = _weights("shift"), _weights("scale"), _weights("power")
    del _weights

    def _lower(self, low):
        x = low.inputs[0]
        dims = low.dims(x)
        if self.mode is ScaleMode.UNIFORM:
            shape = ()
        else:
            axis = low.axis(self.channel_axis, len(dims), "channel_axis")
            shape = [dims[axis]] + [1] * (len(dims) - axis - 1) if self.mode is ScaleMode.CHANNEL else dims[axis:]
            if any(d < 0 for d in shape):
                raise argument_error(f"layer '{self.name}': scaled axes must have known sizes, got {tuple(dims)}")
        for role, op_type in (("scale", "Mul"), ("shift", "Add"), ("power", "Pow")):
            weights = self._values.get(role)
            if weights is not None and weights.size:
                constant = low.like(weights, x, shape)
                x = low.op(op_type, [x, self._network._layer_weights(self, role, constant)])
        return [low.op("Identity", [x]) if x == low.inputs[0] else x]


@layer_class("LRN")
class ILRNLayer(ILayer):
    window_size, alpha = Attribute(as_int, 5), Attribute(_number, 1e-4)
    beta, k = Attribute(_number, 0.75), Attribute(_number, 1.0)

    def _lower(self, low):
        return [low.op("LRN", [low.inputs[0]], size=self.window_size, alpha=self.alpha, beta=self.beta, bias=self.k)]


def default_axis(rank):
    """The axis that softmax and concatenation take until one is set: channels of [.., C, H, W], else the first."""
    return max(0, rank - 3)


@layer_class("SOFTMAX")
class ISoftMaxLayer(ILayer):
    @property
    def axes(self):
        return self._values.get("axes", 1 << default_axis(len(self._inputs[0].shape)))

    @axes.setter
    def axes(self, value):
        self._set("axes", as_int(value, "axes"))

    def _lower(self, low):
        rank = low.rank(low.inputs[0])
        mask = self._values.get("axes", 1 << default_axis(rank))
        return [low.op("Softmax", [low.inputs[0]], axis=low.one_axis(mask, rank))]


@layer_class("RAGGED_SOFTMAX")
class IRaggedSoftMaxLayer(ILayer):
    """Softmax over the first `bounds` elements of each row; zero behind them."""

    def _lower(self, low):
        x, bounds = low.inputs[:2]
        length = low.op("Gather", [low.op("Shape", [x]), low.const(np.int64(-1))], axis=0)
        columns = low.op("Range", [low.const(np.int64(0)), length, low.const(np.int64(1))])
        inside = low.op("Less", [columns, low.cast(bounds, "int64")])
        masked = low.op("Where", [inside, x, low.like(-np.inf, x)])
        return [low.op("Where", [inside, low.op("Softmax", [masked], axis=-1), low.like(0, x)])]


@layer_class("REDUCE")
class IReduceLayer(ILayer):
    op = Attribute(member(ReduceOperation), ReduceOperation.SUM)
    axes = Attribute(as_int, 0)
    keep_dims = Attribute(lambda value, what: bool(value), False)

    def _lower(self, low):
        x = low.inputs[0]
        if self.op is ReduceOperation.NONE:
            raise argument_error(f"layer '{self.name}': ReduceOperation.NONE reduces nothing")
        axes = low.axes_of_mask(self.axes, low.rank(x))
        if not axes:
            raise argument_error(f"layer '{self.name}': axes is a mask of the axes to reduce; it names none")
        name = {"AVG": "Mean"}.get(self.op.name, self.op.name.capitalize())
        return [low.op("Reduce" + name, [x, low.ints(axes)], keepdims=int(self.keep_dims))]


@layer_class("TOPK")
class ITopKLayer(ILayer):
    """The k largest or smallest along one axis, and where they stand. Input 1, if set, gives k."""

    _num_outputs = 2
    op = Attribute(member(TopKOperation), TopKOperation.MAX)
    k, axes = Attribute(as_int, 1), Attribute(as_int, 0)
    indices_type = Attribute(member(DataType), DataType.INT32)

    def _lower(self, low):
        x = low.inputs[0]
        k = low.ints([self.k])
        if len(low.inputs) > 1 and low.inputs[1] is not None:
            k = low.reshape(low.cast(low.inputs[1], "int64"), [1])
        values, indices = low.op(
            "TopK",
            [x, k],
            2,
            axis=low.one_axis(self.axes, low.rank(x)),
            largest=int(self.op is TopKOperation.MAX),
            sorted=1,
        )
        return [values, low.cast(indices, core_dtype(self.indices_type, "indices_type"))]


@layer_class("MATRIX_MULTIPLY")
class IMatrixMultiplyLayer(ILayer):
    op0 = Attribute(member(MatrixOperation), MatrixOperation.NONE)
    op1 = Attribute(member(MatrixOperation), MatrixOperation.NONE)

    def _lower(self, low):
        a = self._operand_of(low, low.inputs[0], self.op0, vector_axis=-2)
        b = self._operand_of(low, low.inputs[1], self.op1, vector_axis=-1)
        product = low.op("MatMul", [a, b])
        drop = []
        if self.op0 is MatrixOperation.VECTOR:
            drop.append(-2)
        if self.op1 is MatrixOperation.VECTOR:
            drop.append(-1)
        return [low.op("Squeeze", [product, low.ints(drop)]) if drop else product]

    def _operand_of(self, low, tensor, op, vector_axis):
        rank = low.rank(tensor)
        if op is MatrixOperation.TRANSPOSE:
            if rank < 2:
                raise argument_error(f"layer '{self.name}': TRANSPOSE needs a matrix, got an operand of rank {rank}")
            return low.transpose(tensor, [*range(rank - 2), rank - 1, rank - 2])
        if op is MatrixOperation.VECTOR:
            return low.op("Unsqueeze", [tensor, low.ints([vector_axis])])
        return tensor


@layer_class("EINSUM")
class IEinsumLayer(ILayer):
    equation = Attribute(lambda value, what: str(value), "")

    def _lower(self, low):
        return [low.op("Einsum", low.inputs, equation=self.equation)]


@layer_class("PARAMETRIC_RELU")
class IParametricReLULayer(ILayer):
    def _lower(self, low):
        return [low.op("PRelu", low.inputs[:2])]


@layer_class("CUMULATIVE")
class ICumulativeLayer(ILayer):
    op = Attribute(member(CumulativeOperation), CumulativeOperation.SUM)
    exclusive = Attribute(lambda value, what: bool(value), False)
    reverse = Attribute(lambda value, what: bool(value), False)

    def _lower(self, low):
        axis = low.reshape(low.inputs[1], []) if low.rank(low.inputs[1]) else low.inputs[1]
        return [low.op("CumSum", [low.inputs[0], axis], exclusive=int(self.exclusive), reverse=int(self.reverse))]


@layer_class("NORMALIZATION")
class INormalizationLayer(ILayer):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the axes of the mask, or within groups of channels."""

    epsilon = Attribute(_number, 1e-5)
    axes = Attribute(as_int, 0)
    num_groups = Attribute(as_int, 1)
    compute_precision = Attribute(member(DataType), DataType.FLOAT)
    is_v2 = property(lambda self: bool(self._values.get("v2")))

    def _lower(self, low):
        x, scale, bias = low.inputs[:3]
        rank = low.rank(x)
        axes = low.axes_of_mask(self.axes, rank)
        if not axes:
            raise argument_error(f"layer '{self.name}': axes is a mask of the axes to normalise over; it names none")
        groups = self.num_groups
        shape = low.op("Shape", [x])
        inner, inner_axes = x, axes
        if groups > 1:
            # Axis 1 divides into groups; the mask of a group normalisation has the axes behind the channels.
            channels = low.dims(x)[1] if rank > 1 else -1
            if channels < 0 or channels % groups:
                raise argument_error(f"layer '{self.name}': {channels} channels do not divide into {groups} groups")
            inner, inner_axes = low.op("Reshape", [x, low.ints([0, groups, -1])]), [2]
        mean = low.op("ReduceMean", [inner, low.ints(inner_axes)], keepdims=1)
        centred = low.op("Sub", [inner, mean])
        variance = low.op("ReduceMean", [low.op("Mul", [centred, centred]), low.ints(inner_axes)], keepdims=1)
        deviation = low.op("Sqrt", [low.op("Add", [variance, low.like(self.epsilon, x)])])
        normal = low.op("Div", [centred, deviation])
        if groups > 1:
            normal = low.op("Reshape", [normal, shape])
        return [low.op("Add", [low.op("Mul", [normal, self._spread(low, scale, x)]), self._spread(low, bias, x)])]

    def _spread(self, low, tensor, x):
        """Scale and bias per group, [1, G, 1..], become per channel."""
        have, want = low.dims(tensor), low.dims(x)
        groups = self.num_groups
        if groups > 1 and len(have) == len(want) and have[1] == groups != want[1]:
            repeated = low.op("Expand", [low.reshape(tensor, [1, groups, 1]), low.ints([1, groups, want[1] // groups])])
            return low.reshape(repeated, [1, want[1]] + [1] * (len(want) - 2))
        return tensor
