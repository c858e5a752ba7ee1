"""Compiling, running, saving, looking inside."""

import json
import pickle
import threading

import numpy as np
import pytest
from conftest import code_of, make_model
from onnx import helper

import tenfold
from tenfold import _core


def test_what_goes_in_by_position_comes_out_by_position(affine):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    y = affine(x)
    assert isinstance(y, np.ndarray) and y.dtype == np.float32
    np.testing.assert_array_equal(y, 2 * x + 1)


def test_what_goes_in_by_name_comes_out_by_name(affine):
    x = np.ones((1, 3), np.float32)
    result = affine({"x": x})
    assert list(result) == ["y"]
    np.testing.assert_array_equal(result["y"], 3 * x)


def test_several_outputs_are_a_tuple():
    model = make_model(
        [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Abs", ["x"], ["b"])],
        [("x", [4])],
        [("a", [4]), ("b", [4])],
    )
    a, b = tenfold.compile(model)(np.float32([-1, 2, -3, 4]))
    np.testing.assert_array_equal(a, [1, -2, 3, -4])
    np.testing.assert_array_equal(b, [1, 2, 3, 4])


def test_results_are_written_to_the_callers_array(affine):
    x = np.ones((2, 3), np.float32)
    out = np.zeros((2, 3), np.float32)
    assert affine(x, out=out) is out
    np.testing.assert_array_equal(out, 3)
    out[:] = 0
    assert affine({"x": x}, out={"y": out})["y"] is out
    np.testing.assert_array_equal(out, 3)


def test_shapes_may_change_from_call_to_call(affine):
    for n in (1, 64, 2, 1):
        x = np.full((n, 3), n, np.float32)
        np.testing.assert_array_equal(affine(x), 2 * x + 1)


def test_a_size_that_only_running_decides():
    model = make_model([helper.make_node("NonZero", ["x"], ["y"])], [("x", [5])], [("y", [1, "k"], "int64")])
    engine = tenfold.compile(model)
    assert engine.outputs[0].dims == (1, -1)
    np.testing.assert_array_equal(engine(np.float32([0, 1, 0, 2, 0])), [[1, 3]])
    np.testing.assert_array_equal(engine(np.float32([0, 0, 0, 0, 0])), np.empty((1, 0)))
    with pytest.raises(tenfold.Error, match="only known after running") as error:
        engine(np.zeros(5, np.float32), out=np.zeros((1, 2), np.int64))
    assert code_of(error) == "unsupported"


def test_the_profile_follows_the_shape(affine_bytes):
    engine = tenfold.compile(
        affine_bytes, shapes=[{"x": (1, 3)}, {"x": ((4, 3), (8, 3), (16, 3))}], opt_level=0
    )
    assert [p["x"][2] for p in engine.profiles] == [(1, 3), (16, 3)]
    for n in (1, 4, 16, 1):
        np.testing.assert_array_equal(engine(np.ones((n, 3), np.float32)), np.full((n, 3), 3))
    with pytest.raises(tenfold.Error, match="axis 0 is 2") as error:
        engine(np.ones((2, 3), np.float32))
    assert code_of(error) == "invalid_argument"


def test_engines_are_saved_loaded_and_pickled(affine, tmp_path):
    path = tmp_path / "affine.engine"
    affine.save(path)
    assert path.read_bytes() == affine.serialize()
    x = np.ones((1, 3), np.float32)
    for engine in (
        tenfold.Engine.load(path),
        tenfold.Engine.load(str(path), threads=1),
        tenfold.Engine.load(affine.serialize()),
        pickle.loads(pickle.dumps(affine)),
    ):
        np.testing.assert_array_equal(engine(x), 3 * x)
    path.write_bytes(b"nothing")
    with pytest.raises(tenfold.Error) as error:
        tenfold.Engine.load(path)
    assert code_of(error) == "incompatible_engine"
    with pytest.raises(tenfold.Error) as error:
        tenfold.Engine.load(tmp_path / "missing.engine")
    assert code_of(error) == "io_failure"
    with pytest.raises(tenfold.Error) as error:
        affine.save(tmp_path / "missing" / "x.engine")
    assert code_of(error) == "io_failure"


def test_a_path_an_onnx_model_and_bytes_compile_alike(affine_bytes, tmp_path):
    import onnx

    (tmp_path / "m.onnx").write_bytes(affine_bytes)
    engines = [
        tenfold.compile(model, shapes={"x": (1, 3)}, opt_level=0)
        for model in (tmp_path / "m.onnx", str(tmp_path / "m.onnx"), affine_bytes, onnx.load_from_string(affine_bytes))
    ]
    for engine in engines:
        np.testing.assert_array_equal(engine(np.ones((1, 3), np.float32)), [[3, 3, 3]])
    assert engines[0].inspect()["model"]["name"] == "m.onnx"


def test_a_timing_cache_is_written_and_read(tmp_path):
    model = make_model(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)],
        [("x", [1, 8, 16, 16])],
        [("y", [1, 8, 16, 16])],
        [("w", np.ones((8, 8, 3, 3), np.float32))],
    )
    path = tmp_path / "times.json"
    tenfold.compile(model, timing_cache=path)
    first = json.loads(path.read_bytes())
    assert first["tenfold_timing_cache"] == 1 and first["entries"]
    result = _core.compile(model, timing_cache=path.read_bytes())
    assert json.loads(result.timing_cache) == first
    assert json.loads(_core.compile(model, timing_cache=b"").timing_cache)["entries"].keys() == first["entries"].keys()
    assert any("timing cache" in text for text in _core.compile(model, timing_cache=b"nonsense").warnings)


def test_extra_outputs(affine_bytes):
    engine = tenfold.compile(affine_bytes, shapes={"x": (1, 3)}, extra_outputs=["scaled"], opt_level=0)
    result = engine({"x": np.ones((1, 3), np.float32)})
    np.testing.assert_array_equal(result["scaled"], [[2, 2, 2]])


def test_dtypes_go_through_unchanged():
    import ml_dtypes

    for dtype in ("float32", "float16", "float64", "int8", "uint8", "int32", "int64", "bool", ml_dtypes.bfloat16,
                  ml_dtypes.float8_e4m3fn):
        dtype = np.dtype(dtype)
        model = make_model([helper.make_node("Identity", ["x"], ["y"])], [("x", [3], dtype)], [("y", [3], dtype)])
        x = np.array([0, 1, 1]).astype(dtype)
        y = tenfold.compile(model, opt_level=0)(x)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, x)


def test_int8_says_that_calibration_is_not_there(affine_bytes):
    with pytest.raises(tenfold.Error, match="calibration") as error:
        tenfold.compile(affine_bytes, precision="int8")
    assert code_of(error) == "unsupported"


def test_a_precision_without_kernels_is_logged(affine_bytes, caplog, monkeypatch):
    monkeypatch.setattr(_core, "has_bf16", lambda device: False)  # as on a processor without AVX512_BF16
    with caplog.at_level("WARNING", "tenfold"):
        tenfold.compile(affine_bytes, shapes={"x": (1, 3)}, precision="bfloat16", opt_level=0)
    assert "bfloat16" in caplog.text


def test_tactic_sources_are_libraries_of_gpus(affine_bytes, caplog):
    with caplog.at_level("WARNING", "tenfold"):
        tenfold.compile(affine_bytes, shapes={"x": (1, 3)}, tactic_sources=["cublas_lt"], opt_level=0)
    assert "cublas_lt: libraries of GPUs" in caplog.text
    with pytest.raises(tenfold.Error, match="known are cublas_lt and cudnn") as error:
        tenfold.compile(affine_bytes, shapes={"x": (1, 3)}, tactic_sources=["cufft"])
    assert code_of(error) == "invalid_argument"


def test_profile_and_inspect(affine):
    x = np.ones((2, 3), np.float32)
    for profile in (affine.profile(x, runs=3), affine.profile({"x": x}, runs=3), affine.profile(runs=3)):
        assert profile.total_us > 0 and profile.runs == 3
        assert {name for step in profile.steps for name in step.origins} == {"add", "mul"}
        assert "steps, medians of 3 runs" in str(profile)
    seen = json.loads(json.dumps(affine.inspect()))
    assert seen["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["n", 3]}]
    assert seen["profiles"][0]["inputs"]["x"]["max"] == [64, 3]
    assert sum(c["chosen"] for step in seen["steps"] for c in step["candidates"]) == len(seen["steps"])
    assert repr(affine) == "Engine(x: float32[n, 3] -> y: float32[n, 3])"


def test_contexts_bind_once_and_run_often(affine):
    context = affine.make_context()
    x = np.ones((2, 3), np.float32)
    context.set_input("x", x)
    assert context.output_dims("y") == (2, 3)
    context.run()
    np.testing.assert_array_equal(context.output("y"), 3)
    x[:] = 2  # the array is read where it lies
    out = np.zeros((2, 3), np.float32)
    context.set_output("y", out)
    context.run()
    np.testing.assert_array_equal(out, 5)
    dtype, dims, address, nbytes = context.output_view("y")
    assert (dtype, dims, address, nbytes) == ("float32", (2, 3), out.ctypes.data, 24)


def test_threads_share_an_engine(affine):
    failures = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(200):
            x = rng.standard_normal((rng.integers(1, 65), 3), dtype=np.float32)
            if not np.array_equal(affine(x), 2 * x + 1):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_progress_is_reported(affine_bytes):
    seen = []
    tenfold.compile(affine_bytes, shapes={"x": (1, 3)}, progress=lambda *now: seen.append(now))
    phases = [phase for phase, _, _, _ in seen]
    assert phases[0] == "import" and phases[-1] == "done" and "tactics" in phases
    fractions = [fraction for _, _, fraction, _ in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1


def test_an_observer_sees_every_value(affine):
    context = affine.make_context()
    seen = {}
    context.set_observer(lambda step, values: seen.update(values))
    context.set_input("x", np.ones((1, 3), np.float32))
    context.run()
    np.testing.assert_array_equal(seen["y"], [[3, 3, 3]])
    seen.clear()
    context.set_observer(None)
    context.run()
    assert not seen
