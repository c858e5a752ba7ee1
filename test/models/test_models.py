"""Whole models that `make test` fetches: built, reloaded in a new process, compared with ONNX Runtime."""

import pathlib

import pytest

import run_models

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "build/models"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.onnx")), ids=lambda path: path.stem)
def test_answers_as_onnxruntime_does(path):
    result = run_models.check_model(path, runs=2, num_shapes=4, build_options=["--opt-level", "2"])
    assert result["status"] == "equal", result.get("problems") or result["problem"]
    assert result["steps"] < result["nodes"]


def test_the_models_were_fetched():
    assert len(list(FOLDER.glob("*.onnx"))) >= 7, "run tools/setup.sh --test"
