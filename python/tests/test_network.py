"""Networks built by hand, or read from a model and changed, through the layer that `tensorrt` stands on."""

import numpy as np
import pytest
from conftest import code_of, make_model
from onnx import helper

import tenfold
from tenfold import _core


def run(network, inputs, **options):
    result = _core.compile(network, **options)
    return tenfold.Engine.load(result.engine)(inputs)


def test_types_are_known_at_once():
    network = _core.Network()
    x = network.add_input("x", "float32", ["batch", 3, -1])
    info = network.value_info(x)
    assert (info.name, info.dtype, info.shape) == ("x", "float32", ("batch", 3, '"x#2"'))
    (y,) = network.add_node("Transpose", [x], {"perm": [0, 2, 1]}, name="t")
    assert network.value_info(y).shape == ("batch", '"x#2"', 3)
    assert network.known_elements(network.add_node("Shape", [x])[0]) == ["batch", "3", '"x#2"']


def test_a_network_compiles_and_runs():
    network = _core.Network()
    x = network.add_input("x", np.float32, ["n", 2])
    w = network.add_constant(np.float32([[1, 0, 2], [0, 1, 3]]), "w")
    (y,) = network.add_node("Gemm", [x, w, -1], {"alpha": 2.0}, name="gemm")
    network.mark_output(y, "result")
    shapes = ((1, 2), (1, 2), (4, 2))
    data = np.float32([[1, 2]])
    result = run(network, {"x": data}, profiles=[{"x": shapes}])
    np.testing.assert_array_equal(result["result"], [[2, 4, 16]])
    network.unmark_output(y)
    with pytest.raises(tenfold.Error, match="no outputs") as error:
        _core.compile(network)
    assert code_of(error) == "invalid_argument"


def test_attributes_of_all_kinds_go_in_and_out():
    network = _core.Network()
    x = network.add_input("x", "float32", [1, 1, 4, 4])
    w = network.add_constant(np.ones((1, 1, 3, 3), np.float32))
    network.add_node("Conv", [x, w], {"pads": (1, 1, 1, 1), "auto_pad": "NOTSET", "group": np.int64(1)}, name="c")
    network.add_node("Constant", [], {"value": np.arange(3, dtype=np.int64)}, name="k")
    network.add_node("Elu", [x], {"alpha": np.float32(0.5)})
    conv, constant, elu = network.nodes()
    assert conv.attributes == {"pads": [1, 1, 1, 1], "auto_pad": "NOTSET", "group": 1}
    np.testing.assert_array_equal(constant.attributes["value"], [0, 1, 2])
    assert elu.attributes == {"alpha": 0.5}
    np.testing.assert_array_equal(network.constant_value(constant.outputs[0]), [0, 1, 2])
    assert network.constant_value(x) is None


def test_wrong_nodes_change_nothing():
    network = _core.Network()
    x = network.add_input("x", "float32", [2, 3])
    for call, code, message in [
        (lambda: network.add_node("MatMul", [x, x], name="m"), "invalid_model", "node 'm' (MatMul): "),
        (lambda: network.add_node("Nope", [x]), "unsupported", "operator Nope"),
        (lambda: network.add_node("Relu", [x], domain="com.microsoft"), "unsupported", "com.microsoft"),
        (lambda: network.add_node("Relu", [99]), "invalid_argument", "value 99"),
        (lambda: network.add_node("Relu", [x], opset=99), "unsupported", "opset 99"),
        (lambda: network.add_node("Relu", [x], num_outputs=0), "invalid_argument", "0 outputs"),
        (lambda: network.add_node("Elu", [x], {"alpha": [1, "a"]}), "invalid_argument", "attribute 'alpha'"),
        (lambda: network.add_node("Elu", [x], {"alpha": None}), "invalid_argument", "attribute 'alpha'"),
        (lambda: network.add_input("x", "float32", [1]), "invalid_argument", "'x'"),
        (lambda: network.add_input("", "float32", [1]), "invalid_argument", "name"),
        (lambda: network.add_input("z", "float99", [1]), "invalid_argument", "float99"),
        (lambda: network.add_input("z", "float32", [-2]), "invalid_argument", "axis 0"),
        (lambda: network.add_input("z", "float32", [1] * 20), "unsupported", "rank 20"),
        (lambda: network.add_constant("text"), "invalid_argument", "an array was expected"),
        (lambda: network.set_value_name(x, ""), "invalid_argument", "name"),
        (lambda: network.value_info(1 << 20), "invalid_argument", "no value"),
        (lambda: network.unmark_output(x), "invalid_argument", "not marked"),
        (lambda: network.truncate(1), "invalid_argument", "0 nodes"),
        (lambda: network.node(0), "invalid_argument", "node 0"),
        (lambda: network.set_constant(x, np.float32(1)), "invalid_argument", "no constant"),
    ]:
        with pytest.raises(tenfold.Error) as error:
            call()
        assert message in str(error.value) and code_of(error) == code
    assert network.num_nodes == 0


def test_a_node_is_replaced_by_truncating_and_adding_anew():
    network = _core.Network()
    x = network.add_input("x", "float32", [2])
    first = network.add_node("Neg", [x], name="first")
    network.add_node("Elu", first, {"alpha": 1.0}, name="second")
    network.truncate(1)
    (second,) = network.add_node("Elu", first, {"alpha": 3.0}, name="second")
    assert network.value_info(second).name == "second"
    network.mark_output(second)
    np.testing.assert_allclose(run(network, np.float32([1, -1])), [3 * (np.exp(-1) - 1), 1], rtol=1e-6)


def test_constants_are_replaced():
    network = _core.Network()
    x = network.add_input("x", "float32", [2])
    c = network.add_constant(np.float32([1, 2]), "c")
    network.mark_output(network.add_node("Add", [x, c])[0])
    network.set_constant(c, np.float32([10, 20]))
    np.testing.assert_array_equal(run(network, np.zeros(2, np.float32)), [10, 20])
    with pytest.raises(tenfold.Error, match="'c' is float32"):
        network.set_constant(c, np.float32([1, 2, 3]))


def test_a_model_becomes_a_network_with_one_entry_for_each_node(affine_bytes):
    network, problems = _core.Network.from_onnx(affine_bytes)
    assert not problems
    assert [(n.name, n.op_type, n.model_index, n.opset) for n in network.nodes()] == [
        ("mul", "Mul", 0, 17),
        ("add", "Add", 1, 17),
    ]
    (y,) = network.outputs
    assert network.value_info(y).name == "y"
    (z,) = network.add_node("Neg", [y], name="z")
    network.unmark_output(y)
    network.mark_output(z)
    copy = network.copy()
    network.truncate(0)
    np.testing.assert_array_equal(run(copy, np.ones((1, 3), np.float32), profiles=[{"x": ((1, 3),) * 3}]), [[-3] * 3])


def test_problems_name_the_node():
    model = make_model(
        [
            helper.make_node("Relu", ["x"], ["a"], "good"),
            helper.make_node("Nope", ["a"], ["b"], "bad"),
            helper.make_node("Neg", ["b"], ["c"], "after"),
        ],
        [("x", [1])],
        [("c", [1])],
    )
    network, (problem,) = _core.Network.from_onnx(model)
    assert (problem.node, problem.op_type, problem.node_index, problem.code) == ("bad", "Nope", 1, "unsupported")
    assert network.support_groups() == [([0], True), ([1], False), ([2], True)]
    network, (problem,) = _core.Network.from_onnx(b"nothing")
    assert network is None and problem.code == "invalid_model"
    network, (problem,) = _core.Network.from_onnx("missing.onnx")
    assert network is None and problem.code == "io_failure"


def test_a_network_outlives_nothing_it_needs():
    def make():
        network = _core.Network()
        x = network.add_input("x", "float32", [3])
        c = network.add_constant(np.arange(3, dtype=np.float32))
        network.mark_output(network.add_node("Mul", [x, c])[0])
        return network.copy()

    np.testing.assert_array_equal(run(make(), np.float32([1, 1, 1])), [0, 1, 2])


def test_operators_are_known_by_name():
    assert _core.supports_operator("Conv") and not _core.supports_operator("Nope")
    assert not _core.supports_operator("Conv", "com.microsoft")
    assert _core.Network.newest_opset >= 22
