"""Polygraphy, unmodified, drives the `tensorrt` module on this machine: the table in docs/tensorrt.md."""

import json
import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper
from tensorrt_environment import REPOSITORY, environment

pytest.importorskip("polygraphy", reason="tools/setup.sh --test installs it")
sys.path.insert(0, str(REPOSITORY / "examples" / "tensorrt"))
import models  # noqa: E402

SIZE = 16
SHAPES = [
    "--trt-min-shapes",
    f"input:[1,3,{SIZE},{SIZE}]",
    "--trt-opt-shapes",
    f"input:[2,3,{SIZE},{SIZE}]",
    "--trt-max-shapes",
    f"input:[4,3,{SIZE},{SIZE}]",
    "--input-shapes",
    f"input:[3,3,{SIZE},{SIZE}]",
]
# Weights of 11 bits through three products, scores below 1.
_MAIN = "import sys; from polygraphy.tools import main; sys.exit(main())"
HALF = ["--fp16", "--atol", "2e-3", "--rtol", "1e-2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """static.onnx, dynamic.onnx, and partly.onnx, whose third node is no operator."""
    folder = tmp_path_factory.mktemp("polygraphy")
    (folder / "dynamic.onnx").write_bytes(models.classifier(SIZE))
    model = onnx.load_from_string(models.classifier(SIZE))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, folder / "static.onnx")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "abcd"]
    nodes = [
        helper.make_node("Relu", ["a"], ["b"], "first"),
        helper.make_node("NoSuchThing", ["b"], ["c"], "second"),
        helper.make_node("Relu", ["c"], ["d"], "third"),
    ]
    graph = helper.make_graph(nodes, "partly", [values[0]], [values[3]], value_info=values[1:3])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "partly.onnx"
    )
    return folder


@pytest.fixture
def polygraphy(folder):
    def run(*arguments, fails=False):
        command = [sys.executable, "-c", _MAIN, *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(folder, TENFOLD_CUDART_SHIM="1", PATH=f"{folder}:/usr/bin:/bin"),
            capture_output=True,
            text=True,
            timeout=3000,
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    # `--check` runs commands by name.
    script = folder / "polygraphy"
    script.write_text(f"#!{sys.executable}\n{_MAIN}\n")
    script.chmod(0o755)
    return run


def test_run_compares_with_onnx_runtime(polygraphy):
    assert "PASSED" in polygraphy("run", "static.onnx", "--trt", "--onnxrt")


def test_run_with_dynamic_shapes(polygraphy):
    text = polygraphy("run", "dynamic.onnx", "--trt", "--onnxrt", *SHAPES)
    assert "PASSED" in text and f"shape=(3, 3, {SIZE}, {SIZE})" in text


def test_run_with_fp16(polygraphy):
    assert "PASSED" in polygraphy("run", "static.onnx", "--trt", "--onnxrt", *HALF)


def test_run_with_all_tensors_as_outputs(polygraphy):
    text = polygraphy(
        "run", "static.onnx", "--trt", "--onnxrt", "--trt-outputs", "mark", "all", "--onnx-outputs", "mark", "all"
    )
    assert "All outputs matched | Outputs: ['c1', 'r1', 'c2', 'r2', 'p', 'f', 'logits', 'scores']" in text


def test_run_notices_a_difference(polygraphy, folder):
    """The comparison is worth something: another model's outputs do not pass."""
    model = onnx.load_from_string(models.classifier(SIZE, seed=1))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, folder / "other.onnx")
    polygraphy("run", "other.onnx", "--onnxrt", "--save-outputs", "other.json")
    assert "FAILED" in polygraphy("run", "static.onnx", "--trt", "--load-outputs", "other.json", fails=True)


def test_convert_and_run_the_plan(polygraphy, folder):
    polygraphy(
        "convert",
        "dynamic.onnx",
        "--convert-to",
        "trt",
        "-o",
        "dynamic.plan",
        *SHAPES[:6],
        "--save-timing-cache",
        "timing.cache",
        "--pool-limit",
        "workspace:64M",
        "--builder-optimization-level",
        "2",
    )
    assert json.loads((folder / "timing.cache").read_text())["entries"]
    polygraphy("run", "dynamic.onnx", "--onnxrt", "--save-inputs", "in.json", "--save-outputs", "out.json", *SHAPES[6:])
    assert "PASSED" in polygraphy(
        "run", "dynamic.plan", "--trt", "--load-inputs", "in.json", "--load-outputs", "out.json"
    )


def test_convert_to_a_drawing_of_the_network(polygraphy, folder):
    polygraphy("convert", "static.onnx", "--convert-to", "onnx-like-trt-network", "-o", "like.onnx")
    assert "CONVOLUTION" in [node.op_type for node in onnx.load(folder / "like.onnx").graph.node]


def test_allocation_strategies(polygraphy):
    for strategy in ("profile", "runtime"):
        assert "PASSED" in polygraphy(
            "run", "dynamic.onnx", "--trt", "--onnxrt", *SHAPES, "--allocation-strategy", strategy
        )


def test_inspect_a_model_and_a_plan(polygraphy):
    text = polygraphy("inspect", "model", "static.onnx", "--show", "layers", "attrs", "weights", "--display-as", "trt")
    assert "LayerType.CONVOLUTION" in text and "conv1.stride_nd = (2, 2)" in text and "ActivationType.RELU" in text
    assert "Error: could not retrieve" not in text
    assert "conv1" in polygraphy("inspect", "model", "static.onnx", "--show", "layers")
    polygraphy("convert", "static.onnx", "--convert-to", "trt", "-o", "static.plan")
    text = polygraphy("inspect", "model", "static.plan", "--show", "layers", "attrs")
    assert "1 Profile(s)" in text and "dense" in text and "[dtype=float32, shape=(1, 10)]" in text


def test_inspect_capability_names_what_is_not_supported(polygraphy, folder):
    text = polygraphy("inspect", "capability", "partly.onnx")
    assert "NoSuchThing" in text and "not supported" in text
    text = polygraphy("inspect", "capability", "partly.onnx", "--with-partitioning")
    assert "NoSuchThing" in text and (folder / "polygraphy_capability_dumps").is_dir()
    assert "fully supported" in polygraphy("inspect", "capability", "static.onnx")


def test_debug_build_builds_until_told(polygraphy, folder):
    polygraphy(
        "debug",
        "build",
        "static.onnx",
        "--until",
        "2",
        "--artifacts",
        "timing2.cache",
        "--save-timing-cache",
        "timing2.cache",
        "--artifacts-dir",
        "kept",
        "--check",
        "polygraphy",
        "run",
        "polygraphy_debug.engine",
        "--trt",
    )
    assert list((folder / "kept").rglob("timing2*"))


def test_debug_reduce_finds_the_node(polygraphy, folder):
    """The smallest model that the parser refuses holds the unknown operator only."""
    polygraphy(
        "debug",
        "reduce",
        "partly.onnx",
        "-o",
        "reduced.onnx",
        "--mode",
        "linear",
        "--model-input-shapes",
        "a:[2,3]",
        "--check",
        "polygraphy",
        "convert",
        "polygraphy_debug.onnx",
        "--convert-to",
        "trt",
        "-o",
        "ignored.plan",
    )
    assert [node.op_type for node in onnx.load(folder / "reduced.onnx").graph.node] == ["NoSuchThing"]


def test_debug_precision_pins_layers(polygraphy):
    text = polygraphy(
        "debug",
        "precision",
        "static.onnx",
        "--fp16",
        "--precision",
        "float32",
        "--mode",
        "bisect",
        "--check",
        "polygraphy",
        "run",
        "polygraphy_debug.engine",
        "--trt",
    )
    assert "PASSED" in text


def test_templates_run(polygraphy, folder):
    polygraphy("template", "trt-network", "static.onnx", "-o", "network.py")
    polygraphy("template", "trt-config", "--fp16", "-o", "config.py")
    assert "PASSED" in polygraphy(
        "run", "network.py", "--model-type", "trt-network-script", "--trt", "--trt-config-script", "config.py"
    )


def test_lint_and_sanitize(polygraphy, folder):
    polygraphy("check", "lint", "static.onnx", "-o", "lint.json")
    assert (folder / "lint.json").exists()
    polygraphy("surgeon", "sanitize", "static.onnx", "-o", "sane.onnx", "--fold-constants")
    assert "PASSED" in polygraphy("run", "sane.onnx", "--trt", "--onnxrt")


def test_data_is_merged(polygraphy, folder):
    for seed in ("1", "2"):
        polygraphy("run", "static.onnx", "--onnxrt", "--seed", seed, "--save-inputs", f"in{seed}.json")
    polygraphy("data", "concat", "in1.json", "in2.json", "-o", "both.json")
    text = polygraphy("run", "static.onnx", "--trt", "--onnxrt", "--load-inputs", "both.json")
    assert "Passed: 2/2 iterations" in text


def test_the_shim_is_not_used_unless_asked_for(folder):
    done = subprocess.run(
        [sys.executable, "-c", "import os, tensorrt; print(os.environ.get('LD_LIBRARY_PATH', ''))"],
        cwd=folder,
        env=environment(folder, LD_LIBRARY_PATH=""),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and "cudart" not in done.stdout
