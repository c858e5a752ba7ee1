"""The command line as a user meets it: results, exit codes, one clear sentence for each mistake."""

import json
import os
import pathlib
import re
import signal
import subprocess
import time

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

TENFOLD = os.environ.get("TENFOLD", str(pathlib.Path(__file__).resolve().parents[2] / "build/release/bin/tenfold"))


def run(*arguments, code=0, **options):
    """:returns: the finished process; fails the test unless it ended with ``code``."""
    result = subprocess.run([TENFOLD, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)
    assert result.returncode == code, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result


def save(folder, name, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, name, [helper.make_tensor_value_info(*value) for value in inputs],
                              [helper.make_tensor_value_info(*value) for value in outputs],
                              [numpy_helper.from_array(array, key) for key, array in constants])
    path = folder / f"{name}.onnx"
    onnx.save(helper.make_model(graph, producer_name="tests", opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def model(folder):
    """y = relu(conv(x)) with dynamic batch and width."""
    weights = numpy.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(numpy.float32)
    return save(folder, "conv", [helper.make_node("Conv", ["x", "w"], ["c"], name="conv1", pads=[1, 1, 1, 1]), helper.make_node("Relu", ["c"], ["y"], name="relu1")],
                [("x", TensorProto.FLOAT, ["batch", 3, 8, "width"])], [("y", TensorProto.FLOAT, None)], [("w", weights)])


@pytest.fixture(scope="module")
def engine(model, folder):
    path = folder / "conv.engine"
    run("build", model, "-o", path, "--min-shapes", "x:1x3x8x4", "--opt-shapes", "x:1x3x8x16", "--max-shapes", "x:4x3x8x32", "--portable")
    return path


def reference(model, x):
    import onnxruntime

    return onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def rounding_of_sums(model, x):
    """What float32 may cost a sum of K products at most: (K + 2) 2^-24 sum |w| |x|, whatever the order of summation.

    The largest of all elements, because Winograd's transforms mix those of neighbouring windows.
    """
    weights = numpy.abs(numpy_helper.to_array(onnx.load(str(model)).graph.initializer[0]).astype(float))
    padded = numpy.pad(numpy.abs(x.astype(float)), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = numpy.lib.stride_tricks.sliding_window_view(padded, weights.shape[2:], (2, 3))
    sums = numpy.einsum("bchwij,ocij->bohw", windows, weights)
    return (weights[0].size + 2) * 2.0**-24 * sums.max()


def test_build_says_what_it_did(model, folder):
    result = run("build", model, "-o", folder / "a.engine", "--shapes", "x:1x3x8x16", "--json")
    summary = json.loads(result.stdout)
    assert summary["nodes_in_model"] == 2 and summary["steps"] >= 1 and summary["file_bytes"] == (folder / "a.engine").stat().st_size


def test_quiet_builds_write_nothing_to_stderr(model, folder):
    assert run("build", model, "-o", folder / "q.engine", "--shapes", "x:1x3x8x16", "--quiet").stderr == ""


def test_run_answers_like_onnxruntime(model, engine, folder):
    x = numpy.random.default_rng(1).standard_normal((2, 3, 8, 20)).astype(numpy.float32)
    numpy.savez(folder / "in.npz", x=x)
    allowed = 2 * rounding_of_sums(model, x)  # ours and ONNX Runtime's
    for what in (engine, model):
        run("run", what, "--inputs", folder / "in.npz", "--outputs", folder / "out.npz")
        assert numpy.all(numpy.abs(numpy.load(folder / "out.npz")["y"] - reference(model, x)) <= allowed)
    numpy.savez_compressed(folder / "packed.npz", x=x)
    numpy.save(folder / "x.npy", x)
    run("run", engine, "--inputs", folder / "packed.npz")
    run("run", engine, "--input", f"x={folder / 'x.npy'}")


def test_trtexec_command_lines_work(model, folder):
    path = folder / "t.engine"
    run("build", f"--onnx={model}", f"--saveEngine={path}", "--minShapes=x:1x3x8x4", "--optShapes=x:1x3x8x16", "--maxShapes=x:4x3x8x32", "--memPoolSize=workspace:64M")
    out = run("bench", f"--loadEngine={path}", "--shapes=x:2x3x8x8", "--iterations=3", "--duration=0", "--warmUp=0", "--dumpProfile", f"--exportTimes={folder / 't.json'}",
              f"--exportProfile={folder / 'p.json'}").stdout
    assert "=== Performance summary ===" in out and "Throughput:" in out and "percentile(99%)" in out and "conv1" in out
    assert len(json.loads((folder / "t.json").read_text())) >= 3
    assert json.loads((folder / "p.json").read_text())[0]["count"] >= 10
    run(f"--onnx={model}", f"--saveEngine={folder / 'both.engine'}", "--shapes=x:1x3x8x8", "--iterations=1", "--duration=0", "--warmUp=0")
    run("verify", folder / "both.engine")


def test_the_trace_is_chromes_format(engine, folder):
    run("bench", engine, "--iterations", 1, "--duration", 0, "--warm-up", 0, "--trace", folder / "trace.json")
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    assert any(event["ph"] == "X" and event["dur"] >= 0 and "tactic" in event["args"] for event in events)


def test_inspect_shows_an_engine_and_a_model(engine, model, folder):
    assert "conv1 + relu1" in run("inspect", engine, "--fusions").stdout
    assert "profile 0" in run("inspect", engine).stdout
    assert json.loads(run("inspect", engine, "--json").stdout)["provenance"]["producer"].startswith("tests")
    assert "conv1" in run("inspect", engine, "--all").stdout
    run("inspect", engine, "--dot", folder / "g.dot")
    assert (folder / "g.dot").read_text().startswith("digraph")
    assert "Conv" in run("inspect", model, "--graph").stdout
    assert json.loads(run("inspect", model, "--json").stdout)["operators"] == {"Conv": 1, "Relu": 1}
    run("inspect", model, "--tactics", code=2)


def test_check_lists_every_problem_at_once(folder, model):
    assert "can be compiled" in run("check", model).stdout
    bad = save(folder, "bad", [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("NoSuchOperator", ["a"], ["b"], name="first"), helper.make_node("AlsoNone", ["b"], ["y"], name="second")],
               [("x", TensorProto.FLOAT, [1])], [("y", TensorProto.FLOAT, None)])
    out = run("check", bad, code=1).stdout
    assert "first" in out and "NoSuchOperator" in out and "second" in out
    assert len(json.loads(run("check", bad, "--json", code=1).stdout)["problems"]) == 2
    message = run("build", bad, "-o", folder / "bad.engine", code=4).stderr
    assert "NoSuchOperator" in message and "AlsoNone" in message
    assert not (folder / "bad.engine").exists()


def test_check_of_kernels_needs_a_gpu_and_its_compiler(model, tmp_path):
    shapes = ["--shapes", "x:1x3x8x16"]
    assert "name one with --device" in run("check", model, *shapes, "--kernels", code=2).stderr
    assert "needs --kernels" in run("check", model, *shapes, "--max-spill-bytes", 0, code=2).stderr
    result = run("check", model, *shapes, "--device", "cuda:h100", "--kernels", "--quiet", code=4,
                 env={**os.environ, "TENFOLD_NVRTC": str(tmp_path / "none.so")})
    assert "needs NVRTC, but what TENFOLD_NVRTC names is none" in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_compare_finds_no_difference(model):
    out = run("compare", model, "--shapes", "x:2x3x8x16", "--no-onnxruntime").stdout
    assert out.strip().endswith("equal")
    assert json.loads(run("compare", model, "--shapes", "x:2x3x8x16", "--json", "--no-onnxruntime").stdout)["equal"]


def test_compare_says_when_it_is_asked_for_the_impossible(model):
    out = run("compare", model, "--shapes", "x:2x3x8x16", "--no-onnxruntime", "--tolerance", "1e-12", code=1).stdout
    assert "first node that diverges" in out and "conv1" in out


def test_verify(engine, folder):
    assert "intact" in run("verify", engine).stdout
    broken = bytearray(engine.read_bytes())
    broken[len(broken) // 2] ^= 4
    (folder / "broken.engine").write_bytes(broken)
    run("verify", folder / "broken.engine", code=5)


@pytest.mark.parametrize("cut", [0, 1, 7, 63, 64, 200, -1])
def test_truncated_engines_are_refused(engine, folder, cut):
    (folder / "cut.engine").write_bytes(engine.read_bytes()[:cut])
    message = run("run", folder / "cut.engine", "--random", 0, code=5).stderr
    assert message.startswith("tenfold: ") and message.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"hello", bytes(range(256)) * 40, b"\x08\x08" + b"\xff" * 30], ids=["empty", "text", "random", "almost"])
def test_files_that_are_no_models(folder, content):
    (folder / "none.onnx").write_bytes(content)
    run("build", folder / "none.onnx", "-o", folder / "none.engine", code=3)
    assert not (folder / "none.engine").exists()


def test_missing_files_and_folders(folder, model):
    run("build", folder / "missing.onnx", "-o", folder / "x.engine", code=7)
    run("run", folder / "missing.engine", "--random", 0, code=7)
    run("build", model, "-o", "/nonexistent/x.engine", "--shapes", "x:1x3x8x8", code=7)
    run("build", model, "-o", folder, "--shapes", "x:1x3x8x8", code=2)


def test_usage_errors(model, engine):
    for arguments in ([], ["fly"], ["build"], ["build", model], ["run", engine, "--random", "x"], ["bench", engine, "--iterations", "-3"]):
        run(*arguments, code=2)
    assert "build" in run("--help").stdout and "Exit codes" in run("run", "--help").stdout
    assert run("--version").stdout.startswith("tenfold ")


def test_dynamic_shapes_must_be_given(model, folder):
    message = run("build", model, "-o", folder / "d.engine", code=2).stderr
    assert "x: float32[batch, 3, 8, width]" in message and "--min-shapes x:1x3x8x" in message and "--max-shapes" in message
    assert "--shapes x:" in run("run", model, "--random", 0, code=2).stderr


def test_wrong_inputs_are_named(engine, folder):
    x = numpy.zeros((1, 3, 8, 8), numpy.float32)

    def message(code=2, **arrays):
        numpy.savez(folder / "wrong.npz", **arrays)
        return run("run", engine, "--inputs", folder / "wrong.npz", code=code).stderr

    assert "x: float32[batch, 3, 8, width]" in message(z=x)
    assert "expects float32, got float64" in message(x=x.astype(numpy.float64))
    assert "[1, 3, 8]" in message(x=x[..., 0])
    text = message(x=numpy.zeros((1, 3, 8, 64), numpy.float32))
    assert "'x'" in text and "64" in text and "32" in text and "axis 3" in text
    message(x=numpy.array(["a"]))
    (folder / "wrong.npz").write_bytes(b"PK\x03\x04")
    run("run", engine, "--inputs", folder / "wrong.npz", code=2)
    run("run", engine, "--inputs", folder / "nothing.npz", code=7)
    run("run", engine, code=2)


def test_precisions_that_are_not_there_are_refused(model, folder):
    for option in ("--int8", "--best", "--useDLACore=0"):
        assert option.split("=")[0] in run("build", model, "-o", folder / "p.engine", "--shapes", "x:1x3x8x8", option, code=4).stderr


def test_tactic_sources_are_read_in_trtexecs_spelling_too(model, folder):
    def build(option, code=0):
        return run("build", model, "-o", folder / "s.engine", "--shapes", "x:1x3x8x8", "--opt-level", 0, *option, code=code).stderr

    assert "cublas_lt: libraries of GPUs" in build(["--tacticSources=+CUDNN,+CUBLAS_LT,-CUDNN"])
    assert "cublas_lt,cudnn: libraries of GPUs" in build(["--tactic-sources", "cudnn,cublas_lt"])
    assert "libraries" not in build(["--tacticSources=-CUDNN"])
    assert "no tactic source 'CUFFT'; known are cublas_lt and cudnn" in build(["--tacticSources=+CUFFT"], code=2)


def test_a_workspace_that_is_too_small_is_an_error(model, folder):
    run("build", model, "-o", folder / "w.engine", "--shapes", "x:1x3x8x8", "--workspace", "64", code=6)
    run("build", model, "-o", folder / "w.engine", "--shapes", "x:1x3x8x8", "--workspace", "lots", code=2)


def test_errors_are_json_too(folder):
    error = json.loads(run("verify", folder / "nothing.engine", "--json", code=7).stdout)["error"]
    assert error["code"] == "io_failure" and "nothing.engine" in error["message"]


def test_an_interrupted_build_leaves_nothing(folder):
    """A chain of large products takes long enough to be interrupted."""
    rng = numpy.random.default_rng(0)
    nodes = [helper.make_node("MatMul", [f"v{i}", f"w{i}"], [f"v{i + 1}"]) for i in range(12)]
    path = save(folder, "slow", nodes, [("v0", TensorProto.FLOAT, [256, 1024 + 0])], [("v12", TensorProto.FLOAT, None)],
                [(f"w{i}", rng.standard_normal((1024 + i, 1025 + i)).astype(numpy.float32)) for i in range(12)])
    before = sorted(os.listdir(folder))
    process = subprocess.Popen([TENFOLD, "build", str(path), "-o", str(folder / "slow.engine"), "--opt-level", "5"], stderr=subprocess.PIPE)
    time.sleep(0.7)
    if process.poll() is not None:
        pytest.skip("the build was done before it could be interrupted")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert sorted(os.listdir(folder)) == before


def test_a_full_disk_keeps_the_old_engine(model, engine, folder):
    """A file-size limit stands in for the full disk: writing fails in the middle."""
    copy = folder / "kept.engine"
    copy.write_bytes(engine.read_bytes())
    before = sorted(os.listdir(folder))
    command = f"ulimit -f 1; exec {TENFOLD} build {model} -o {copy} --shapes x:1x3x8x8"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.returncode == 7, result.stderr
    assert copy.read_bytes() == engine.read_bytes() and sorted(os.listdir(folder)) == before


def test_results_that_cannot_be_written_say_why(model, engine, folder):
    with open("/dev/full", "w") as full:
        result = subprocess.run([TENFOLD, "inspect", str(engine), "--json"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 7 and "No space left" in result.stderr
    command = f"ulimit -f 1; exec {TENFOLD} run {engine} --random 0 --shapes x:4x3x8x32 --outputs {folder}/large.npz"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.returncode == 7 and "large.npz was not written: " in result.stderr and "No error" not in result.stderr
    assert not (folder / "large.npz").exists()


def test_a_timing_cache_that_cannot_be_written_costs_no_engine(model, folder):
    path = folder / "no_cache.engine"
    text = run("build", model, "-o", path, "--shapes", "x:1x3x8x16", "--timing-cache", "/proc/cache").stderr
    assert "warning: the timing cache was not written: " in text and path.exists()


def test_a_tier_that_the_environment_forbids_is_named(engine):
    """The engine is for this processor's tier; where that is the lowest one, nothing can be forbidden."""
    result = subprocess.run([TENFOLD, "run", str(engine), "--random", "0"], capture_output=True, text=True, env={**os.environ, "TENFOLD_CPU_TIER": "none"})
    assert result.returncode == 5 and "TENFOLD_CPU_TIER limits kernels to x86-64" in result.stderr
    for choice in ("portable", "rebuild"):
        run("run", engine, "--random", 0, "--on-mismatch", choice, env={**os.environ, "TENFOLD_CPU_TIER": "none"})


def test_the_same_build_gives_the_same_bytes(model, folder):
    """With a timing cache that knows every time, nothing is left to chance."""
    options = ["--shapes", "x:1x3x8x16", "--timing-cache", folder / "cache"]
    run("build", model, "-o", folder / "1.engine", *options)
    run("build", model, "-o", folder / "2.engine", *options)
    run("build", model, "-o", folder / "3.engine", *options)
    assert (folder / "2.engine").read_bytes() == (folder / "3.engine").read_bytes()


# A driver that says what a test wants: every function exists and succeeds, a few answer.
STUB_DRIVER = r"""
int cuInit(unsigned flags) { return %(init)d; }
int cuDriverGetVersion(int* version) { *version = %(version)d; return 0; }
int cuDeviceGetCount(int* count) { *count = %(count)d; return 0; }
int cuDeviceGet(int* device, int index) { *device = index; return 0; }
int cuDeviceGetName(char* name, int length, int device) { __builtin_strcpy(name, "Old GPU"); return 0; }
int cuDeviceTotalMem_v2(unsigned long* bytes, int device) { *bytes = 1ul << 30; return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) { *value = attribute == 75 ? 7 : attribute == 76 ? 5 : 1; return 0; }
int cuGetErrorString(int result, const char** words) { *words = "no CUDA-capable device is detected"; return 0; }
int cuGetErrorName(int result, const char** name) { *name = "CUDA_ERROR_NO_DEVICE"; return 0; }
"""


def stub_driver(folder, init=0, version=12040, count=1):
    """:returns: an environment whose NVIDIA driver is a stub."""
    functions = pathlib.Path(__file__).resolve().parents[2] / "src/backend/cuda/driver_functions.inc"
    text = STUB_DRIVER % {"init": init, "version": version, "count": count}
    for symbol in re.findall(r"TENFOLD_DRIVER\(\w+, (\w+),", functions.read_text()):
        if f" {symbol}(" not in text:
            text += f"int {symbol}(void) {{ return 0; }}\n"
    (folder / "stub.c").write_text(text)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "stub.c"], check=True)
    return {**os.environ, "LD_LIBRARY_PATH": str(folder)}


@pytest.mark.parametrize("driver, sentence", [
    ({"version": 11080}, "the NVIDIA driver supports CUDA 11.8, but 12.0 is needed; update it"),
    ({"init": 100}, "the NVIDIA driver does not start: no CUDA-capable device is detected"),
    ({"count": 0}, "the NVIDIA driver sees no GPU; is one visible to this process (CUDA_VISIBLE_DEVICES)?"),
    ({}, "GPU 0 (Old GPU) is sm_75; kernels exist from sm_80 on"),
])
def test_a_gpu_that_is_not_usable_is_one_sentence(engine, model, tmp_path, driver, sentence):
    environment = stub_driver(tmp_path, **driver)
    shapes = ["--min-shapes", "x:1x3x8x4", "--opt-shapes", "x:1x3x8x16", "--max-shapes", "x:1x3x8x16"]
    result = run("build", model, "-o", tmp_path / "gpu.engine", *shapes, "--device", "cuda", "--quiet", env=environment, code=8)
    assert sentence in result.stderr and len(result.stderr.strip().splitlines()) == 1
    run("inspect", engine, env=environment)  # engines for the CPU do not notice


def test_without_a_driver_a_gpu_is_refused_in_one_sentence(model, tmp_path):
    shapes = ["--min-shapes", "x:1x3x8x4", "--opt-shapes", "x:1x3x8x16", "--max-shapes", "x:1x3x8x16"]
    (tmp_path / "libcuda.so.1").write_text("no library")
    result = run("build", model, "-o", tmp_path / "gpu.engine", *shapes, "--device", "cuda", code=8,
                 env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)})
    assert "there is no NVIDIA driver here" in result.stderr and "use --device cpu" in result.stderr
