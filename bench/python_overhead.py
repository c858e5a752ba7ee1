#!/usr/bin/env python3
"""What a call from Python costs beside ONNX Runtime's, on a model of one addition, and whether calls leak.

Calls of both alternate in blocks within one process, so that what the machine does besides hits both; medians over
blocks. Then one million calls, with the resident memory before and after. Writes bench/results/python_overhead.md.
Usage: bench/python_overhead.py [--calls 1000000]
"""
import argparse
import datetime
import pathlib
import platform
import statistics
import subprocess
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

import tenfold

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLOCK = 2000
BLOCKS = 60


def tiny_model():
    info = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])  # noqa: E731
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "b"], ["y"])], "tiny", [info("x")], [info("y")],
        [onnx.numpy_helper.from_array(np.ones((1, 4), np.float32), "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def block_us(call):
    start = time.perf_counter()
    for _ in range(BLOCK):
        call()
    return (time.perf_counter() - start) / BLOCK * 1e6


def resident_kib():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("/proc/self/status has no VmRSS")


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000_000)
    arguments = parser.parse_args()

    model = tiny_model()
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    engine = tenfold.compile(model, threads=1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {"x": x}
    context = engine.make_context()
    out = np.empty_like(x)
    context.set_input("x", x)
    context.set_output("y", out)
    ways = {
        "onnxruntime: session.run(None, {'x': x})": lambda: session.run(None, feed),
        "tenfold: engine(x)": lambda: engine(x),
        "tenfold: engine({'x': x})": lambda: engine(feed),
        "tenfold: engine(x, out=y)": lambda: engine(x, out=out),
        "tenfold: context.run()": context.run,
    }
    np.testing.assert_array_equal(engine(x), session.run(None, feed)[0])
    for call in ways.values():
        block_us(call)
    times = {name: [] for name in ways}
    for _ in range(BLOCKS):
        for name, call in ways.items():
            times[name].append(block_us(call))
    medians = {name: statistics.median(values) for name, values in times.items()}
    reference = medians[next(iter(ways))]

    for _ in range(10_000):
        engine(x)
    before = resident_kib()
    for _ in range(arguments.calls):
        engine(x)
    after = resident_kib()

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    lines = [
        "# What a call from Python costs",
        "",
        f"{processor()}, Python {platform.python_version()}, NumPy {np.__version__}, ONNX Runtime "
        f"{onnxruntime.__version__}, Tenfold {commit.strip()}, {datetime.date.today()}. "
        "Command: `bench/python_overhead.py`.",
        "",
        f"One addition of four numbers, one thread. Microseconds a call, medians of {BLOCKS} blocks of {BLOCK} calls, all "
        "ways taking turns.",
        "",
        "| call | us | of ONNX Runtime's |",
        "|---|---|---|",
    ]
    lines += [f"| `{name}` | {us:.2f} | {us / reference:.2f} |" for name, us in medians.items()]
    lines += [
        "",
        f"Resident memory over {arguments.calls:,} calls of `engine(x)`: {before} KiB before, {after} KiB after "
        f"({after - before:+d} KiB).",
        "",
    ]
    text = "\n".join(lines)
    (ROOT / "bench" / "results" / "python_overhead.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
