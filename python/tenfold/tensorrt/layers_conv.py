"""Layers with a window: convolution, deconvolution, pooling, padding; and the fully connected layer of release 8."""

import numpy as np

from .enums import PaddingMode, PoolingType
from .errors import argument_error
from .layer import Attribute, ILayer, layer_class, member
from .values import Dims, DimsHW, Weights, as_dims, as_int, as_weights


def _window(value, what):
    dims = as_dims(value, what)
    if not 1 <= len(dims) <= 3:
        raise argument_error(f"{what} takes 1 to 3 spatial dimensions, got {tuple(dims)}")
    return dims


def _window_2d(value, what):
    return DimsHW(as_dims(value, what))


def _kept(value, what):
    return as_weights(value, what) or Weights()


def _count(value, what):
    count = as_int(value, what)
    if count < 1:
        raise argument_error(f"{what} must be at least 1, got {count}")
    return count


class _Windowed(ILayer):
    """Attributes that are 1 (or 0) along every spatial axis until they are set."""

    def _spatial(self):
        raise NotImplementedError

    def _per_axis(self, name, default):
        value = self._values.get(name)
        return Dims([default] * self._spatial()) if value is None else value

    def _check_lengths(self, *names):
        for name in names:
            value = self._values.get(name)
            if value is not None and len(value) != self._spatial():
                raise argument_error(
                    f"layer '{self.name}': {name} has {len(value)} dimensions, the window has {self._spatial()}"
                )

    def _pads(self, low, window, strides, dilations):
        """(auto_pad, begin and end pads, round up) as ONNX says it."""
        mode = self.padding_mode
        if mode in (PaddingMode.SAME_UPPER, PaddingMode.SAME_LOWER):
            return mode.name, None, False
        begin, end = list(self.pre_padding), list(self.post_padding)
        if mode in (PaddingMode.CAFFE_ROUND_DOWN, PaddingMode.CAFFE_ROUND_UP) and begin != end:
            raise argument_error(
                f"layer '{self.name}': {mode!s} needs the same padding on both sides, got {begin} and {end}"
            )
        return "NOTSET", begin + end, mode in (PaddingMode.EXPLICIT_ROUND_UP, PaddingMode.CAFFE_ROUND_UP)


def _axes(name, default, alias=None):
    """A property that gives `default` along each axis while nothing is set."""
    convert = _window

    def get(layer):
        return layer._per_axis(name, default)

    def put(layer, value):
        layer._set(name, convert(value, f"layer '{layer.name}': {alias or name}"))

    return property(get, put)


def _axes_2d(name, default):
    def get(layer):
        value = layer._per_axis(name, default)
        if len(value) != 2:
            raise argument_error(
                f"layer '{layer.name}' has {len(value)} spatial dimensions; use the attribute that ends in _nd"
            )
        return DimsHW(value)

    def put(layer, value):
        layer._set(name, _window_2d(value, f"layer '{layer.name}': {name}"))

    return property(get, put)


def _padding(convert):
    """Symmetric padding: reading gives the padding before; writing sets both sides."""

    def get(layer):
        if list(layer.pre_padding) != list(layer.post_padding):
            raise argument_error(
                f"layer '{layer.name}' pads differently before and after; read pre_padding and post_padding"
            )
        return layer.pre_padding

    def put(layer, value):
        dims = convert(value, f"layer '{layer.name}': padding")
        layer._set("pre_padding", dims)
        layer._set("post_padding", dims)

    return property(get, put)


class _Convolution(_Windowed):
    num_output_maps = Attribute(_count, 0)
    kernel_size_nd = Attribute(_window)
    kernel_size = Attribute(_window_2d, alias="kernel_size_nd")
    stride_nd = _axes("stride_nd", 1)
    stride = _axes_2d("stride_nd", 1)
    pre_padding = _axes("pre_padding", 0)
    post_padding = _axes("post_padding", 0)
    padding_nd = _padding(_window)
    padding = _padding(_window_2d)
    padding_mode = Attribute(member(PaddingMode), PaddingMode.EXPLICIT_ROUND_DOWN)
    dilation_nd = _axes("dilation_nd", 1)
    num_groups = Attribute(_count, 1)

    def _weights_get(name):
        def get(layer):
            return (layer._values.get(name) or Weights()).flat()

        def put(layer, value):
            layer._set(name, _kept(value, f"layer '{layer.name}': {name}"))

        return property(get, put)

    kernel, bias = _weights_get("kernel"), _weights_get("bias")
    del _weights_get

    def _spatial(self):
        return len(self._values["kernel_size_nd"])

    def _weights_of(self, low, data, shape):
        """The kernel and the bias: tensors where inputs 1 and 2 are set, else the layer's own weights."""
        kernel = low.inputs[1] if len(low.inputs) > 1 else None
        bias = low.inputs[2] if len(low.inputs) > 2 else None
        if kernel is None:
            if not self.kernel.size:
                raise argument_error(f"layer '{self.name}': the kernel has no weights; give them, or set input 1")
            kernel = self._refittable(low, "kernel", data, shape)
        if bias is None and self.bias.size:
            bias = self._refittable(low, "bias", data, (self.num_output_maps,))
        return kernel, bias

    def _refittable(self, low, role, data, shape):
        return self._network._layer_weights(self, role, low.like(self._values[role], data, shape))

    def _channels(self, low, data):
        dims = low.dims(data)
        if len(dims) != self._spatial() + 2:
            raise argument_error(
                f"layer '{self.name}': a window of {self._spatial()} dimensions needs an input of rank "
                f"{self._spatial() + 2} (batch, channels, space), got shape {tuple(dims)}"
            )
        if dims[1] < 0:
            raise argument_error(f"layer '{self.name}': the number of input channels must be known, got {tuple(dims)}")
        return dims[1]


@layer_class("CONVOLUTION")
class IConvolutionLayer(_Convolution):
    dilation = _axes_2d("dilation_nd", 1)

    def _lower(self, low):
        data = low.inputs[0]
        self._check_lengths("stride_nd", "pre_padding", "post_padding", "dilation_nd")
        window, channels = list(self.kernel_size_nd), self._channels(low, data)
        if channels % self.num_groups:
            raise argument_error(
                f"layer '{self.name}': {channels} input channels do not divide into {self.num_groups} groups"
            )
        shape = (self.num_output_maps, channels // self.num_groups, *window)
        kernel, bias = self._weights_of(low, data, shape)
        strides, dilations = list(self.stride_nd), list(self.dilation_nd)
        auto_pad, pads, round_up = self._pads(low, window, strides, dilations)
        if round_up:
            pads = _pads_that_round_up(self, low, data, window, strides, dilations, pads)
        return [
            low.op(
                "Conv",
                [data, kernel, bias],
                kernel_shape=window,
                strides=strides,
                dilations=dilations,
                group=self.num_groups,
                auto_pad=auto_pad,
                pads=pads,
            )
        ]


def _pads_that_round_up(layer, low, data, window, strides, dilations, pads):
    """More padding at the end, so that rounding down gives what rounding up gave."""
    space = low.static_dims(data, "rounding output sizes up")[2:]
    pads, n = list(pads), len(window)
    for i in range(n):
        rest = (space[i] + pads[i] + pads[n + i] - ((window[i] - 1) * dilations[i] + 1)) % strides[i]
        pads[n + i] += (strides[i] - rest) % strides[i]
    return pads


@layer_class("DECONVOLUTION")
class IDeconvolutionLayer(_Convolution):
    def _lower(self, low):
        data = low.inputs[0]
        self._check_lengths("stride_nd", "pre_padding", "post_padding", "dilation_nd")
        window, channels = list(self.kernel_size_nd), self._channels(low, data)
        if self.num_output_maps % self.num_groups:
            raise argument_error(
                f"layer '{self.name}': {self.num_output_maps} output maps do not divide into {self.num_groups} groups"
            )
        kernel, bias = self._weights_of(low, data, (channels, self.num_output_maps // self.num_groups, *window))
        auto_pad, pads, _ = self._pads(low, window, None, None)
        return [
            low.op(
                "ConvTranspose",
                [data, kernel, bias],
                kernel_shape=window,
                strides=list(self.stride_nd),
                dilations=list(self.dilation_nd),
                group=self.num_groups,
                auto_pad=auto_pad,
                pads=pads,
            )
        ]


@layer_class("POOLING")
class IPoolingLayer(_Windowed):
    type = Attribute(member(PoolingType), PoolingType.MAX)  # hides ILayer.type, as in TensorRT
    window_size_nd = Attribute(_window)
    window_size = Attribute(_window_2d, alias="window_size_nd")
    stride_nd = _axes("stride_nd", None)
    stride = _axes_2d("stride_nd", None)
    pre_padding = _axes("pre_padding", 0)
    post_padding = _axes("post_padding", 0)
    padding_nd = _padding(_window)
    padding = _padding(_window_2d)
    padding_mode = Attribute(member(PaddingMode), PaddingMode.EXPLICIT_ROUND_DOWN)
    blend_factor = Attribute(lambda value, what: float(value), 0.0)
    average_count_excludes_padding = Attribute(lambda value, what: bool(value), True)

    def _spatial(self):
        return len(self._values["window_size_nd"])

    def _per_axis(self, name, default):
        value = self._values.get(name)
        if value is not None:
            return value
        # TensorRT's pooling moves by its window unless told otherwise.
        return Dims(self._values["window_size_nd"]) if name == "stride_nd" else Dims([default] * self._spatial())

    def _lower(self, low):
        data = low.inputs[0]
        self._check_lengths("stride_nd", "pre_padding", "post_padding")
        window, strides = list(self.window_size_nd), list(self.stride_nd)
        auto_pad, pads, round_up = self._pads(low, window, strides, None)
        common = dict(kernel_shape=window, strides=strides, auto_pad=auto_pad, pads=pads, ceil_mode=int(round_up))
        include = int(not self.average_count_excludes_padding)
        kind = self.type
        if kind is PoolingType.MAX:
            return [low.op("MaxPool", [data], **common)]
        average = low.op("AveragePool", [data], count_include_pad=include, **common)
        if kind is PoolingType.AVERAGE:
            return [average]
        largest, blend = low.op("MaxPool", [data], **common), self.blend_factor
        return [
            low.op(
                "Add",
                [low.op("Mul", [largest, low.like(1 - blend, data)]), low.op("Mul", [average, low.like(blend, data)])],
            )
        ]


@layer_class("PADDING")
class IPaddingLayer(ILayer):
    """Pads with zeros, or crops where the padding is negative, along the last two axes (more with `_nd`)."""

    pre_padding_nd = Attribute(as_dims)
    post_padding_nd = Attribute(as_dims)
    pre_padding = Attribute(_window_2d, alias="pre_padding_nd")
    post_padding = Attribute(_window_2d, alias="post_padding_nd")

    def _lower(self, low):
        data, begin, end = low.inputs[0], list(self.pre_padding_nd), list(self.post_padding_nd)
        rank = low.rank(data)
        if len(begin) != len(end) or len(begin) > rank:
            raise argument_error(
                f"layer '{self.name}': paddings {tuple(begin)} and {tuple(end)} do not fit an input of rank {rank}"
            )
        rest = [0] * (rank - len(begin))
        return [low.op("Pad", [data, low.ints(rest + begin + rest + end)], mode="constant")]


@layer_class("FULLY_CONNECTED")
class IFullyConnectedLayer(ILayer):
    """Release 8: the last three axes of the input, times the kernel [outputs, C*H*W], give [.., outputs, 1, 1]."""

    num_output_channels = Attribute(_count, 0)
    kernel, bias = _Convolution.kernel, _Convolution.bias

    def _lower(self, low):
        data = low.inputs[0]
        dims = low.dims(data)
        if len(dims) != 4 or any(d < 0 for d in dims[1:]):
            raise argument_error(
                f"layer '{self.name}': a fully connected layer needs an input [N, C, H, W] with known C, H and W, got {tuple(dims)}"
            )
        features = int(np.prod(dims[1:]))
        if not self.kernel.size:
            raise argument_error(f"layer '{self.name}': the kernel has no weights")
        kernel = self._network._layer_weights(
            self, "kernel", low.like(self._values["kernel"], data, (self.num_output_channels, features))
        )
        bias = None
        if self.bias.size:
            bias = self._network._layer_weights(
                self, "bias", low.like(self._values["bias"], data, (self.num_output_channels,))
            )
        product = low.op("Gemm", [low.op("Flatten", [data], axis=1), kernel, bias], transB=1)
        return [low.op("Unsqueeze", [product, low.ints([2, 3])])]
