"""The benchmark scripts run: on a tiny model, in a few rounds. What they measure is not judged here."""

import json
import pathlib
import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "tiny.onnx"
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "tiny", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def bench(script, *arguments):
    return subprocess.run([sys.executable, str(BENCH / script), *map(str, arguments)], capture_output=True, text=True, timeout=120)


def test_the_comparison_writes_its_tables(model, tmp_path):
    done = bench("compare_runtimes.py", model, "--threads", 1, "--batch", 1, "--seconds", 0, "--out", tmp_path / "cpu")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "cpu.json").read_text())["rows"]
    assert row["model"] == "tiny" and row["runtimes"]["tenfold"]["answer_is_right"] and row["ratio"] > 0
    assert all((tmp_path / f"cpu{suffix}").stat().st_size > 0 for suffix in (".md", ".layers.md"))


def test_the_gate_records_ratios(model, tmp_path):
    done = bench("quick.py", model, "--record", tmp_path / "quick.json", "--update")
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((tmp_path / "quick.json").read_text()).values()
    assert record["ratios"]["tiny"] > 0


@pytest.mark.parametrize("script", sorted(BENCH.rglob("*.py")), ids=lambda path: path.name)
def test_every_script_compiles(script):
    compile(script.read_text(), str(script), "exec")
