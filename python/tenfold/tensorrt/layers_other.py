"""The remaining layers: quantisation, detection, sampling, assertions, attention; and those Tenfold refuses by name."""

import numpy as np

from .enums import (
    AttentionNormalizationOp,
    BoundingBoxFormat,
    CausalMaskKind,
    DataType,
    InterpolationMode,
    KVCacheMode,
    SampleMode,
)
from .errors import argument_error, unsupported
from .layer import Attribute, ILayer, layer_class, member
from .layers_shape import _flag, _input
from .lowering import _ONNX_TYPES
from .values import as_dims, as_int, core_dtype


class _Quantization(ILayer):
    axis = Attribute(as_int, -1)
    block_shape = Attribute(as_dims)

    def _scale_and_zero(self, low, dtype):
        scale = low.inputs[1]
        zero = _input(low, 2)
        if self._values.get("block_shape"):
            raise unsupported(f"layer '{self.name}': block_shape", "one scale for the tensor or for each channel")
        if low.rank(scale) == 1 and low.dims(scale)[0] == 1:
            scale = low.reshape(scale, [])
            zero = None if zero is None else low.reshape(zero, [])
        if low.rank(scale) > 1:
            scale = low.reshape(scale, [-1])
            zero = None if zero is None else low.reshape(zero, [-1])
        if zero is None and dtype != "float8e4m3":  # which has no zero points
            zeros = low.const(np.zeros((), dtype))
            zero = zeros if low.rank(scale) == 0 else low.op("Expand", [zeros, low.op("Shape", [scale])])
        return scale, zero

    def _axis(self, low, scale):
        return None if low.rank(scale) == 0 else low.axis(self.axis, low.rank(low.inputs[0]))


@layer_class("QUANTIZE")
class IQuantizeLayer(_Quantization):
    to_type = Attribute(member(DataType), DataType.INT8)

    def _lower(self, low):
        dtype = core_dtype(self.to_type, f"layer '{self.name}': to_type")
        if dtype not in ("int8", "uint8", "float8e4m3"):
            raise unsupported(f"layer '{self.name}': quantisation to {self.to_type!s}", "DataType.INT8 or FP8")
        scale, zero = self._scale_and_zero(low, dtype)
        operands = [low.inputs[0], scale] + ([] if zero is None else [zero])
        return [low.op("QuantizeLinear", operands, axis=self._axis(low, scale), output_dtype=_ONNX_TYPES[dtype])]


@layer_class("DEQUANTIZE")
class IDequantizeLayer(_Quantization):
    to_type = Attribute(member(DataType), DataType.FLOAT)

    def _lower(self, low):
        scale, zero = self._scale_and_zero(low, low.dtype(low.inputs[0]))
        operands = [low.inputs[0], scale] + ([] if zero is None else [zero])
        result = low.op("DequantizeLinear", operands, axis=self._axis(low, scale))
        return [low.cast(result, core_dtype(self.to_type, f"layer '{self.name}': to_type"))]


@layer_class("GRID_SAMPLE")
class IGridSampleLayer(ILayer):
    interpolation_mode = Attribute(member(InterpolationMode), InterpolationMode.LINEAR)
    align_corners = Attribute(_flag, False)
    sample_mode = Attribute(member(SampleMode), SampleMode.FILL)

    def _lower(self, low):
        padding = {SampleMode.FILL: "zeros", SampleMode.CLAMP: "border", SampleMode.REFLECT: "reflection"}.get(
            self.sample_mode
        )
        if padding is None:
            raise unsupported(f"layer '{self.name}': {self.sample_mode!s}", "SampleMode.FILL, CLAMP or REFLECT")
        return [
            low.op(
                "GridSample",
                low.inputs[:2],
                mode=self.interpolation_mode.name.lower(),
                padding_mode=padding,
                align_corners=int(self.align_corners),
            )
        ]


@layer_class("NMS")
class INMSLayer(ILayer):
    """Boxes [N, B, 1, 4] or [N, B, 4] and scores [N, B, C] give [selected, 3] indices (batch, class, box) and their count."""

    _num_outputs = 2
    bounding_box_format = Attribute(member(BoundingBoxFormat), BoundingBoxFormat.CORNER_PAIRS)
    topk_box_limit = Attribute(as_int, -1)
    indices_type = Attribute(member(DataType), DataType.INT32)

    def _lower(self, low):
        boxes, scores, limit = low.inputs[:3]
        if self.topk_box_limit >= 0:
            raise unsupported(f"layer '{self.name}': topk_box_limit", "max_output_boxes_per_class")
        if low.rank(boxes) == 4:
            if low.dims(boxes)[2] != 1:
                raise unsupported(
                    f"layer '{self.name}': boxes that differ by class, shape {tuple(low.dims(boxes))}",
                    "boxes of shape [N, B, 1, 4]",
                )
            boxes = low.op("Squeeze", [boxes, low.ints([2])])

        def one(tensor, dtype):
            return None if tensor is None else low.reshape(low.cast(tensor, dtype), [1])

        selected = low.op(
            "NonMaxSuppression",
            [
                boxes,
                low.transpose(scores, [0, 2, 1]),
                one(limit, "int64"),
                one(_input(low, 3), "float32"),
                one(_input(low, 4), "float32"),
            ],
            center_point_box=int(self.bounding_box_format is BoundingBoxFormat.CENTER_SIZES),
        )
        count = low.op("Gather", [low.op("Shape", [selected]), low.const(np.int64(0))], axis=0)
        return [low.cast(selected, core_dtype(self.indices_type, "indices_type")), low.cast(count, "int32")]


@layer_class("ASSERTION")
class IAssertionLayer(ILayer):
    """A condition that must hold when the network is built. One that only a run can decide is refused."""

    _num_outputs = 0
    message = Attribute(lambda value, what: str(value), "")

    def _lower(self, low):
        known = low.known(low.inputs[0])
        if known is None:
            raise unsupported(f"layer '{self.name}': an assertion that only a run can decide", "a check before the run")
        if not np.all(known):
            raise argument_error(f"layer '{self.name}': the assertion does not hold: {self.message}")
        return []


class IAttention:
    """Scaled products of queries, keys and values, [N, heads, length, size] each: softmax(q k^T + mask) v.

    As in TensorRT the queries are not scaled. Belongs to two layers of the network: what goes in, and what comes out.
    """

    def __init__(self):
        raise TypeError("attention is made by INetworkDefinition.add_attention")

    @classmethod
    def _make(cls, layer):
        attention = object.__new__(cls)
        attention._layer = layer
        return attention

    def _value(name, default=None, convert=lambda value: value):
        def get(self):
            return self._layer._values.get(name, default)

        def put(self, value):
            self._layer._set(name, convert(value))

        return property(get, put)

    norm_op = _value("norm_op", AttentionNormalizationOp.SOFTMAX)
    causal_kind = _value("causal_kind", CausalMaskKind.NONE)
    decomposable = _value("decomposable", False, bool)
    name = property(lambda self: self._layer.name, lambda self, name: setattr(self._layer, "name", name))
    metadata = property(lambda self: self._layer.metadata, lambda self, text: setattr(self._layer, "metadata", text))
    num_inputs = property(lambda self: self._layer.num_inputs)
    num_outputs = property(lambda self: self._layer.num_outputs)
    del _value

    @property
    def causal(self):
        return self.causal_kind is not CausalMaskKind.NONE

    @causal.setter
    def causal(self, value):
        self.causal_kind = CausalMaskKind.UPPER_LEFT if value else CausalMaskKind.NONE

    @property
    def mask(self):
        return self._layer.get_input(3)

    @mask.setter
    def mask(self, tensor):
        self._layer.set_input(3, tensor)

    @property
    def normalization_quantize_scale(self):
        return None

    @normalization_quantize_scale.setter
    def normalization_quantize_scale(self, tensor):
        raise unsupported("IAttention.normalization_quantize_scale", "attention without quantisation")

    def set_input(self, index, tensor):
        self._layer.set_input(index, tensor)
        return True

    def get_input(self, index):
        return self._layer.get_input(index)

    def get_output(self, index):
        return self._layer.get_output(index)


class IAttentionBoundaryLayer(ILayer):
    @property
    def attention(self):
        return IAttention._make(self)


@layer_class("ATTENTION_INPUT")
class IAttentionInputLayer(IAttentionBoundaryLayer):
    pass


@layer_class("ATTENTION_OUTPUT")
class IAttentionOutputLayer(IAttentionBoundaryLayer):
    def _lower(self, low):
        q, k, v = low.inputs[:3]
        mask = _input(low, 3)
        rank = low.rank(q)
        scores = low.op("MatMul", [q, low.transpose(k, [*range(rank - 2), rank - 1, rank - 2])])
        if mask is not None and low.dtype(mask) == "bool":
            scores = low.op("Where", [mask, scores, low.like(-np.inf, scores)])
        elif mask is not None:
            scores = low.op("Add", [scores, mask])
        kind = self._values.get("causal_kind", CausalMaskKind.NONE)
        if kind is not CausalMaskKind.NONE:
            scores = low.op("Where", [self._causal(low, scores, kind), scores, low.like(-np.inf, scores)])
        if self._values.get("norm_op", AttentionNormalizationOp.SOFTMAX) is AttentionNormalizationOp.SOFTMAX:
            scores = low.op("Softmax", [scores], axis=-1)
        return [low.op("MatMul", [scores, v])]

    def _causal(self, low, scores, kind):
        """Row r may look at column c if c <= r, counted from the upper left or from the lower right corner."""
        shape = low.op("Shape", [scores])

        def size(axis):
            return low.op("Gather", [shape, low.const(np.int64(axis))], axis=0)

        def count(length):
            return low.op("Range", [low.const(np.int64(0)), length, low.const(np.int64(1))])

        rows, columns = size(-2), size(-1)
        row = low.reshape(count(rows), [-1, 1])
        if kind is CausalMaskKind.LOWER_RIGHT:
            row = low.op("Add", [row, low.op("Sub", [columns, rows])])
        return low.op("LessOrEqual", [count(columns), row])


@layer_class("ROTARY_EMBEDDING")
class IRotaryEmbeddingLayer(ILayer):
    """Input [N, heads, length, size], cosines and sines [positions, size/2]; input 3, if set, are position ids."""

    interleaved = Attribute(_flag, False)
    rotary_embedding_dim = Attribute(as_int, 0)

    def _lower(self, low):
        return [
            low.op(
                "RotaryEmbedding",
                [*low.inputs[:3], _input(low, 3)],
                interleaved=int(self.interleaved),
                rotary_embedding_dim=self.rotary_embedding_dim,
            )
        ]


def _refused(name, layer_type, instead, **attributes):
    """A class that exists so that code naming it can be read; making one raises."""
    cls = type(name, (ILayer,), {"__doc__": f"Not supported; use {instead}.", **attributes})
    return layer_class(layer_type)(cls)


IDynamicQuantizeLayer = _refused(
    "IDynamicQuantizeLayer",
    "DYNAMIC_QUANTIZE",
    "add_quantize with constant scales",
    axis=Attribute(as_int, 0),
    block_size=Attribute(as_int, 0),
)
IKVCacheUpdateLayer = _refused(
    "IKVCacheUpdateLayer",
    "KV_CACHE_UPDATE",
    "add_scatter",
    cache_mode=Attribute(member(KVCacheMode), KVCacheMode.LINEAR),
)
IMoELayer = _refused("IMoELayer", "MOE", "add_gather and add_matrix_multiply")
IDistCollectiveLayer = _refused("IDistCollectiveLayer", "DIST_COLLECTIVE", "one process per device")
IRNNv2Layer = _refused("IRNNv2Layer", "RNN_V2", "an ONNX model with LSTM, GRU or RNN nodes")
IPluginLayer = _refused("IPluginLayer", "PLUGIN", "layers of the network, or operators of the ONNX model")
IPluginV2Layer = _refused("IPluginV2Layer", "PLUGIN_V2", "layers of the network, or operators of the ONNX model")
IPluginV3Layer = _refused("IPluginV3Layer", "PLUGIN_V3", "layers of the network, or operators of the ONNX model")
