"""What NVRTC makes of the CUDA kernels that builds of whole models would time. Needs no GPU."""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys

import onnx
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TENFOLD = os.environ.get("TENFOLD", str(ROOT / "build/release/bin/tenfold"))

# Bytes that kernels of these tactics may spill, at most:
SPILLS = {
    # Rows of 128 bytes of k: addresses of rows, kept once and read again once a slice, beside dozens of copies and
    # products. They buy a third block on a multiprocessor, and are timed against schedules without.
    "conv.tiles": 96,
    # On sm_80, one register kept across the subroutine of a division, once a row.
    "attention.rows": 8,
}


def nvrtc():
    """:returns: the path of NVRTC: TENFOLD_NVRTC, or what pip installed; None without either."""
    if os.environ.get("TENFOLD_NVRTC"):
        return os.environ["TENFOLD_NVRTC"]
    for package in ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"):
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.name in ("libnvrtc.so.13", "libnvrtc.so.12"):
                return str(file.locate())
    return None


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    sys.path.insert(0, str(ROOT / "bench"))
    import random_models

    folder = tmp_path_factory.mktemp("kernels")
    for name in ("resnet50", "minilm", "mbv2"):
        onnx.save(random_models.MODELS[name](), str(folder / f"{name}.onnx"))
    return folder


def examine(model, *options, cache):
    """:returns: what `check --kernels --json` says of the model."""
    environment = {**os.environ, "TENFOLD_NVRTC": nvrtc(), "TENFOLD_CACHE_DIR": str(cache)}
    result = subprocess.run([TENFOLD, "check", str(model), "--kernels", "--json", *options], capture_output=True, text=True, timeout=600, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "C75" not in result.stderr, "serialised products:\n" + result.stderr
    return json.loads(result.stdout)


needs_nvrtc = pytest.mark.skipif(nvrtc() is None, reason="NVRTC is not here: tools/setup.sh --test installs it (tools/requirements/nvrtc.txt)")


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
        environment = {**os.environ, "TENFOLD_NVRTC": nvrtc(), "TENFOLD_CACHE_DIR": str(tmp_path)}
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
