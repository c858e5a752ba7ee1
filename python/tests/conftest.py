"""Small models for the tests, made with the onnx package."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tenfold


def make_model(nodes, inputs, outputs, initializers=(), opset=17):
    """Bytes of a model. inputs and outputs: (name, shape) or (name, shape, dtype)."""

    def info(spec):
        name, shape, *dtype = spec
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype[0] if dtype else "float32"))
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        nodes,
        "test",
        [info(i) for i in inputs],
        [info(o) for o in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in initializers],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model.SerializeToString()


@pytest.fixture(scope="session")
def affine_bytes():
    """y = 2x + 1, x: float32[n, 3]."""
    return make_model(
        [
            helper.make_node("Mul", ["x", "two"], ["scaled"], "mul"),
            helper.make_node("Add", ["scaled", "one"], ["y"], "add"),
        ],
        [("x", ["n", 3])],
        [("y", ["n", 3])],
        [("two", np.float32([2])), ("one", np.float32([1]))],
    )


@pytest.fixture(scope="session")
def affine(affine_bytes):
    return tenfold.compile(affine_bytes, shapes={"x": ((1, 3), (2, 3), (64, 3))}, threads=2)


@pytest.fixture(scope="session")
def slow_model():
    """Bytes of a model whose build takes a few seconds: many convolutions of different sizes."""
    rng = np.random.default_rng(1)
    nodes, initializers, name = [], [], "x"
    for i in range(24):
        kernel = 3 if i % 2 else 5
        weights = rng.standard_normal((16 + i + 1, 16 + i, kernel, kernel), dtype=np.float32)
        initializers.append((f"w{i}", weights))
        nodes.append(helper.make_node("Conv", [name, f"w{i}"], [f"c{i}"], f"conv{i}", pads=[kernel // 2] * 4))
        name = f"c{i}"
    return make_model(nodes, [("x", [1, 16, 56, 56])], [(name, [1, 40, 56, 56])], initializers)


def code_of(error):
    return error.value.code


__all__ = ["TensorProto", "code_of", "make_model"]
