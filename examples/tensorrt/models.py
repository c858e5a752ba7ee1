"""Small models for the examples: an image classifier with a batch that is not fixed, and one with a broken node."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def classifier(size=32, classes=10, seed=0):
    """input: float32 [batch, 3, size, size]; scores: float32 [batch, classes]. The weights depend on `seed` only."""
    random = np.random.default_rng(seed)

    def weights(name, *shape):
        values = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array(values.astype(np.float32), name)

    nodes = [
        helper.make_node(
            "Conv", ["input", "w1", "b1"], ["c1"], "conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]
        ),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node(
            "Conv", ["r1", "w2", "b2"], ["c2"], "conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]
        ),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], "dense", transB=1),
        helper.make_node("Softmax", ["logits"], ["scores"], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", classes])],
        [
            weights("w1", 16, 3, 3, 3),
            weights("b1", 16),
            weights("w2", 32, 16, 3, 3),
            weights("b2", 32),
            weights("w3", classes, 32),
            weights("b3", classes),
        ],
    )
    return _bytes(graph)


def broken():
    """A model with an operator that does not exist, and one whose operands do not fit."""
    nodes = [
        helper.make_node("Relu", ["input"], ["r"], "relu"),
        helper.make_node("FancyActivation", ["r"], ["a"], "fancy"),
        helper.make_node("MatMul", ["r", "w"], ["b"], "product"),
    ]
    graph = helper.make_graph(
        nodes,
        "broken",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [2, 4])],
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [2, 4]),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [2, 3]),
        ],
        [numpy_helper.from_array(np.zeros((5, 3), np.float32), "w")],
    )
    return _bytes(graph)


def _bytes(graph):
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
