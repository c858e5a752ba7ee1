"""A model that the compiler has read, as layers: each node of the model becomes the layer that TensorRT would make of it.

The attributes of the usual layers are filled from the node. A layer that is changed goes through its own lowering from
then on if its attributes say all that the node says (`_complete`); otherwise the change is refused with a reason.
"""

import numpy as np

from .enums import (
    ActivationType,
    DataType,
    ElementWiseOperation,
    GatherMode,
    InterpolationMode,
    LayerType,
    MatrixOperation,
    PaddingMode,
    PoolingType,
    ReduceOperation,
    ScatterMode,
    TopKOperation,
    UnaryOperation,
)
from .errors import unsupported
from .layer import LAYER_CLASSES
from .tensor import ITensor
from .values import Dims, Permutation, Weights, trt_dtype

_UNARY = {
    "Exp": "EXP",
    "Log": "LOG",
    "Sqrt": "SQRT",
    "Reciprocal": "RECIP",
    "Abs": "ABS",
    "Neg": "NEG",
    "Sin": "SIN",
    "Cos": "COS",
    "Tan": "TAN",
    "Sinh": "SINH",
    "Cosh": "COSH",
    "Asin": "ASIN",
    "Acos": "ACOS",
    "Atan": "ATAN",
    "Asinh": "ASINH",
    "Acosh": "ACOSH",
    "Atanh": "ATANH",
    "Ceil": "CEIL",
    "Floor": "FLOOR",
    "Erf": "ERF",
    "Not": "NOT",
    "Sign": "SIGN",
    "Round": "ROUND",
    "IsInf": "ISINF",
    "IsNaN": "ISNAN",
}
_BINARY = {
    "Add": "SUM",
    "Mul": "PROD",
    "Max": "MAX",
    "Min": "MIN",
    "Sub": "SUB",
    "Div": "DIV",
    "Pow": "POW",
    "And": "AND",
    "Or": "OR",
    "Xor": "XOR",
    "Equal": "EQUAL",
    "Greater": "GREATER",
    "Less": "LESS",
}
_ACTIVATION = {
    "Relu": "RELU",
    "Sigmoid": "SIGMOID",
    "Tanh": "TANH",
    "LeakyRelu": "LEAKY_RELU",
    "Elu": "ELU",
    "Selu": "SELU",
    "Softsign": "SOFTSIGN",
    "Softplus": "SOFTPLUS",
    "Clip": "CLIP",
    "HardSigmoid": "HARD_SIGMOID",
    "ThresholdedRelu": "THRESHOLDED_RELU",
    "Gelu": "GELU_ERF",
}
_REDUCE = {"ReduceSum": "SUM", "ReduceProd": "PROD", "ReduceMax": "MAX", "ReduceMin": "MIN", "ReduceMean": "AVG"}
# Operators whose layer type is what it says, and nothing else is known about them.
_TYPES = {
    "Conv": "CONVOLUTION",
    "ConvTranspose": "DECONVOLUTION",
    "MaxPool": "POOLING",
    "AveragePool": "POOLING",
    "LpPool": "POOLING",
    "GlobalAveragePool": "REDUCE",
    "GlobalMaxPool": "REDUCE",
    "BatchNormalization": "SCALE",
    "LRN": "LRN",
    "Softmax": "SOFTMAX",
    "LogSoftmax": "SOFTMAX",
    "Concat": "CONCATENATION",
    "Reshape": "SHUFFLE",
    "Transpose": "SHUFFLE",
    "Flatten": "SHUFFLE",
    "DepthToSpace": "SHUFFLE",
    "SpaceToDepth": "SHUFFLE",
    "Squeeze": "SQUEEZE",
    "Unsqueeze": "UNSQUEEZE",
    "Slice": "SLICE",
    "Split": "SLICE",
    "Pad": "SLICE",
    "Tile": "SLICE",
    "Expand": "SLICE",
    "Gather": "GATHER",
    "GatherElements": "GATHER",
    "GatherND": "GATHER",
    "MatMul": "MATRIX_MULTIPLY",
    "Gemm": "MATRIX_MULTIPLY",
    "Einsum": "EINSUM",
    "TopK": "TOPK",
    "ArgMax": "TOPK",
    "ArgMin": "TOPK",
    "Constant": "CONSTANT",
    "ConstantOfShape": "FILL",
    "Range": "FILL",
    "RandomUniform": "FILL",
    "Identity": "IDENTITY",
    "Dropout": "IDENTITY",
    "Cast": "CAST",
    "CastLike": "CAST",
    "Shape": "SHAPE",
    "Size": "SHAPE",
    "PRelu": "PARAMETRIC_RELU",
    "Resize": "RESIZE",
    "Upsample": "RESIZE",
    "Where": "SELECT",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "GridSample": "GRID_SAMPLE",
    "NonMaxSuppression": "NMS",
    "OneHot": "ONE_HOT",
    "NonZero": "NON_ZERO",
    "ReverseSequence": "REVERSE_SEQUENCE",
    "ScatterElements": "SCATTER",
    "Scatter": "SCATTER",
    "ScatterND": "SCATTER",
    "LayerNormalization": "NORMALIZATION",
    "GroupNormalization": "NORMALIZATION",
    "InstanceNormalization": "NORMALIZATION",
    "RMSNormalization": "NORMALIZATION",
    "MeanVarianceNormalization": "NORMALIZATION",
    "CumSum": "CUMULATIVE",
    "Attention": "ATTENTION_OUTPUT",
    "RotaryEmbedding": "ROTARY_EMBEDDING",
    "DynamicQuantizeLinear": "DYNAMIC_QUANTIZE",
    "If": "CONDITIONAL_OUTPUT",
    "Loop": "LOOP_OUTPUT",
    "Scan": "LOOP_OUTPUT",
    "LSTM": "LOOP_OUTPUT",
    "GRU": "LOOP_OUTPUT",
    "RNN": "LOOP_OUTPUT",
    "Sum": "ELEMENTWISE",
    "Mean": "ELEMENTWISE",
    "Mod": "ELEMENTWISE",
    "GreaterOrEqual": "ELEMENTWISE",
    "LessOrEqual": "ELEMENTWISE",
    "HardSwish": "ACTIVATION",
    "Celu": "ACTIVATION",
    "Mish": "ACTIVATION",
    "Swish": "ACTIVATION",
    "Shrink": "ACTIVATION",
    "ReduceL1": "REDUCE",
    "ReduceL2": "REDUCE",
    "ReduceLogSum": "REDUCE",
    "ReduceLogSumExp": "REDUCE",
    "ReduceSumSquare": "REDUCE",
    "LpNormalization": "NORMALIZATION",
    **dict.fromkeys(_UNARY, "UNARY"),
    **dict.fromkeys(_BINARY, "ELEMENTWISE"),
    **dict.fromkeys(_ACTIVATION, "ACTIVATION"),
    **dict.fromkeys(_REDUCE, "REDUCE"),
}
# Inputs from here on are weights of the layer when they are constants, not layers of their own.
_FIRST_WEIGHT = {"Conv": 1, "ConvTranspose": 1, "BatchNormalization": 1, "LSTM": 1, "GRU": 1, "RNN": 1}


def layer_type_of(op_type):
    """An operator that TensorRT has no layer for is shown as a plug-in, as it would need one there."""
    return LayerType[_TYPES.get(op_type, "PLUGIN_V3")]


class Reading:
    """One node of the model while its layer's attributes are filled."""

    def __init__(self, network, node, operands):
        self.network, self.node, self.attributes = network, node, node.attributes
        self.operands = operands

    def rank(self, index=0):
        return len(self.operands[index].shape)

    def constant(self, index):
        """The array of input `index` if the model has it as a constant."""
        if len(self.operands) <= index or self.operands[index] is None:
            return None
        return self.network._constant_of(self.operands[index])

    def pads(self, n):
        pads = self.attributes.get("pads", [0] * (2 * n))
        auto = self.attributes.get("auto_pad", "NOTSET")
        mode = {"SAME_UPPER": PaddingMode.SAME_UPPER, "SAME_LOWER": PaddingMode.SAME_LOWER}.get(auto)
        return pads[:n], pads[n:], mode or PaddingMode.EXPLICIT_ROUND_DOWN

    def axis(self, default):
        return self.attributes.get("axis", default) % max(self.rank(), 1)


# Each returns (attributes, complete): complete if they say everything that the node says.
def _conv(r):
    kernel, bias = r.constant(1), r.constant(2)
    shape = list(kernel.shape) if kernel is not None else list(r.operands[1].shape)
    n = len(shape) - 2
    groups = r.attributes.get("group", 1)
    begin, end, mode = r.pads(n)
    maps = shape[0] if r.node.op_type == "Conv" else shape[1] * groups
    values = dict(
        num_output_maps=maps,
        kernel_size_nd=Dims(shape[2:]),
        stride_nd=Dims(r.attributes.get("strides", [1] * n)),
        dilation_nd=Dims(r.attributes.get("dilations", [1] * n)),
        num_groups=groups,
        pre_padding=Dims(begin),
        post_padding=Dims(end),
        padding_mode=mode,
        kernel=Weights() if kernel is None else Weights(kernel),
        bias=Weights() if bias is None else Weights(bias),
    )
    return values, not {"output_shape", "output_padding"} & set(r.attributes)


def _pool(r):
    window = r.attributes["kernel_shape"]
    n = len(window)
    begin, end, mode = r.pads(n)
    if r.attributes.get("ceil_mode", 0):
        mode = PaddingMode.EXPLICIT_ROUND_UP
    values = dict(
        type=PoolingType.MAX if r.node.op_type == "MaxPool" else PoolingType.AVERAGE,
        window_size_nd=Dims(window),
        stride_nd=Dims(r.attributes.get("strides", [1] * n)),
        pre_padding=Dims(begin),
        post_padding=Dims(end),
        padding_mode=mode,
        average_count_excludes_padding=not r.attributes.get("count_include_pad", 0),
    )
    plain = (
        len(r.node.outputs) == 1
        and all(d == 1 for d in r.attributes.get("dilations", [1]))
        and r.node.op_type != "LpPool"
    )
    return values, plain


def _activation(r):
    kind = ActivationType[_ACTIVATION.get(r.node.op_type, "RELU")]
    values = {"type": kind}
    if kind is ActivationType.GELU_ERF and r.attributes.get("approximate") == "tanh":
        values["type"] = ActivationType.GELU_TANH
    for name, attribute in (("alpha", "alpha"), ("beta", "beta"), ("beta", "gamma")):
        if attribute in r.attributes:
            values[name] = r.attributes[attribute]
    if kind is ActivationType.CLIP:
        for index, name, attribute in ((1, "alpha", "min"), (2, "beta", "max")):
            bound = r.constant(index)
            if bound is not None and bound.size == 1:
                values[name] = float(bound.reshape(-1)[0])
            elif attribute in r.attributes:
                values[name] = r.attributes[attribute]
    return values, r.node.op_type in _ACTIVATION and (kind is not ActivationType.CLIP or len(r.operands) == 1)


def _softmax(r):
    # Before opset 13 the input was flattened at the axis; that is the same only for the last axis.
    default = -1 if r.node.opset >= 13 else 1
    axis = r.axis(default)
    same = r.node.opset >= 13 or axis == r.rank() - 1
    return {"axes": 1 << axis}, same and r.node.op_type == "Softmax"


def _reduce(r):
    op = ReduceOperation[
        _REDUCE.get(r.node.op_type, {"GlobalAveragePool": "AVG", "GlobalMaxPool": "MAX"}.get(r.node.op_type, "SUM"))
    ]
    rank = r.rank()
    if r.node.op_type.startswith("Global"):
        axes = list(range(2, rank))
    else:
        axes = r.attributes.get("axes")
        if axes is None and r.constant(1) is not None:
            axes = r.constant(1).reshape(-1).tolist()
        if not axes:
            axes = list(range(rank)) if not r.attributes.get("noop_with_empty_axes", 0) else []
    mask = sum(1 << (int(a) % rank) for a in axes) if rank else 0
    known = r.node.op_type in _REDUCE and (len(r.operands) == 1 or r.constant(1) is not None) and mask
    return dict(op=op, axes=mask, keep_dims=bool(r.attributes.get("keepdims", 1))), bool(known)


def _elementwise(r):
    return {"op": ElementWiseOperation[_BINARY.get(r.node.op_type, "SUM")]}, r.node.op_type in _BINARY and len(
        r.operands
    ) == 2


def _matmul(r):
    def op(transposed, index):
        if r.rank(index) == 1:
            return MatrixOperation.VECTOR
        return MatrixOperation.TRANSPOSE if r.attributes.get(transposed, 0) else MatrixOperation.NONE

    return dict(op0=op("transA", 0), op1=op("transB", 1)), r.node.op_type == "MatMul"


def _shuffle(r):
    if r.node.op_type == "Transpose":
        return {"first_transpose": Permutation(r.attributes.get("perm", range(r.rank())[::-1]))}, True
    shape = r.constant(1) if r.node.op_type == "Reshape" else None
    if shape is not None:
        return (
            dict(
                reshape_dims=Dims(shape.reshape(-1).tolist()), zero_is_placeholder=not r.attributes.get("allowzero", 0)
            ),
            True,
        )
    return {"reshape_dims": Dims(r.network._core.value_info(r.node.outputs[0]).dims)}, False


def _gather(r):
    mode = {"Gather": GatherMode.DEFAULT, "GatherElements": GatherMode.ELEMENT}.get(r.node.op_type, GatherMode.ND)
    return dict(axis=r.axis(0), mode=mode, num_elementwise_dims=r.attributes.get("batch_dims", 0)), True


def _scale(r):
    parts = [r.constant(i) for i in range(1, 5)]
    if any(part is None for part in parts):
        return {}, False
    gamma, beta, mean, variance = (part.astype(np.float64) for part in parts)
    scale = gamma / np.sqrt(variance + r.attributes.get("epsilon", 1e-5))
    from .enums import ScaleMode

    return (
        dict(
            mode=ScaleMode.CHANNEL,
            channel_axis=1,
            scale=Weights(scale.astype(np.float32)),
            shift=Weights((beta - mean * scale).astype(np.float32)),
            power=Weights(np.ones(len(scale), np.float32)),
        ),
        True,
    )


def _topk(r):
    k = r.constant(1) if r.node.op_type == "TopK" else np.array(1)
    largest = r.attributes.get("largest", 1) if r.node.op_type == "TopK" else r.node.op_type == "ArgMax"
    return (
        dict(
            op=TopKOperation.MAX if largest else TopKOperation.MIN,
            k=int(k.reshape(-1)[0]) if k is not None else 0,
            axes=1 << r.axis(-1 if r.node.op_type == "TopK" else 0),
        ),
        False,
    )


def _cast(r):
    types = {
        1: DataType.FLOAT,
        2: DataType.UINT8,
        3: DataType.INT8,
        6: DataType.INT32,
        7: DataType.INT64,
        9: DataType.BOOL,
        10: DataType.HALF,
        16: DataType.BF16,
        17: DataType.FP8,
    }
    to = types.get(r.attributes.get("to"))
    return ({} if to is None else {"to_type": to}), to is not None


def _normalization(r):
    rank = r.rank()
    if r.node.op_type in ("LayerNormalization", "RMSNormalization"):
        first = r.axis(-1)
        axes = sum(1 << a for a in range(first, rank))
    else:
        axes = sum(1 << a for a in range(2, rank))
    return (
        dict(epsilon=r.attributes.get("epsilon", 1e-5), axes=axes, num_groups=r.attributes.get("num_groups", 1)),
        False,
    )


def _resize(r):
    mode = {
        "nearest": InterpolationMode.NEAREST,
        "linear": InterpolationMode.LINEAR,
        "bilinear": InterpolationMode.LINEAR,
        "cubic": InterpolationMode.CUBIC,
    }.get(r.attributes.get("mode", "nearest"), InterpolationMode.NEAREST)
    values = {"resize_mode": mode}
    scales = r.constant(1 if r.node.op_type == "Upsample" else 2)
    if scales is not None and scales.size:
        values["scales"] = [float(s) for s in scales.reshape(-1)]
    return values, False


_READERS = {
    LayerType.CONVOLUTION: _conv,
    LayerType.DECONVOLUTION: _conv,
    LayerType.POOLING: _pool,
    LayerType.ACTIVATION: _activation,
    LayerType.SOFTMAX: _softmax,
    LayerType.REDUCE: _reduce,
    LayerType.ELEMENTWISE: _elementwise,
    LayerType.MATRIX_MULTIPLY: _matmul,
    LayerType.SHUFFLE: _shuffle,
    LayerType.GATHER: _gather,
    LayerType.SCALE: _scale,
    LayerType.TOPK: _topk,
    LayerType.CAST: _cast,
    LayerType.NORMALIZATION: _normalization,
    LayerType.RESIZE: _resize,
    LayerType.UNARY: lambda r: ({"op": UnaryOperation[_UNARY[r.node.op_type]]}, True),
    LayerType.CONCATENATION: lambda r: ({"axis": r.axis(0)}, True),
    LayerType.EINSUM: lambda r: ({"equation": r.attributes.get("equation", "")}, True),
    LayerType.SCATTER: lambda r: (
        dict(axis=r.axis(0), mode=ScatterMode.ND if r.node.op_type == "ScatterND" else ScatterMode.ELEMENT),
        True,
    ),
    LayerType.LRN: lambda r: (
        dict(
            window_size=r.attributes["size"],
            alpha=r.attributes.get("alpha", 1e-4),
            beta=r.attributes.get("beta", 0.75),
            k=r.attributes.get("bias", 1.0),
        ),
        True,
    ),
}


class ModelNode:
    """What a layer that the parser made keeps of the model: the node, and all its operands."""

    def __init__(self, node, operands, complete):
        self.name, self.op_type, self.domain, self.opset = node.name, node.op_type, node.domain, node.opset
        self.attributes, self.num_outputs = node.attributes, len(node.outputs)
        self.has_subgraphs, self.model_index = bool(node.subgraphs), node.model_index
        self.operands, self.complete = operands, complete

    def lower(self, layer, low):
        if self.has_subgraphs:
            raise unsupported(
                f"layer '{layer.name}': rebuilding a {self.op_type} with subgraphs after a change before it",
                "a model that is changed before it is parsed",
            )
        outputs = low.op(self.op_type, low.inputs, self.num_outputs, self.opset, self.domain, **self.attributes)
        return [outputs] if self.num_outputs == 1 else outputs


def import_layers(network, core):
    """Fills `network`, which is empty, from the compiler's network `core`, whose nodes are those of a model."""
    network._forget()
    network._core = core
    tensors = {}

    def tensor_for(number, layer=None, index=0):
        tensor = ITensor._make(network, core.value_info(number).name, layer, index)
        tensors[number] = tensor
        network._ids[tensor] = number
        return tensor

    for number in core.inputs:
        info = core.value_info(number)
        tensor = tensor_for(number)
        dtype = trt_dtype(info.dtype)
        if dtype is None:
            raise unsupported(
                f"input '{info.name}': element type {info.dtype}, which TensorRT has no name for",
                "a model whose inputs are float32, float16, bfloat16, float8e4m3, int8, uint8, int32, int64 or bool",
            )
        tensor._input_dtype, tensor._input_shape, tensor._model_dtype = dtype, Dims(info.dims), None
        tensor._dim_names = {i: size for i, size in enumerate(info.shape) if isinstance(size, str)}
        network._inputs.append(tensor)

    def constant_layer(number):
        array = core.constant_value(number)
        info = core.value_info(number)
        layer = LAYER_CLASSES[LayerType.CONSTANT]._make(network, info.name, [])
        if trt_dtype(info.dtype) is not None and info.dtype not in ("bfloat16", "float8e4m3"):
            layer._values.update(shape=Dims(info.dims), weights=Weights(array))
            layer._node = None
        else:
            layer._node = ModelConstant(array)
        layer._op_type = "Constant"
        layer._outputs[0]._name = info.name
        tensors[number] = layer._outputs[0]
        network._ids[layer._outputs[0]] = number
        network._weights[layer, "constant"] = number
        append(layer, network._ends[-1])

    def append(layer, end):
        network._layers.append(layer)
        network._order.append(layer)
        network._ends.append(end)
        network._clean += 1

    for position, node in enumerate(core.nodes()):
        layer_type = layer_type_of(node.op_type)
        first_weight = _FIRST_WEIGHT.get(node.op_type, len(node.inputs))
        for index, number in enumerate(node.inputs):
            if number < 0 or number in tensors:
                continue
            if index >= first_weight:
                tensor_for(number)._array = core.constant_value(number)  # the layer's weights
            else:
                constant_layer(number)
        operands = [None if number < 0 else tensors[number] for number in node.inputs]
        shown = [
            t
            for i, t in enumerate(operands)
            if i < first_weight or t is None or t._layer is not None or t.is_network_input
        ]
        while shown and shown[-1] is None:
            shown.pop()
        cls = LAYER_CLASSES[layer_type]
        layer = cls._make(network, node.name, shown, len(node.outputs))
        for index, number in enumerate(node.outputs):
            tensor = layer._outputs[index]
            if number < 0:
                layer._outputs[index] = None
                continue
            tensor._name = core.value_info(number).name
            tensors[number] = tensor
            network._ids[tensor] = number
        reading = Reading(network, node, operands)
        values, complete = (
            _READERS[layer_type](reading) if layer_type in _READERS and node.domain == "" else ({}, False)
        )
        layer._values.update(values)
        layer._node = ModelNode(node, operands, complete)
        layer._op_type = node.op_type
        for index, role in ((1, "kernel"), (2, "bias")):
            if (
                layer_type in (LayerType.CONVOLUTION, LayerType.DECONVOLUTION)
                and len(node.inputs) > index
                and node.inputs[index] >= 0
            ):
                network._weights[layer, role] = node.inputs[index]
        append(layer, position + 1)
    for number in core.outputs:
        if number not in tensors:
            constant_layer(number)  # the model hands an initializer out
        network._outputs.append(tensors[number])


class ModelConstant:
    """A constant of a type that TensorRT has no name for."""

    name, op_type, complete, operands = "", "Constant", False, []

    def __init__(self, array):
        self._array = array

    def lower(self, layer, low):
        return [low.const(self._array)]
