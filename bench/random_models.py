#!/usr/bin/env python3
"""Writes well-known architectures with random weights: for speed, which does not depend on what was learnt.

Usage: random_models.py FOLDER

ResNet-50 (He et al. 2015, arXiv:1512.03385, with the stride in the 3x3 convolution), MobileNetV2 (arXiv:1801.04381),
MobileNetV3-Large (arXiv:1905.02244), MiniLM-L6 and BERT-base (arXiv:1810.04805) on 128 tokens, YOLOv8n on 640x640. Batch 1.
A file that is there is not written again; the same seed gives the same weights.
"""

import pathlib
import sys

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """A graph that grows node by node; values are known by their names."""

    def __init__(self, name):
        self.name = name
        self.generator = numpy.random.default_rng(0)
        self.nodes, self.constants = [], []

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(numpy.ascontiguousarray(value), name))
        return name

    def floats(self, value):
        return self.constant(numpy.asarray(value, numpy.float32))

    def integers(self, *values):
        return self.constant(numpy.asarray(values, numpy.int64))

    def normal(self, shape, deviation):
        return self.floats(self.generator.standard_normal(shape) * deviation)

    def op(self, kind, *inputs, outputs=1, **attributes):
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"{kind}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def activation(self, x, kind):
        if kind == "relu":
            return self.op("Relu", x)
        if kind == "relu6":
            return self.op("Clip", x, self.floats(0), self.floats(6))
        if kind == "silu":
            return self.op("Mul", x, self.op("Sigmoid", x))
        if kind == "hard_swish":
            return self.op("HardSwish", x)
        return x

    def conv(self, x, channels, filters, size, stride=1, group=1, activation=None):
        depth = channels // group * size * size
        weights = self.normal((filters, channels // group, size, size), (2 / depth) ** 0.5)
        y = self.op("Conv", x, weights, self.normal(filters, 0.01), kernel_shape=[size, size], strides=[stride, stride], pads=[size // 2] * 4, group=group)
        return self.activation(y, activation)

    def classifier(self, x, channels):
        x = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.dense(x, channels)

    def dense(self, x, channels, classes=1000):
        return self.op("Gemm", x, self.normal((classes, channels), 0.02), self.floats(numpy.zeros(classes)), transB=1)

    def model(self, inputs, output, opset=17):
        """:param inputs: name -> (element type, shape)."""
        graph = helper.make_graph(self.nodes, self.name, [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
                                  [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        model = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(model)
        return model


def image(size):
    return {"x": (TensorProto.FLOAT, [1, 3, size, size])}


def resnet50():
    b = Builder("resnet50")
    x = b.conv("x", 3, 64, 7, 2, activation="relu")
    x = b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for width, blocks, first_stride in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            y = b.conv(x, channels, width, 1, activation="relu")
            y = b.conv(y, width, width, 3, stride, activation="relu")
            y = b.conv(y, width, 4 * width, 1)
            if block == 0:
                x = b.conv(x, channels, 4 * width, 1, stride)
            x = b.op("Relu", b.op("Add", y, x))
            channels = 4 * width
    return b.model(image(224), b.classifier(x, channels))


def mbv2():
    b = Builder("mbv2")
    x = b.conv("x", 3, 32, 3, 2, activation="relu6")
    channels = 32
    for factor, width, blocks, first_stride in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            hidden = factor * channels
            y = b.conv(x, channels, hidden, 1, activation="relu6") if factor != 1 else x
            y = b.conv(y, hidden, hidden, 3, stride, group=hidden, activation="relu6")
            y = b.conv(y, hidden, width, 1)
            x = b.op("Add", x, y) if stride == 1 and channels == width else y
            channels = width
    x = b.conv(x, channels, 1280, 1, activation="relu6")
    return b.model(image(224), b.classifier(x, 1280))


# kernel, expanded channels, channels out, squeeze-and-excite, activation, stride (table 1 of the paper)
MBV3_LARGE = [(3, 16, 16, False, "relu", 1), (3, 64, 24, False, "relu", 2), (3, 72, 24, False, "relu", 1), (5, 72, 40, True, "relu", 2),
              (5, 120, 40, True, "relu", 1), (5, 120, 40, True, "relu", 1), (3, 240, 80, False, "hard_swish", 2), (3, 200, 80, False, "hard_swish", 1),
              (3, 184, 80, False, "hard_swish", 1), (3, 184, 80, False, "hard_swish", 1), (3, 480, 112, True, "hard_swish", 1),
              (3, 672, 112, True, "hard_swish", 1), (5, 672, 160, True, "hard_swish", 2), (5, 960, 160, True, "hard_swish", 1), (5, 960, 160, True, "hard_swish", 1)]


def mbv3():
    b = Builder("mbv3")
    x = b.conv("x", 3, 16, 3, 2, activation="hard_swish")
    channels = 16
    for size, hidden, width, squeezes, activation, stride in MBV3_LARGE:
        y = b.conv(x, channels, hidden, 1, activation=activation) if hidden != channels else x
        y = b.conv(y, hidden, hidden, size, stride, group=hidden, activation=activation)
        if squeezes:
            middle = max(8, (hidden // 4 + 4) // 8 * 8)
            z = b.conv(b.op("GlobalAveragePool", y), hidden, middle, 1, activation="relu")
            z = b.op("HardSigmoid", b.conv(z, middle, hidden, 1), alpha=1 / 6, beta=0.5)
            y = b.op("Mul", y, z)
        y = b.conv(y, hidden, width, 1)
        x = b.op("Add", x, y) if stride == 1 and channels == width else y
        channels = width
    x = b.op("GlobalAveragePool", b.conv(x, channels, 960, 1, activation="hard_swish"))
    x = b.op("Flatten", b.conv(x, 960, 1280, 1, activation="hard_swish"))
    return b.model(image(224), b.dense(x, 1280))


def bert(name, layers, width, heads, hidden, tokens=128, words=1000):
    b = Builder(name)

    def linear(x, fan_in, fan_out):
        return b.op("Add", b.op("MatMul", x, b.normal((fan_in, fan_out), 0.02)), b.normal(fan_out, 0.02))

    def norm(x):
        return b.op("LayerNormalization", x, b.floats(numpy.ones(width)), b.floats(numpy.zeros(width)), axis=-1, epsilon=1e-12)

    def split_heads(x, order):
        return b.op("Transpose", b.op("Reshape", x, b.integers(0, 0, heads, width // heads)), perm=order)

    x = b.op("Gather", b.normal((words, width), 0.02), "ids")
    x = norm(b.op("Add", x, b.normal((1, tokens, width), 0.02)))
    mask = b.op("Mul", b.op("Sub", b.floats(1), b.op("Cast", "mask", to=TensorProto.FLOAT)), b.floats(-10000))
    mask = b.op("Unsqueeze", mask, b.integers(1, 2))
    for _ in range(layers):
        query = split_heads(linear(x, width, width), [0, 2, 1, 3])
        key = split_heads(linear(x, width, width), [0, 2, 3, 1])
        value = split_heads(linear(x, width, width), [0, 2, 1, 3])
        scores = b.op("Div", b.op("MatMul", query, key), b.floats((width // heads) ** 0.5))
        weights = b.op("Softmax", b.op("Add", scores, mask), axis=-1)
        y = b.op("Transpose", b.op("MatMul", weights, value), perm=[0, 2, 1, 3])
        x = norm(b.op("Add", linear(b.op("Reshape", y, b.integers(0, 0, width)), width, width), x))
        y = linear(x, width, hidden)
        gate = b.op("Add", b.op("Erf", b.op("Div", y, b.floats(2**0.5))), b.floats(1))
        y = b.op("Mul", b.op("Mul", y, gate), b.floats(0.5))
        x = norm(b.op("Add", linear(y, hidden, width), x))
    return b.model({name: (TensorProto.INT64, [1, tokens]) for name in ("ids", "mask")}, x)


def yolov8n():
    b = Builder("yolov8n")

    def conv(x, channels, filters, size=1, stride=1):
        return b.conv(x, channels, filters, size, stride, activation="silu")

    def c2f(x, channels, filters, blocks=1, adds=True):
        half = filters // 2
        parts = list(b.op("Split", conv(x, channels, filters), outputs=2, axis=1, num_outputs=2))
        for _ in range(blocks):
            y = conv(conv(parts[-1], half, half, 3), half, half, 3)
            parts.append(b.op("Add", parts[-1], y) if adds else y)
        return conv(b.op("Concat", *parts, axis=1), (2 + blocks) * half, filters)

    def twice(x):
        return b.op("Resize", x, "", b.floats([1, 1, 2, 2]), mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")

    x = conv(conv("x", 3, 16, 3, 2), 16, 32, 3, 2)
    x = conv(c2f(x, 32, 32), 32, 64, 3, 2)
    p3 = c2f(x, 64, 64, 2)
    p4 = c2f(conv(p3, 64, 128, 3, 2), 128, 128, 2)
    x = c2f(conv(p4, 128, 256, 3, 2), 256, 256)
    pools = [conv(x, 256, 128)]
    for _ in range(3):
        pools.append(b.op("MaxPool", pools[-1], kernel_shape=[5, 5], pads=[2, 2, 2, 2], strides=[1, 1]))
    p5 = conv(b.op("Concat", *pools, axis=1), 512, 256)
    n4 = c2f(b.op("Concat", twice(p5), p4, axis=1), 384, 128, adds=False)
    n3 = c2f(b.op("Concat", twice(n4), p3, axis=1), 192, 64, adds=False)
    o4 = c2f(b.op("Concat", conv(n3, 64, 64, 3, 2), n4, axis=1), 192, 128, adds=False)
    o5 = c2f(b.op("Concat", conv(o4, 128, 128, 3, 2), p5, axis=1), 384, 256, adds=False)
    scales = []
    for x, channels in [(n3, 64), (o4, 128), (o5, 256)]:
        boxes = b.conv(conv(conv(x, channels, 64, 3), 64, 64, 3), 64, 64, 1)
        classes = b.conv(conv(conv(x, channels, 80, 3), 80, 80, 3), 80, 80, 1)
        scales.append(b.op("Reshape", b.op("Concat", boxes, classes, axis=1), b.integers(0, 144, -1)))
    boxes, classes = b.op("Split", b.op("Concat", *scales, axis=2), b.integers(64, 80), outputs=2, axis=1)
    boxes = b.op("Softmax", b.op("Reshape", boxes, b.integers(0, 4, 16, -1)), axis=2)
    boxes = b.op("ReduceSum", b.op("Mul", boxes, b.floats(numpy.arange(16).reshape(1, 1, 16, 1))), b.integers(2), keepdims=0)
    return b.model(image(640), b.op("Concat", boxes, b.op("Sigmoid", classes), axis=1), opset=18)


MODELS = {"resnet50": resnet50, "mbv2": mbv2, "mbv3": mbv3, "minilm": lambda: bert("minilm", 6, 384, 12, 1536),
          "bertbase": lambda: bert("bertbase", 12, 768, 12, 3072), "yolov8n": yolov8n}


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in MODELS.items():
        path = folder / f"{name}.onnx"
        if not path.exists():
            temporary = path.with_suffix(".part")
            onnx.save(make(), str(temporary))
            temporary.rename(path)


if __name__ == "__main__":
    main()
