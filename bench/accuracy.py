#!/usr/bin/env python3
"""What lower precisions cost in accuracy, on labelled data, and what they give in time.

Usage: accuracy.py MODEL.onnx DATA.npz [MODEL DATA ...] [--threads N] [--out FILE.md] [--note TEXT]

DATA.npz: one array for each input of the model, whose first axis counts samples and stands where the model has its
batch axis (a sample is run alone; it is cast to the input's type), and `label`: [samples] class numbers, or
[samples, K] sets of accepted ones, padded with -1. The class is the largest element of the first output, or whether
that exceeds 1/2 if it is a single number.

Each precision that this processor has is an engine of its own. The first, float32, is also held against ONNX Runtime.
Times are medians over all samples, in turns of 20 samples for each engine.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

from compare_runtimes import facts

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "demo"))
sys.path.insert(0, str(ROOT / "test/models"))
import run_models  # noqa: E402
from tenfold_ctypes import Engine  # noqa: E402

PRECISIONS = {"float32": [], "float16 weights": ["--fp16"], "bfloat16": ["--bf16"]}
TURN = 20  # samples of one engine before the next one's turn


def class_of(output):
    flat = output.reshape(-1)
    return int(flat[0] > 0.5) if flat.size == 1 else int(flat.argmax())


def is_right(answer, label):
    return answer in (label if numpy.ndim(label) else [label])


class Runner:
    """One precision of one model: answers, and milliseconds of each."""

    def __init__(self, run, engine_bytes=0):
        self.run, self.engine_bytes = run, engine_bytes
        self.outputs, self.times = [], []

    def take(self, feed):
        begin = time.perf_counter()
        outputs = self.run(feed)
        self.times.append(1e3 * (time.perf_counter() - begin))
        self.outputs.append(next(iter(outputs.values())).astype(numpy.float64))


def tenfold_runner(model, options, threads, shapes, folder):
    """:returns: a Runner, or None where the processor has no such precision."""
    engine = folder / ("engine" + "".join(options))
    text = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
    command = [run_models.tenfold(), "build", str(model), "-o", str(engine), "--quiet", "--threads", str(threads), "--shapes", text, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{model.stem}, {' '.join(options) or 'float32'}: {done.stderr.strip()}", file=sys.stderr)
        return None
    loaded = Engine(engine, threads=threads)
    return Runner(loaded.run, engine.stat().st_size)


def onnxruntime_runner(model, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    types = {value.name: value.type for value in session.get_inputs()}
    return Runner(lambda feed: dict(zip(names, session.run(names, feed)))), types


def measure(model, data, threads):
    """:returns: rows of a table, one for each precision, the first of them ONNX Runtime's float32."""
    with numpy.load(data) as file:
        arrays = {name: file[name] for name in file.files}
    labels = arrays.pop("label")
    peer, types = onnxruntime_runner(model, threads)
    dtypes = {"tensor(float)": numpy.float32, "tensor(int64)": numpy.int64, "tensor(int32)": numpy.int32, "tensor(uint8)": numpy.uint8}
    missing = set(types) - set(arrays)
    if missing:
        sys.exit(f"{data}: the model's input '{missing.pop()}' is missing; it has {', '.join(arrays)}")
    feeds = lambda index: {name: arrays[name][index:index + 1].astype(dtypes[types[name]]) for name in types}
    shapes = {name: (1, *arrays[name].shape[1:]) for name in types}
    with tempfile.TemporaryDirectory() as folder:
        runners = {"ONNX Runtime, float32": peer}
        for name, options in PRECISIONS.items():
            runner = tenfold_runner(model, options, threads, shapes, pathlib.Path(folder))
            if runner is not None:
                runners[name] = runner
        for begin in range(0, len(labels), TURN):
            batch = [feeds(index) for index in range(begin, min(begin + TURN, len(labels)))]
            for runner in runners.values():
                for feed in batch:
                    runner.take(feed)
    exact = runners["ONNX Runtime, float32"]
    expected = [class_of(output) for output in exact.outputs]
    scale = max(float(numpy.abs(output).max()) for output in exact.outputs)
    rows = []
    for name, runner in runners.items():
        answers = [class_of(output) for output in runner.outputs]
        rows.append({
            "model": model.stem, "samples": len(labels), "precision": name,
            "accuracy": statistics.mean(is_right(answer, label) for answer, label in zip(answers, labels)),
            "agreement": statistics.mean(a == b for a, b in zip(answers, expected)),
            "difference": max(float(numpy.abs(a - b).max()) for a, b in zip(runner.outputs, exact.outputs)) / scale,
            "ms": statistics.median(runner.times), "engine_bytes": runner.engine_bytes})
    return rows


def table(rows, report):
    lines = [f"# What lower precisions cost, {report['device']}", "",
             f"{report['host']}. Command: `{report['command']}`. Commit {run_models.commit()}, {time.strftime('%Y-%m-%d')}.{' ' + report['note'] if report['note'] else ''}", "",
             "*Accuracy* on labelled samples; *agreement*: samples whose class is that of ONNX Runtime in float32; *difference*: the largest one of any",
             "output to ONNX Runtime's, of the largest output. *Speed*: the median time of float32 over this one's, run in turns.", "",
             "| model | samples | precision | accuracy | agreement | difference | speed | engine MB |", "|---|---|---|---|---|---|---|---|"]
    base = {row["model"]: row["ms"] for row in rows if row["precision"] == "float32"}
    for row in rows:
        size = f"{row['engine_bytes'] / 1e6:.1f}" if row["engine_bytes"] else "-"
        lines.append(f"| {row['model']} | {row['samples']} | {row['precision']} | {100 * row['accuracy']:.2f} % | {100 * row['agreement']:.2f} % | "
                     f"{row['difference']:.1e} | {base[row['model']] / row['ms']:.2f} | {size} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", type=pathlib.Path, metavar="MODEL DATA")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--note", default="")
    arguments = parser.parse_args()
    if len(arguments.pairs) % 2:
        parser.error("models and data come in pairs")
    report = facts() | {"command": f"bench/accuracy.py MODEL DATA ... --threads {arguments.threads}", "note": arguments.note}
    rows = []
    for model, data in zip(arguments.pairs[::2], arguments.pairs[1::2]):
        rows += measure(model, data, arguments.threads)
        print(json.dumps(rows[-1]), flush=True)
    text = table(rows, report)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
