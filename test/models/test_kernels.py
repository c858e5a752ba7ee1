"""What NVRTC makes of the CUDA kernels that builds of whole models would time. Needs no GPU."""

import json
import os
import pathlib
import subprocess
import sys

import onnx
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tools")]
import random_models  # noqa: E402
from find_nvrtc import find_nvrtc  # noqa: E402
from test_cli import stub_driver  # noqa: E402

TENFOLD = os.environ.get("TENFOLD", str(ROOT / "build/release/bin/tenfold"))

# Bytes that kernels of these tactics may spill, at most:
SPILLS = {
    # Rows of 128 bytes of k: addresses of rows, kept once and read again once a slice, beside dozens of copies and
    # products. They buy a third block on a multiprocessor, and are timed against schedules without.
    "conv.tiles": 96,
    # On sm_80, one register kept across the subroutine of a division, once a row.
    "attention.rows": 8,
}


NVRTC = find_nvrtc()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    for name in ("resnet50", "minilm", "mbv2"):
        onnx.save(random_models.MODELS[name](), str(folder / f"{name}.onnx"))
    return folder


def examine(model, *options, cache):
    """:returns: what `check --kernels --json` says of the model."""
    environment = {**os.environ, "TENFOLD_NVRTC": NVRTC, "TENFOLD_CACHE_DIR": str(cache)}
    result = subprocess.run([TENFOLD, "check", str(model), "--kernels", "--json", *options], capture_output=True, text=True, timeout=600, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "C75" not in result.stderr, "serialised products:\n" + result.stderr
    return json.loads(result.stdout)


needs_nvrtc = pytest.mark.skipif(NVRTC is None, reason="NVRTC is not here: tools/setup.sh --test installs it (tools/requirements/nvrtc.txt)")


@needs_nvrtc
@pytest.mark.parametrize("device", ["h100", "a100", "l4"])
@pytest.mark.parametrize("model, options", [("resnet50", ["--fp16"]), ("minilm", ["--fp16"]), ("mbv2", [])])
def test_kernels_compile_and_keep_their_values_in_registers(models, tmp_path, device, model, options):
    # All schedules of the attention on the device that has most of them; elsewhere what a build would choose untimed.
    level = 3 if (device, model) == ("h100", "minilm") else 0
    report = examine(models / f"{model}.onnx", "--device", f"cuda:{device}", *options, "--opt-level", str(level), cache=tmp_path)
    assert report["problems"] == [] and len(report["kernels"]) > 5
    assert report["target"] == {"h100": "sm_90", "a100": "sm_80", "l4": "sm_89"}[device]
    for kernel in report["kernels"]:
        for entry in kernel["entries"]:
            assert 0 < entry["registers"] <= 255
            spilled = max(entry["spill_store_bytes"], entry["spill_load_bytes"])
            assert spilled <= SPILLS.get(kernel["tactic"], 0), f"{kernel['node']}: {kernel['tactic']}{kernel['parameters']}: {entry}"


@needs_nvrtc
def test_a_limit_on_spills_decides_the_exit_code(models, tmp_path):
    def check(limit):
        arguments = [str(models / "minilm.onnx"), "--device", "cuda:a100", "--fp16", "--opt-level", "0", "--kernels", "--max-spill-bytes", str(limit)]
        environment = {**os.environ, "TENFOLD_NVRTC": NVRTC, "TENFOLD_CACHE_DIR": str(tmp_path)}
        return subprocess.run([TENFOLD, "check", *arguments], capture_output=True, text=True, timeout=600, env=environment)

    generous = check(1 << 20)
    assert generous.returncode == 0, generous.stdout + generous.stderr
    header, first = generous.stdout.splitlines()[:2]
    assert header.split()[:3] == ["node", "kernel", "entry"]
    worst = max(int(number) for number in first.split()[-2:])  # the worst comes first
    if worst == 0:
        pytest.skip("no kernel spills")
    strict = check(worst - 1)
    assert strict.returncode == 1 and f"spills {worst} bytes of registers, more than {worst - 1}" in strict.stdout


@needs_nvrtc
def test_an_archive_has_all_that_a_build_without_a_compiler_needs(models, tmp_path):
    def run(*arguments, code=0, **environment):
        result = subprocess.run([TENFOLD, *arguments, "--device", "cuda:h100", "--fp16", "--opt-level", "0"], capture_output=True, text=True, timeout=600,
                                env={**os.environ, **environment})
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout

    model, archive, absent = str(models / "mbv2.onnx"), str(tmp_path / "some.cubins"), str(tmp_path / "absent.so")
    made = json.loads(run("cubins", model, "-o", archive, "--json", TENFOLD_NVRTC=NVRTC, TENFOLD_CACHE_DIR=str(tmp_path / "first")))
    assert made["kernels"] == made["new"] == made["models"][0]["kernels"] > 5
    assert made["file_bytes"] == pathlib.Path(archive).stat().st_size
    # The same again: nothing is new.
    again = json.loads(run("cubins", model, "-o", archive, "--json", TENFOLD_NVRTC=NVRTC, TENFOLD_CACHE_DIR=str(tmp_path / "first")))
    assert again["kernels"] == made["kernels"] and again["new"] == 0

    empty = str(tmp_path / "empty")  # a cache in which nothing is
    found = run("check", model, "--code", TENFOLD_NVRTC=absent, TENFOLD_CACHE_DIR=empty, TENFOLD_CUBINS=archive)
    assert f"{made['kernels']} kernels" in found and ": 0 without code" in found
    lacking = run("check", model, "--code", code=1, TENFOLD_NVRTC=absent, TENFOLD_CACHE_DIR=empty, TENFOLD_CUBINS="")
    assert "neither in tenfold_cuda.cubins nor in the cache: compiling CUDA kernels needs NVRTC" in lacking
    # What another compiler left in the cache will do as well.
    cached = run("check", model, "--code", TENFOLD_NVRTC=absent, TENFOLD_CACHE_DIR=str(tmp_path / "first"))
    assert ": 0 without code" in cached
    # Code that a driver does not run is not taken: here one of CUDA 12.4, and a compiler of CUDA 13.
    if "libnvrtc.so.13" in NVRTC:
        run("check", model, "--code", code=1, TENFOLD_NVRTC=absent, TENFOLD_CACHE_DIR=empty, TENFOLD_CUBINS=archive,
            LD_LIBRARY_PATH=stub_driver(tmp_path)["LD_LIBRARY_PATH"])
    # A damaged archive is one warning, not an error.
    content = bytearray(pathlib.Path(archive).read_bytes())
    content[20] ^= 1
    pathlib.Path(archive).write_bytes(content)
    result = subprocess.run([TENFOLD, "check", model, "--code", "--device", "cuda:h100", "--fp16", "--opt-level", "0"], capture_output=True, text=True, timeout=600,
                            env={**os.environ, "TENFOLD_NVRTC": absent, "TENFOLD_CACHE_DIR": str(tmp_path / "first"), "TENFOLD_CUBINS": archive})
    assert result.returncode == 0 and result.stderr.count("warning: kernels compiled ahead of time are not used") == 1, result.stderr
