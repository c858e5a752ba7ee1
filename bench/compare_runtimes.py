#!/usr/bin/env python3
"""Tenfold beside ONNX Runtime and OpenVINO, in one run on one machine.

Usage: compare_runtimes.py MODEL... [--threads 1 2] [--rounds 7] [--runs 5] [--json FILE] [--markdown FILE]

Every runtime lives in a process of its own (so that its memory can be seen) and they take turns: a round is a few runs of
each, and the median over all rounds counts. Each gets the same input, fixed shapes and the same number of threads, and
every answer is compared (test/models/agreement.py). Without --threads all cores are used.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "test/models"), str(ROOT / "demo")]

RUNTIMES = ["tenfold", "onnxruntime", "openvino"]


# --- In the child process ------------------------------------------------------------------------------------------
def peak_memory():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def start_tenfold(model, engine, threads, shapes):
    from tenfold_ctypes import Engine

    return Engine(engine, threads=threads).run


def start_onnxruntime(model, engine, threads, shapes):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs)))


def start_openvino(model, engine, threads, shapes):
    import openvino

    core = openvino.Core()
    network = core.read_model(model)
    network.reshape({name: openvino.PartialShape(shape) for name, shape in shapes.items()})
    compiled = core.compile_model(network, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    # Outputs by position: OpenVINO may give one tensor several names.
    names = [next(iter(sorted(output.get_names()))) for output in network.outputs]

    def run(inputs):
        request.infer(inputs, share_inputs=True)
        return {name: request.get_output_tensor(i).data.copy() for i, name in enumerate(names)}

    return run


def child(runtime, model, engine, threads, inputs_path, outputs_path):
    """Answers "run N" on stdin with N times in milliseconds, until stdin ends."""
    with numpy.load(inputs_path) as arrays:
        inputs = {key: arrays[key] for key in arrays.files}
    shapes = {name: list(value.shape) for name, value in inputs.items()}
    memory_before = peak_memory()
    begin = time.perf_counter()
    run = {"tenfold": start_tenfold, "onnxruntime": start_onnxruntime, "openvino": start_openvino}[runtime](model, engine, threads, shapes)
    loaded = time.perf_counter()
    outputs = run(inputs)
    first = time.perf_counter()
    with open(outputs_path, "wb") as file:
        numpy.savez(file, **{f"{i:04}": value for i, value in enumerate(outputs.values())})
    print(json.dumps({"load_ms": 1e3 * (loaded - begin), "first_run_ms": 1e3 * (first - loaded), "outputs": list(outputs)}), flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line.split()[1])):
            begin = time.perf_counter()
            run(inputs)
            times.append(1e3 * (time.perf_counter() - begin))
        print(json.dumps({"times_ms": times, "memory_bytes": peak_memory() - memory_before}), flush=True)


# --- In the parent process -----------------------------------------------------------------------------------------
class Child:
    def __init__(self, runtime, model, engine, threads, folder):
        self.outputs_path = folder / f"{runtime}.out.npz"
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen([sys.executable, __file__, "--child", runtime, str(model), str(engine), str(threads), str(folder / ("tenfold.in.npz" if runtime == "tenfold" else "in.npz")), str(self.outputs_path)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        self.start = self._read()
        self.times, self.memory = [], 0

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.stderr.read().strip()[-300:])
        return json.loads(line)

    def run(self, count, keep=True):
        self.process.stdin.write(f"run {count}\n")
        self.process.stdin.flush()
        answer = self._read()
        if keep:
            self.times += answer["times_ms"]
        self.memory = answer["memory_bytes"]

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def build_tenfold(model, engine, options, threads, cache):
    from run_models import build

    begin = time.perf_counter()
    summary, problem = build(model, engine, [*options, "--threads", str(threads), "--timing-cache", str(cache)])
    if summary is None:
        raise RuntimeError(problem)
    return time.perf_counter() - begin, summary


def compare(model_path, threads, rounds, runs):
    import agreement
    import zoo

    reference = agreement.Reference(model_path)
    model = zoo.MODELS.get(model_path.stem) or zoo.static_model(reference.session)
    if model is None:
        raise RuntimeError("its shapes are dynamic and zoo.py does not say which to use")
    generator = numpy.random.default_rng(7)
    sizes = zoo.optimum(model)
    inputs = zoo.draw_inputs(model, generator, sizes)
    expected, moves = reference.answers(inputs, generator)
    options = zoo.import_options(model)
    if model.sizes:
        options += ["--shapes", zoo.shape_text(model, sizes)]
    row = {"model": model_path.stem, "threads": threads, "shapes": zoo.shape_text(model, sizes), "runtimes": {}}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with open(folder / "in.npz", "wb") as file:
            numpy.savez(file, **inputs)
        with open(folder / "tenfold.in.npz", "wb") as file:
            numpy.savez(file, **zoo.engine_inputs(model, inputs))
        cold, summary = build_tenfold(model_path, folder / "m.engine", options, threads, folder / "cache")
        warm, _ = build_tenfold(model_path, folder / "m.engine", options, threads, folder / "cache")
        row.update(nodes=summary["nodes_in_model"], steps=summary["steps"])
        children = {}
        for runtime in RUNTIMES:
            try:
                children[runtime] = Child(runtime, model_path, folder / "m.engine", threads, folder)
            except RuntimeError as error:
                row["runtimes"][runtime] = {"problem": str(error)}
        for round_index in range(rounds + 1):
            for one in children.values():
                one.run(runs, keep=round_index > 0)
                time.sleep(0.02)  # threads of the last one that still spin shall not be the next one's cost
        for runtime, one in children.items():
            one.stop()
            with numpy.load(one.outputs_path) as arrays:
                actual = dict(zip(one.start["outputs"], (arrays[key] for key in sorted(arrays.files))))
            if runtime == "openvino":
                actual = dict(zip(expected, actual.values()))
            problems = [f"{name}: {what}" for name, value in expected.items() if name in actual
                        for equal, _, what in [agreement.difference(actual[name], value, moves[name], reference)] if not equal]
            ordered = sorted(one.times)
            row["runtimes"][runtime] = {"median_ms": statistics.median(ordered), "min_ms": ordered[0], "p90_ms": ordered[int(0.9 * len(ordered))],
                                        "load_ms": one.start["load_ms"], "first_run_ms": one.start["first_run_ms"], "memory_bytes": one.memory,
                                        "answer_is_right": not problems, **({"difference": problems[0]} if problems else {})}
        row["runtimes"]["tenfold"].update(build_seconds=cold, build_with_cache_seconds=warm, engine_bytes=summary["file_bytes"])
    return row


def ratio(row):
    """Time of the faster one of the others over ours: above 1 we are faster."""
    times = {name: entry["median_ms"] for name, entry in row["runtimes"].items() if "median_ms" in entry}
    others = [value for name, value in times.items() if name != "tenfold"]
    return min(others) / times["tenfold"] if others and "tenfold" in times else float("nan")


def markdown(report):
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [f"# Tenfold beside {versions}", "", f"{report['device']}, {report['date']}, commit {report['commit']}, load average at the start {report['load_average']}. "
             f"Command: `{report['command']}`", "", "Medians in milliseconds; `ratio` is the faster one of the others over Tenfold (above 1: Tenfold is faster). Memory is what "
             "loading and running added to the process. `!` marks an answer outside the tolerance.", "",
             "| model | threads | Tenfold | ONNX Runtime | OpenVINO | ratio | build s (cached) | load Tenfold / ORT / OV | first run | memory MiB | nodes -> steps |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]
    for row in report["rows"]:
        if "problem" in row:
            lines.append(f"| {row['model']} | {row['threads']} | {row['problem'].splitlines()[0][:120]} | | | | | | | | |")
            continue

        def cells(key, scale=1.0, digits=2):
            values = []
            for name in RUNTIMES:
                entry = row["runtimes"].get(name, {})
                values.append(f"{entry[key] * scale:.{digits}f}" if key in entry else "-")
            return values

        medians = [value + ("" if row["runtimes"].get(name, {}).get("answer_is_right", True) else " !") for name, value in zip(RUNTIMES, cells("median_ms"))]
        own = row["runtimes"]["tenfold"]
        lines.append(f"| {row['model']} | {row['threads']} | {' | '.join(medians)} | {ratio(row):.2f} | {own['build_seconds']:.1f} ({own['build_with_cache_seconds']:.1f}) | "
                     f"{' / '.join(cells('load_ms', digits=0))} | {' / '.join(cells('first_run_ms', digits=1))} | {' / '.join(cells('memory_bytes', 2.0**-20, 0))} | {row['nodes']} -> {row['steps']} |")
    ratios = [ratio(row) for row in report["rows"] if "runtimes" in row]
    ratios = [value for value in ratios if value == value]
    if ratios:
        lines += ["", f"Geometric mean of the ratios over {len(ratios)} rows: {statistics.geometric_mean(ratios):.2f}; smallest {min(ratios):.2f}, largest {max(ratios):.2f}."]
    return "\n".join(lines) + "\n"


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        runtime, model, engine, threads, inputs, outputs = sys.argv[2:]
        child(runtime, model, engine, int(threads), inputs, outputs)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--threads", nargs="+", type=int, default=[len(os.sched_getaffinity(0))])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path, default=ROOT / "bench/results/compare_runtimes.json")
    parser.add_argument("--markdown", type=pathlib.Path, default=ROOT / "bench/results/compare_runtimes.md")
    arguments = parser.parse_args()

    import importlib.metadata

    from run_models import commit, cpu_name

    report = {"date": datetime.date.today().isoformat(), "device": f"{cpu_name()}, {os.cpu_count()} cores", "commit": commit(),
              "load_average": f"{os.getloadavg()[0]:.1f}", "versions": {"ONNX Runtime": importlib.metadata.version("onnxruntime"), "OpenVINO": importlib.metadata.version("openvino")},
              "command": f"bench/compare_runtimes.py --threads {' '.join(map(str, arguments.threads))} --rounds {arguments.rounds} --runs {arguments.runs}", "rows": []}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    for model in arguments.models:
        for threads in arguments.threads:
            try:
                row = compare(model, threads, arguments.rounds, arguments.runs)
                times = "  ".join(f"{name} {entry.get('median_ms', float('nan')):8.2f} ms" for name, entry in row["runtimes"].items())
                print(f"{model.stem:28} {threads} threads  {times}  ratio {ratio(row):.2f}", flush=True)
            except RuntimeError as error:
                row = {"model": model.stem, "threads": threads, "problem": str(error)}
                print(f"{model.stem:28} {threads} threads  {error}", flush=True)
            report["rows"].append(row)
            arguments.json.write_text(json.dumps(report, indent=1) + "\n")
            arguments.markdown.write_text(markdown(report))


if __name__ == "__main__":
    main()
