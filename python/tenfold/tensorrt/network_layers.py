"""The add_ functions of INetworkDefinition."""

from . import layers_control, layers_conv, layers_math, layers_other, layers_shape
from .enums import (
    AttentionNormalizationOp,
    CausalMaskKind,
    CumulativeOperation,
    DataType,
    FillOperation,
    GatherMode,
    MatrixOperation,
    ScatterMode,
)
from .errors import argument_error, unsupported
from .values import as_dims, as_weights


class LayerAdders:
    """Each returns the new layer; `get_output(0)` is its result. Shapes are checked when they are asked for, or built."""

    def _new(self, cls, inputs, num_outputs=None, **values):
        name = self._layer_name(cls._layer_type)
        for index, tensor in enumerate(inputs):
            if tensor is not None:
                self._check_tensor(tensor, f"{name}: input {index}")
        return self._add(cls._make(self, name, inputs, num_outputs, **values))

    # --- Windows ----------------------------------------------------------------------------------------------------
    def add_convolution_nd(self, input, num_output_maps, kernel_shape, kernel=None, bias=None):
        return self._new(
            layers_conv.IConvolutionLayer,
            [input],
            num_output_maps=num_output_maps,
            kernel_size_nd=kernel_shape,
            kernel=kernel,
            bias=bias,
        )

    def add_deconvolution_nd(self, input, num_output_maps, kernel_shape, kernel=None, bias=None):
        return self._new(
            layers_conv.IDeconvolutionLayer,
            [input],
            num_output_maps=num_output_maps,
            kernel_size_nd=kernel_shape,
            kernel=kernel,
            bias=bias,
        )

    add_convolution, add_deconvolution = add_convolution_nd, add_deconvolution_nd

    def add_pooling_nd(self, input, type, window_size):
        return self._new(layers_conv.IPoolingLayer, [input], type=type, window_size_nd=window_size)

    add_pooling = add_pooling_nd

    def add_padding_nd(self, input, pre_padding, post_padding):
        return self._new(layers_conv.IPaddingLayer, [input], pre_padding_nd=pre_padding, post_padding_nd=post_padding)

    add_padding = add_padding_nd

    def add_fully_connected(self, input, num_outputs, kernel, bias=None):
        return self._new(
            layers_conv.IFullyConnectedLayer, [input], num_output_channels=num_outputs, kernel=kernel, bias=bias
        )

    # --- Arithmetic -------------------------------------------------------------------------------------------------
    def add_activation(self, input, type):
        return self._new(layers_math.IActivationLayer, [input], type=type)

    def add_elementwise(self, input1, input2, op):
        return self._new(layers_math.IElementWiseLayer, [input1, input2], op=op)

    def add_unary(self, input, op):
        return self._new(layers_math.IUnaryLayer, [input], op=op)

    def add_scale(self, input, mode, shift=None, scale=None, power=None):
        return self.add_scale_nd(input, mode, shift, scale, power, 1)

    def add_scale_nd(self, input, mode, shift=None, scale=None, power=None, channel_axis=1):
        return self._new(
            layers_math.IScaleLayer,
            [input],
            mode=mode,
            shift=shift,
            scale=scale,
            power=power,
            channel_axis=channel_axis,
        )

    def add_lrn(self, input, window, alpha, beta, k):
        return self._new(layers_math.ILRNLayer, [input], window_size=window, alpha=alpha, beta=beta, k=k)

    def add_softmax(self, input):
        return self._new(layers_math.ISoftMaxLayer, [input])

    def add_ragged_softmax(self, input, bounds):
        return self._new(layers_math.IRaggedSoftMaxLayer, [input, bounds])

    def add_reduce(self, input, op, axes, keep_dims):
        return self._new(layers_math.IReduceLayer, [input], op=op, axes=axes, keep_dims=keep_dims)

    def add_topk(self, input, op, k, axes, indices_type=DataType.INT32):
        return self._new(layers_math.ITopKLayer, [input], op=op, k=k, axes=axes, indices_type=indices_type)

    def add_matrix_multiply(self, input0, op0, input1, op1):
        # Release 7 and before took booleans.
        op0, op1 = (
            (MatrixOperation.NONE, MatrixOperation.TRANSPOSE)[op] if isinstance(op, bool) else op for op in (op0, op1)
        )
        return self._new(layers_math.IMatrixMultiplyLayer, [input0, input1], op0=op0, op1=op1)

    def add_einsum(self, inputs, equation):
        return self._new(layers_math.IEinsumLayer, list(inputs), equation=equation)

    def add_parametric_relu(self, input, slopes):
        return self._new(layers_math.IParametricReLULayer, [input, slopes])

    def add_cumulative(self, input, axis, op=CumulativeOperation.SUM, exclusive=False, reverse=False):
        return self._new(layers_math.ICumulativeLayer, [input, axis], op=op, exclusive=exclusive, reverse=reverse)

    def add_normalization(self, input, scale, bias, axesMask):
        return self._new(layers_math.INormalizationLayer, [input, scale, bias], axes=axesMask)

    def add_normalization_v2(self, input, scale, bias, axesMask):
        layer = self.add_normalization(input, scale, bias, axesMask)
        layer._values["v2"] = True
        return layer

    # --- Shapes -----------------------------------------------------------------------------------------------------
    def add_shuffle(self, input):
        return self._new(layers_shape.IShuffleLayer, [input])

    def add_slice(self, input, start, shape, stride):
        return self._new(layers_shape.ISliceLayer, [input], start=start, shape=shape, stride=stride)

    def add_concatenation(self, inputs):
        inputs = list(inputs)
        if not inputs:
            raise argument_error("add_concatenation needs at least one tensor")
        return self._new(layers_shape.IConcatenationLayer, inputs)

    def add_gather(self, input, indices, axis):
        return self._new(layers_shape.IGatherLayer, [input, indices], axis=axis)

    def add_gather_v2(self, input, indices, mode):
        return self._new(layers_shape.IGatherLayer, [input, indices], mode=mode)

    def add_scatter(self, data, indices, updates, mode=ScatterMode.ELEMENT):
        return self._new(layers_shape.IScatterLayer, [data, indices, updates], mode=mode)

    def add_shape(self, input):
        return self._new(layers_shape.IShapeLayer, [input])

    def add_constant(self, shape, weights):
        return self._new(layers_shape.IConstantLayer, [], shape=shape, weights=weights)

    def add_identity(self, input):
        return self._new(layers_shape.IIdentityLayer, [input])

    def add_cast(self, input, to_type):
        return self._new(layers_shape.ICastLayer, [input], to_type=to_type)

    def add_select(self, condition, then_input, else_input):
        return self._new(layers_shape.ISelectLayer, [condition, then_input, else_input])

    def add_resize(self, input):
        return self._new(layers_shape.IResizeLayer, [input])

    def add_fill(self, shape, op=FillOperation.LINSPACE, output_type=DataType.FLOAT):
        return self._new(layers_shape.IFillLayer, [], shape=shape, operation=op, to_type=output_type)

    def add_squeeze(self, input, axes):
        return self._new(layers_shape.ISqueezeLayer, [input, axes])

    def add_unsqueeze(self, input, axes):
        return self._new(layers_shape.IUnsqueezeLayer, [input, axes])

    def add_one_hot(self, indices, values, depth, axis):
        return self._new(layers_shape.IOneHotLayer, [indices, values, depth], axis=axis)

    def add_non_zero(self, input, indices_type=DataType.INT32):
        return self._new(layers_shape.INonZeroLayer, [input], indices_type=indices_type)

    def add_reverse_sequence(self, input, sequence_lens):
        return self._new(layers_shape.IReverseSequenceLayer, [input, sequence_lens])

    # --- Quantisation, detection, sampling, attention ---------------------------------------------------------------
    def add_quantize(self, input, scale, output_type=DataType.INT8):
        return self._new(layers_other.IQuantizeLayer, [input, scale], to_type=output_type)

    def add_dequantize(self, input, scale, output_type=DataType.FLOAT):
        return self._new(layers_other.IDequantizeLayer, [input, scale], to_type=output_type)

    def add_grid_sample(self, input, grid):
        return self._new(layers_other.IGridSampleLayer, [input, grid])

    def add_nms(self, boxes, scores, max_output_boxes_per_class, indices_type=DataType.INT32):
        return self._new(layers_other.INMSLayer, [boxes, scores, max_output_boxes_per_class], indices_type=indices_type)

    def add_assertion(self, condition, message):
        return self._new(layers_other.IAssertionLayer, [condition], message=message)

    def add_attention(self, query, key, value, norm_op=AttentionNormalizationOp.SOFTMAX, causal=False):
        return self.add_attention_v2(
            query, key, value, norm_op, CausalMaskKind.UPPER_LEFT if causal else CausalMaskKind.NONE
        )

    def add_attention_v2(
        self, query, key, value, norm_op=AttentionNormalizationOp.SOFTMAX, causal_kind=CausalMaskKind.NONE
    ):
        layer = self._new(layers_other.IAttentionOutputLayer, [query, key, value])
        attention = layer.attention
        attention.norm_op, attention.causal_kind = norm_op, causal_kind
        return attention

    def add_rotary_embedding(self, input, cos_cache, sin_cache, interleaved=False, rotary_embedding_dim=0):
        return self._new(
            layers_other.IRotaryEmbeddingLayer,
            [input, cos_cache, sin_cache],
            interleaved=interleaved,
            rotary_embedding_dim=rotary_embedding_dim,
        )

    # --- Control flow -----------------------------------------------------------------------------------------------
    def add_loop(self):
        return layers_control.ILoop._make(self)

    def add_if_conditional(self):
        return layers_control.IIfConditional._make(self)

    # --- Refused by name --------------------------------------------------------------------------------------------
    def _refuse(name, instead):
        def add(self, *arguments, **named):
            raise unsupported(f"INetworkDefinition.{name}", instead)

        add.__name__, add.__doc__ = name, f"Not supported; use {instead}."
        return add

    add_rnn_v2 = _refuse("add_rnn_v2", "an ONNX model with LSTM, GRU or RNN nodes")
    add_dynamic_quantize = _refuse("add_dynamic_quantize", "add_quantize with constant scales")
    add_dynamic_quantize_v2 = _refuse("add_dynamic_quantize_v2", "add_quantize with constant scales")
    add_kv_cache_update = _refuse("add_kv_cache_update", "add_scatter")
    add_moe = _refuse("add_moe", "add_gather and add_matrix_multiply")
    add_dist_collective = _refuse("add_dist_collective", "one process per device")
    add_plugin = _refuse("add_plugin", "layers of the network")
    add_plugin_v2 = _refuse("add_plugin_v2", "layers of the network")
    add_plugin_v3 = _refuse("add_plugin_v3", "layers of the network")
    del _refuse


__all__ = ["LayerAdders", "GatherMode", "as_dims", "as_weights"]
