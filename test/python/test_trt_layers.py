"""Networks made by hand: each layer with its attributes against NumPy."""

import numpy as np
import pytest
import tenfold.tensorrt as trt
from trt_support import build, new_network, run

random = np.random.default_rng(7)
X = random.standard_normal((2, 4, 5, 6)).astype(np.float32)
Y = random.standard_normal((2, 4, 5, 6)).astype(np.float32)
M = random.standard_normal((3, 4)).astype(np.float32)
# fp32 sums of at most some hundred terms of size 1: a few hundred roundings of 2^-24.
TOLERANCE = 2e-5


def outputs_of(make, feeds, dynamic=False):
    """Runs what `make(network, *inputs)` returns: a layer, a tensor, or a list of them."""
    builder, network, config, logger = new_network()
    dtypes = {
        np.dtype(np.float32): trt.float32,
        np.dtype(np.int32): trt.int32,
        np.dtype(np.int64): trt.int64,
        np.dtype(np.bool_): trt.bool,
        np.dtype(np.int8): trt.int8,
        np.dtype(np.float16): trt.float16,
    }
    inputs = []
    for i, array in enumerate(feeds):
        shape = (-1, *array.shape[1:]) if dynamic else array.shape
        inputs.append(network.add_input(f"in{i}", dtypes[array.dtype], shape))
    made = make(network, *inputs)
    made = made if isinstance(made, list) else [made]
    for i, item in enumerate(made):
        tensor = item if isinstance(item, trt.ITensor) else item.get_output(0)
        tensor.name = f"out{i}"
        network.mark_output(tensor)
    if dynamic:
        profile = builder.create_optimization_profile()
        for i, array in enumerate(feeds):
            profile.set_shape(f"in{i}", (1, *array.shape[1:]), array.shape, (2 * array.shape[0], *array.shape[1:]))
        config.add_optimization_profile(profile)
    results = run(build(builder, network, config, logger), {f"in{i}": array for i, array in enumerate(feeds)})
    return [results[f"out{i}"] for i in range(len(made))]


def check(make, expected, feeds=(X,), dynamic=False):
    expected = expected if isinstance(expected, list) else [expected]
    for result, reference in zip(outputs_of(make, feeds, dynamic), expected):
        assert result.shape == np.shape(reference)
        np.testing.assert_allclose(result, reference, rtol=TOLERANCE, atol=TOLERANCE)


def conv2d(x, w, stride=(1, 1), pads=((0, 0), (0, 0)), groups=1, dilation=(1, 1)):
    x = np.pad(x, ((0, 0), (0, 0), *pads))
    kh, kw = (w.shape[2] - 1) * dilation[0] + 1, (w.shape[3] - 1) * dilation[1] + 1
    windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(2, 3))[
        :, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]
    ]
    c = x.shape[1] // groups
    parts = [
        np.einsum("nchwij,ocij->nohw", windows[:, g * c : (g + 1) * c], part)
        for g, part in enumerate(np.split(w, groups))
    ]
    return np.concatenate(parts, 1)


@pytest.mark.parametrize("dynamic", [False, True])
def test_convolution(dynamic):
    w, b = random.standard_normal((8, 2, 3, 3)).astype(np.float32), random.standard_normal(8).astype(np.float32)

    def make(network, x):
        conv = network.add_convolution_nd(x, 8, (3, 3), w, b)
        conv.stride_nd, conv.num_groups, conv.pre_padding, conv.post_padding = (2, 1), 2, (1, 0), (2, 1)
        return conv

    check(make, conv2d(X, w, (2, 1), ((1, 2), (0, 1)), 2) + b[:, None, None], dynamic=dynamic)


def test_convolution_that_rounds_up_has_a_last_window():
    w = random.standard_normal((2, 4, 2, 2)).astype(np.float32)

    def make(network, x):
        conv = network.add_convolution(x, 2, (2, 2), w, trt.Weights())
        conv.stride, conv.padding_mode, conv.dilation = (2, 2), trt.PaddingMode.EXPLICIT_ROUND_UP, (1, 1)
        return conv

    check(make, conv2d(X, w, (2, 2), ((0, 1), (0, 0))))


def test_deconvolution_inverts_the_shape_of_a_convolution():
    w = random.standard_normal((4, 3, 2, 2)).astype(np.float32)

    def make(network, x):
        layer = network.add_deconvolution_nd(x, 3, (2, 2), w)
        layer.stride_nd = (2, 2)
        return layer

    check(make, np.einsum("nchw,coij->nohiwj", X, w).reshape(2, 3, 10, 12))


def windows(x, size, stride):
    return np.lib.stride_tricks.sliding_window_view(x, size, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]


@pytest.mark.parametrize("kind", ["MAX", "AVERAGE", "MAX_AVERAGE_BLEND"])
def test_pooling(kind):
    largest, average = windows(X, (2, 3), (2, 3)).max((-1, -2)), windows(X, (2, 3), (2, 3)).mean((-1, -2))
    expected = {"MAX": largest, "AVERAGE": average, "MAX_AVERAGE_BLEND": 0.75 * largest + 0.25 * average}

    def make(network, x):
        pool = network.add_pooling_nd(x, getattr(trt.PoolingType, kind), (2, 3))
        assert pool.type is getattr(trt.PoolingType, kind)
        assert network.get_layer(0).type is trt.LayerType.POOLING
        pool.blend_factor = 0.25
        return pool

    check(make, expected[kind])


def test_average_pooling_counts_padding_only_when_told():
    padded = windows(np.pad(X, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (1, 1))
    count = windows(np.pad(np.ones_like(X), ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (1, 1)).sum((-1, -2))

    def make(excludes):
        def layer(network, x):
            pool = network.add_pooling_nd(x, trt.PoolingType.AVERAGE, (3, 3))
            pool.stride_nd, pool.padding_nd, pool.average_count_excludes_padding = (1, 1), (1, 1), excludes
            return pool

        return layer

    check(make(True), padded.sum((-1, -2)) / count)
    check(make(False), padded.sum((-1, -2)) / 9)


def test_padding_pads_and_crops():
    check(lambda n, x: n.add_padding_nd(x, (1, -2), (0, 3)), np.pad(X, ((0, 0), (0, 0), (1, 0), (0, 3)))[..., 2:])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ACTIVATIONS = {
    "RELU": (lambda x: np.maximum(x, 0), {}),
    "SIGMOID": (sigmoid, {}),
    "TANH": (np.tanh, {}),
    "LEAKY_RELU": (lambda x: np.where(x > 0, x, 0.2 * x), {"alpha": 0.2}),
    "ELU": (lambda x: np.where(x > 0, x, 0.5 * np.expm1(x)), {"alpha": 0.5}),
    "SELU": (lambda x: 1.5 * np.where(x > 0, x, 0.5 * np.expm1(x)), {"alpha": 0.5, "beta": 1.5}),
    "SOFTSIGN": (lambda x: x / (1 + np.abs(x)), {}),
    "SOFTPLUS": (lambda x: 2 * np.log1p(np.exp(0.5 * x)), {"alpha": 2, "beta": 0.5}),
    "CLIP": (lambda x: np.clip(x, -0.5, 0.25), {"alpha": -0.5, "beta": 0.25}),
    "HARD_SIGMOID": (lambda x: np.clip(0.3 * x + 0.4, 0, 1), {"alpha": 0.3, "beta": 0.4}),
    "SCALED_TANH": (lambda x: 1.5 * np.tanh(0.5 * x), {"alpha": 1.5, "beta": 0.5}),
    "THRESHOLDED_RELU": (lambda x: np.where(x > 0.3, x, 0), {"alpha": 0.3}),
    "GELU_TANH": (lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))), {}),
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activation(kind):
    function, attributes = ACTIVATIONS[kind]

    def make(network, x):
        layer = network.add_activation(x, getattr(trt.ActivationType, kind))
        for name, value in attributes.items():
            setattr(layer, name, value)
        return layer

    check(make, function(X))


ELEMENTWISE = {
    "SUM": np.add,
    "PROD": np.multiply,
    "MAX": np.maximum,
    "MIN": np.minimum,
    "SUB": np.subtract,
    "DIV": np.divide,
    "FLOOR_DIV": lambda a, b: np.floor(a / b),
    "EQUAL": np.equal,
    "GREATER": np.greater,
    "LESS": np.less,
}


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_elementwise(op):
    check(lambda n, a, b: n.add_elementwise(a, b, getattr(trt.ElementWiseOperation, op)), ELEMENTWISE[op](X, Y), (X, Y))


def test_floor_division_of_integers_rounds_down():
    a, b = np.array([7, -7, 7, -7, 6], np.int32), np.array([2, 2, -2, -2, 3], np.int32)
    check(lambda n, x, y: n.add_elementwise(x, y, trt.ElementWiseOperation.FLOOR_DIV), a // b, (a, b))


def test_boolean_operations():
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    for op, function in (("AND", np.logical_and), ("OR", np.logical_or), ("XOR", np.logical_xor)):
        check(
            lambda n, x, y, op=op: n.add_elementwise(x, y, getattr(trt.ElementWiseOperation, op)),
            function(a, b),
            (a, b),
        )


UNARY = {
    "EXP": np.exp,
    "ABS": np.abs,
    "NEG": np.negative,
    "SIN": np.sin,
    "COS": np.cos,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "SIGN": np.sign,
    "ROUND": np.rint,
    "RECIP": np.reciprocal,
    "ATAN": np.arctan,
    "SINH": np.sinh,
    "ASINH": np.arcsinh,
    "ISINF": np.isinf,
    "ISNAN": np.isnan,
}


@pytest.mark.parametrize("op", UNARY)
def test_unary(op):
    check(lambda n, x: n.add_unary(x, getattr(trt.UnaryOperation, op)), UNARY[op](X))


def test_unary_of_positive_numbers():
    positive = np.abs(X) + 0.1
    for op, function in (("LOG", np.log), ("SQRT", np.sqrt), ("ACOSH", lambda x: np.arccosh(x + 1))):

        def make(network, x, op=op):
            if op == "ACOSH":
                one = network.add_constant((1, 1, 1, 1), np.ones(1, np.float32)).get_output(0)
                x = network.add_elementwise(x, one, trt.ElementWiseOperation.SUM).get_output(0)
            return network.add_unary(x, getattr(trt.UnaryOperation, op))

        check(make, function(positive), (positive,))


def test_scale_by_channel_and_by_element():
    shift, scale = random.standard_normal(4).astype(np.float32), random.standard_normal(4).astype(np.float32)
    power = np.full(4, 2, np.float32)
    expected = (X * scale[:, None, None] + shift[:, None, None]) ** 2
    check(lambda n, x: n.add_scale(x, trt.ScaleMode.CHANNEL, shift, scale, power), expected)
    every = random.standard_normal((4, 5, 6)).astype(np.float32)
    check(lambda n, x: n.add_scale_nd(x, trt.ScaleMode.ELEMENTWISE, None, every, None, 1), X * every)
    check(lambda n, x: n.add_scale(x, trt.ScaleMode.UNIFORM, np.array([2], np.float32)), X + 2)


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def test_softmax_and_its_default_axis():
    check(lambda n, x: n.add_softmax(x), softmax(X, 1))

    def make(network, x):
        layer = network.add_softmax(x)
        layer.axes = 1 << 3
        return layer

    check(make, softmax(X, 3))


def test_ragged_softmax_is_zero_behind_the_bounds():
    bounds = np.array([[2], [4], [1]], np.int32)
    expected = np.zeros_like(M)
    for row, (bound,) in enumerate(bounds):
        expected[row, :bound] = softmax(M[row, :bound], 0)
    check(lambda n, x, b: n.add_ragged_softmax(x, b), expected, (M, bounds))


@pytest.mark.parametrize(
    "op,function", [("SUM", np.sum), ("PROD", np.prod), ("MAX", np.max), ("MIN", np.min), ("AVG", np.mean)]
)
def test_reduce(op, function):
    check(
        lambda n, x: n.add_reduce(x, getattr(trt.ReduceOperation, op), 1 << 1 | 1 << 3, True),
        function(X, (1, 3), keepdims=True),
    )
    check(lambda n, x: n.add_reduce(x, getattr(trt.ReduceOperation, op), axes=1 << 2, keep_dims=False), function(X, 2))


def test_topk_gives_values_and_places():
    order = np.argsort(-X, axis=3, kind="stable")[..., :2]

    def make(network, x):
        layer = network.add_topk(x, trt.TopKOperation.MAX, 2, 1 << 3)
        assert layer.get_output(1).dtype is trt.int32
        return [layer.get_output(0), layer.get_output(1)]

    check(make, [np.take_along_axis(X, order, 3), order])


def test_matrix_multiply():
    a, b, v = (random.standard_normal(s).astype(np.float32) for s in ((2, 3, 4), (2, 5, 4), (2, 4)))
    check(
        lambda n, x, y: n.add_matrix_multiply(x, trt.MatrixOperation.NONE, y, trt.MatrixOperation.TRANSPOSE),
        a @ b.transpose(0, 2, 1),
        (a, b),
    )
    check(
        lambda n, x, y: n.add_matrix_multiply(x, trt.MatrixOperation.NONE, y, trt.MatrixOperation.VECTOR),
        np.einsum("bij,bj->bi", a, v),
        (a, v),
    )
    check(
        lambda n, x, y: n.add_matrix_multiply(x, trt.MatrixOperation.VECTOR, y, trt.MatrixOperation.TRANSPOSE),
        np.einsum("bj,bij->bi", v, b),
        (v, b),
    )


def test_einsum_prelu_lrn_cumulative():
    check(lambda n, x, y: n.add_einsum([x, y], "nchw,nchv->nwv"), np.einsum("nchw,nchv->nwv", X, Y), (X, Y))
    slope = np.array([0.1, 0.2, 0.3, 0.4], np.float32).reshape(1, 4, 1, 1)

    def prelu(network, x):
        return network.add_parametric_relu(x, network.add_constant(slope.shape, slope).get_output(0))

    check(prelu, np.where(X < 0, X * slope, X))
    squares = np.pad(X**2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    total = squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:]
    check(lambda n, x: n.add_lrn(x, 3, 0.3, 0.75, 2.0), X / (2 + 0.1 * total) ** 0.75)

    def cumulative(network, x):
        axis = network.add_constant((), np.array(1, np.int32)).get_output(0)
        return network.add_cumulative(x, axis, trt.CumulativeOperation.SUM, False, False)

    check(cumulative, np.cumsum(M, 1), (M,))


def test_normalization_over_layers_and_groups():
    scale, bias = random.standard_normal((1, 1, 5, 6)).astype(np.float32), random.standard_normal((1, 1, 5, 6)).astype(
        np.float32
    )

    def layer(network, x):
        s, b = (network.add_constant(w.shape, w).get_output(0) for w in (scale, bias))
        norm = network.add_normalization(x, s, b, 1 << 2 | 1 << 3)
        norm.epsilon = 1e-3
        return norm

    check(layer, (X - X.mean((2, 3), keepdims=True)) / np.sqrt(X.var((2, 3), keepdims=True) + 1e-3) * scale + bias)
    per_channel = random.standard_normal((1, 4, 1, 1)).astype(np.float32)

    def group(network, x):
        s = network.add_constant(per_channel.shape, per_channel).get_output(0)
        norm = network.add_normalization(x, s, s, 1 << 2 | 1 << 3)
        norm.num_groups = 2
        return norm

    grouped = X.reshape(2, 2, -1)
    normal = ((grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + 1e-5)).reshape(
        X.shape
    )
    check(group, normal * per_channel + per_channel)


@pytest.mark.parametrize("dynamic", [False, True])
def test_shuffle_transposes_reshapes_and_transposes(dynamic):
    def make(network, x):
        layer = network.add_shuffle(x)
        layer.first_transpose = (0, 2, 3, 1)
        layer.reshape_dims = (0, 15, -1)
        layer.second_transpose = trt.Permutation([0, 2, 1])
        return layer

    check(make, X.transpose(0, 2, 3, 1).reshape(2, 15, -1).transpose(0, 2, 1), dynamic=dynamic)


def test_shuffle_to_a_computed_shape():
    def make(network, x):
        shape = network.add_shape(x).get_output(0)
        turned = network.add_gather(
            shape, network.add_constant((4,), np.array([1, 0, 3, 2], np.int32)).get_output(0), 0
        )
        layer = network.add_shuffle(x)
        layer.set_input(1, turned.get_output(0))
        return layer

    check(make, X.reshape(4, 2, 6, 5), dynamic=False)


def test_slice_inside_and_beyond_the_bounds():
    check(lambda n, x: n.add_slice(x, (0, 1, 0, 5), (2, 2, 5, 3), (1, 2, 1, -2)), X[:, 1:4:2, :, [5, 3, 1]])
    v = np.arange(4, dtype=np.float32)
    places = np.arange(-2, 7)
    wanted = {
        "WRAP": v[places % 4],
        "CLAMP": v[np.clip(places, 0, 3)],
        "FILL": np.where((places >= 0) & (places < 4), v[places % 4], 0),
        "REFLECT": v[[2, 1, 0, 1, 2, 3, 2, 1, 0]],
    }
    for mode, expected in wanted.items():

        def make(network, x, mode=mode):
            layer = network.add_slice(x, (-2,), (9,), (1,))
            layer.mode = getattr(trt.SampleMode, mode)
            return layer

        check(make, expected, (v,))


def test_slice_with_a_computed_size():
    def make(network, x):
        layer = network.add_slice(x, (0, 0, 0, 0), (0, 0, 0, 0), (1, 1, 1, 1))
        shape = network.add_shape(x).get_output(0)
        one = network.add_constant((4,), np.array([0, 1, 2, 3], np.int64)).get_output(0)
        layer.set_input(2, network.add_elementwise(shape, one, trt.ElementWiseOperation.SUB).get_output(0))
        return layer

    check(make, X[:, :3, :3, :3], dynamic=True)


def test_concatenation_gather_scatter():
    def concat(network, a, b):
        layer = network.add_concatenation([a, b])
        layer.axis = 2
        return layer

    check(concat, np.concatenate([X, Y], 2), (X, Y))
    check(lambda n, a, b: n.add_concatenation([a, b]), np.concatenate([X, Y], 1), (X, Y))
    index = np.array([[2, 0], [1, 1]], np.int32)
    check(lambda n, x, i: n.add_gather(x, i, 1), np.take(X, index, 1), (X, index))
    places = np.array([[0, 1, 0, 2], [1, 2, 2, 0], [2, 0, 1, 1]], np.int64)

    def elements(network, x, i):
        layer = network.add_gather_v2(x, i, trt.GatherMode.ELEMENT)
        layer.axis = 0
        return layer

    check(elements, np.take_along_axis(M, places, 0), (M, places))
    pairs = np.array([[0, 1], [2, 3]], np.int32)
    check(lambda n, x, i: n.add_gather_v2(x, i, trt.GatherMode.ND), M[[0, 2], [1, 3]], (M, pairs))
    batched = np.array([[0, 1], [3, 2]], np.int32)

    def in_batch(network, x, i):
        layer = network.add_gather(x, i, 1)
        layer.num_elementwise_dims = 1
        return layer

    check(in_batch, np.stack([X[b][batched[b]] for b in range(2)]), (X, batched))
    updates = np.array([10, 20], np.float32)
    expected = M.copy()
    expected[[0, 2], [1, 3]] = updates
    check(lambda n, x, i, u: n.add_scatter(x, i, u, trt.ScatterMode.ND), expected, (M, pairs, updates))


def test_constant_identity_cast_select_one_hot_nonzero():
    check(
        lambda n, x: n.add_elementwise(x, n.add_constant(M.shape, M).get_output(0), trt.ElementWiseOperation.PROD),
        M * M,
        (M,),
    )
    check(lambda n, x: [n.add_identity(x), n.add_cast(x, trt.int32)], [X, X.astype(np.int32)])
    check(lambda n, c, a, b: n.add_select(c, a, b), np.where(X > 0, X, Y), (X > 0, X, Y))
    check(lambda n, x: n.add_non_zero(x), np.stack(np.nonzero(X > 0)), (X > 0,))
    index = np.array([1, 0, 2], np.int32)

    def hot(network, i):
        values = network.add_constant((2,), np.array([0, 5], np.float32)).get_output(0)
        depth = network.add_constant((), np.array(3, np.int32)).get_output(0)
        return network.add_one_hot(i, values, depth, -1)

    check(hot, 5 * np.eye(3, dtype=np.float32)[index], (index,))


def test_resize_by_scales_and_to_a_shape():
    def nearest(network, x):
        layer = network.add_resize(x)
        layer.scales = [1, 1, 2, 2]
        return layer

    check(nearest, X.repeat(2, 2).repeat(2, 3))

    def linear(network, x):
        layer = network.add_resize(x)
        layer.shape = (2, 4, 9, 11)
        layer.resize_mode = trt.InterpolationMode.LINEAR
        layer.coordinate_transformation = trt.ResizeCoordinateTransformation.ALIGN_CORNERS
        return layer

    rows = np.stack(
        [X[:, :, i // 2] if i % 2 == 0 else (X[:, :, i // 2] + X[:, :, i // 2 + 1]) / 2 for i in range(9)], 2
    )
    both = np.stack(
        [rows[..., i // 2] if i % 2 == 0 else (rows[..., i // 2] + rows[..., i // 2 + 1]) / 2 for i in range(11)], 3
    )
    check(linear, both)


def test_fill_squeeze_unsqueeze_reverse():
    def fill(network, x):
        layer = network.add_fill((5,), trt.FillOperation.LINSPACE, trt.float32)
        layer.alpha, layer.beta = 1.0, 0.5
        return layer

    check(fill, 1 + 0.5 * np.arange(5), (M,))

    def axes(network, *numbers):
        return network.add_constant((len(numbers),), np.array(numbers, np.int64)).get_output(0)

    check(lambda n, x: n.add_unsqueeze(x, axes(n, 0, 2)), M[None, :, None], (M,))
    check(lambda n, x: n.add_squeeze(x, axes(n, 1)), M, (M[:, None],))
    lengths = np.array([1, 3, 2, 3], np.int32)
    expected = M.copy()
    for column, length in enumerate(lengths):
        expected[:length, column] = M[:length, column][::-1]
    check(lambda n, x, l: n.add_reverse_sequence(x, l), expected, (M, lengths))


def test_quantize_and_dequantize_round_to_the_grid():
    def make(network, x):
        scale = network.add_constant((), np.array(0.1, np.float32)).get_output(0)
        q = network.add_quantize(x, scale)
        return network.add_dequantize(q.get_output(0), scale)

    check(make, np.clip(np.rint(X / np.float32(0.1)), -128, 127) * np.float32(0.1))


def test_grid_sample_at_the_pixels_gives_them_back():
    ys, xs = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 6), indexing="ij")
    grid = np.broadcast_to(np.stack([xs, ys], -1), (2, 5, 6, 2)).astype(np.float32)

    def make(network, x, g):
        layer = network.add_grid_sample(x, g)
        layer.align_corners = True
        return layer

    check(make, X, (X, grid))


def test_nms_keeps_the_best_of_overlapping_boxes():
    boxes = np.array([[[[0, 0, 1, 1]], [[0, 0, 1, 1.1]], [[2, 2, 3, 3]]]], np.float32)
    scores = np.array([[[0.5], [0.9], [0.3]]], np.float32)

    def make(network, b, s):
        limit = network.add_constant((), np.array(5, np.int32)).get_output(0)
        layer = network.add_nms(b, s, limit)
        layer.set_input(3, network.add_constant((), np.array(0.5, np.float32)).get_output(0))
        return [layer.get_output(0), layer.get_output(1)]

    check(make, [np.array([[0, 0, 1], [0, 0, 2]]), np.array(2)], (boxes, scores))


def test_attention_is_softmax_of_products():
    q, k, v = (random.standard_normal((1, 2, 3, 4)).astype(np.float32) for _ in range(3))

    def make(network, a, b, c):
        attention = network.add_attention(a, b, c, trt.AttentionNormalizationOp.SOFTMAX, True)
        assert attention.causal
        return attention

    scores = np.where(np.tril(np.ones((3, 3), bool)), q @ k.transpose(0, 1, 3, 2), -np.inf)
    check(make, softmax(scores, 3) @ v, (q, k, v))


def test_a_loop_counts_and_stacks():
    """x doubles in each of four iterations; rows of an iterated matrix are added up."""

    def make(network, x):
        loop = network.add_loop()
        loop.add_trip_limit(network.add_constant((), np.array(3, np.int32)).get_output(0), trt.TripLimit.COUNT)
        rows = loop.add_iterator(x, 0)
        start = network.add_constant((4,), np.zeros(4, np.float32)).get_output(0)
        total = loop.add_recurrence(start)
        added = network.add_elementwise(total.get_output(0), rows.get_output(0), trt.ElementWiseOperation.SUM)
        assert tuple(added.get_output(0).shape) == (4,)
        total.set_input(1, added.get_output(0))
        last = loop.add_loop_output(total.get_output(0), trt.LoopOutput.LAST_VALUE)
        every = loop.add_loop_output(added.get_output(0), trt.LoopOutput.CONCATENATE, 0)
        reverse = loop.add_loop_output(added.get_output(0), trt.LoopOutput.REVERSE, 1)
        return [last, every, reverse]

    sums = np.cumsum(M, 0)
    check(make, [sums[-1], sums, sums[::-1].T], (M,))


def test_a_while_loop_looks_before_each_iteration():
    start = np.array([1.0], np.float32)

    def make(network, x):
        loop = network.add_loop()
        value = loop.add_recurrence(x)
        limit = network.add_constant((1,), np.array([100], np.float32)).get_output(0)
        less = network.add_elementwise(value.get_output(0), limit, trt.ElementWiseOperation.LESS)
        scalar = network.add_shuffle(less.get_output(0))
        scalar.reshape_dims = ()
        loop.add_trip_limit(scalar.get_output(0), trt.TripLimit.WHILE)
        doubled = network.add_elementwise(value.get_output(0), value.get_output(0), trt.ElementWiseOperation.SUM)
        value.set_input(1, doubled.get_output(0))
        return loop.add_loop_output(value.get_output(0), trt.LoopOutput.LAST_VALUE)

    check(make, np.array([128.0]), (start,))
    check(make, np.array([200.0]), (np.array([200.0], np.float32),))  # no iteration at all


def test_a_condition_chooses_a_branch():
    def make(network, c, x):
        conditional = network.add_if_conditional()
        conditional.set_condition(c)
        inside = conditional.add_input(x).get_output(0)
        doubled = network.add_elementwise(inside, inside, trt.ElementWiseOperation.SUM).get_output(0)
        negated = network.add_unary(inside, trt.UnaryOperation.NEG).get_output(0)
        return conditional.add_output(doubled, negated)

    check(make, 2 * M, (np.array(True), M))
    check(make, -M, (np.array(False), M))


def test_an_assertion_is_checked_when_building():
    builder, network, config, logger = new_network()
    x = network.add_input("x", trt.float32, (2,))
    network.add_assertion(network.add_constant((), np.array(False)).get_output(0), "two is not three")
    network.mark_output(network.add_identity(x).get_output(0))
    assert builder.build_serialized_network(network, config) is None
    assert "two is not three" in logger.errors()[0]


@pytest.mark.parametrize(
    "add",
    [
        lambda n, x: n.add_rnn_v2(x, 1, 8, 4, trt.RNNOperation.LSTM),
        lambda n, x: n.add_moe(x, x, x),
        lambda n, x: n.add_plugin_v2([x], None),
        lambda n, x: n.add_dist_collective(x, None, None, 0, None),
    ],
)
def test_refused_layers_say_what_to_use(add):
    _, network, _, _ = new_network()
    with pytest.raises(trt.Error, match="not supported by Tenfold; use") as raised:
        add(network, network.add_input("x", trt.float32, (2, 3)))
    assert raised.value.code == "unsupported"
