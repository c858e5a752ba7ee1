#!/usr/bin/env python3
"""Builds an engine of every model, reloads it in a new process, and compares its answers with ONNX Runtime's.

Usage: run_models.py FOLDER_OR_MODEL... [--runs 10] [--shapes 50] [--samples FOLDER] [--device cuda] [--json FILE] [--markdown FILE]

Each model gets ``--runs`` random inputs at its usual shapes and, if its shapes are dynamic, ``--shapes`` random shapes
inside the profile; zoo.py says which, agreement.py what counts as equal. ``--samples`` holds NAME.npz files of real
inputs (keys in:NAME) with the answers that are expected (keys out:NAME). With ``--device`` operators that have no kernel
there run on the host, and are named. ONNX Runtime computes on the CPU.
"""

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy

import agreement
import zoo

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def tenfold():
    return os.environ.get("TENFOLD", str(ROOT / "build/release/bin/tenfold"))


def device_name(device):
    if device != "cpu":
        query = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
        return query.stdout.strip().splitlines()[0] if query.stdout.strip() else device
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


def commit():
    """:returns: the commit, "-dirty" if more than recorded results differs from it."""
    result = subprocess.run(["git", "-C", str(ROOT), "describe", "--always"], capture_output=True, text=True)
    changed = subprocess.run(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", ":!bench/results"], capture_output=True, text=True)
    return (result.stdout.strip() or "unknown") + ("-dirty" if changed.stdout.strip() else "")


def build(model_path, engine, options):
    """:returns: (closing summary or None, the message of a failure)."""
    command = [tenfold(), "build", str(model_path), "-o", str(engine), "--json", "--quiet", *options]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        return None, f"exit {result.returncode}: {result.stderr.strip()}"
    return json.loads(result.stdout), ""


def operators_on_host(model_path, device, options):
    """:returns: the sorted operators of the model that have no kernel for the device."""
    if device == "cpu":
        return []
    command = [tenfold(), "check", str(model_path), "--device", device, "--json", *options]
    result = subprocess.run(command, capture_output=True, text=True)
    if not result.stdout.strip():
        raise RuntimeError(f"tenfold check: {result.stderr.strip()}")
    return sorted({problem["message"].split(" has no kernel")[0] for problem in json.loads(result.stdout)["problems"]})


def compare_case(actual, expected, moves, reference):
    """:returns: (largest relative distance, list of complaints)."""
    worst, complaints = 0.0, []
    for name, value in expected.items():
        if name not in actual:
            complaints.append(f"output '{name}' is missing")
            continue
        equal, relative, what = agreement.difference(actual[name], value, moves.get(name, 0.0), reference)
        worst = max(worst, relative)
        if not equal:
            complaints.append(f"output '{name}': {what}")
    return worst, complaints


def read_sample(samples, name):
    """:returns: inputs and recorded outputs, by name; nothing if there is no such file."""
    if samples is None or not (samples / f"{name}.npz").exists():
        return {}, {}
    with numpy.load(samples / f"{name}.npz") as arrays:
        return tuple({key[len(prefix):]: arrays[key] for key in arrays.files if key.startswith(prefix)} for prefix in ("in:", "out:"))


def check_model(path, runs, num_shapes, samples=None, build_options=(), device="cpu"):
    """Everything about one model.

    :returns: a dictionary with ``status`` "equal", "different" or "failed", and what was measured.
    """
    name = path.stem
    result = {"model": name, "status": "failed", "file_bytes": path.stat().st_size}
    reference = agreement.Reference(path, threads=1)  # answers count here, not time
    model = zoo.MODELS.get(name) or zoo.static_model(reference.session)
    if model is None:
        return {**result, "problem": "its shapes are dynamic and zoo.py does not say which to try"}
    generator = numpy.random.default_rng(20260101)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        sample, recorded = read_sample(samples, name)
        begin = time.perf_counter()
        options = zoo.build_options(zoo.covering(model, sample))
        on_host = operators_on_host(path, device, options)
        if on_host:
            result["on_host"] = on_host
        if device != "cpu":
            options += ["--device", device, *(["--allow-host"] if on_host else [])]
        summary, problem = build(path, folder / "m.engine", [*options, *build_options])
        if summary is None:
            return {**result, "problem": problem}
        if model.fix_inputs:
            result["fixed_inputs"] = dict(model.fix_inputs)
        result.update(build_seconds=round(time.perf_counter() - begin, 2), nodes=summary["nodes_in_model"], steps=summary["steps"],
                      engine_bytes=summary["file_bytes"], arena_bytes=summary["arena_bytes"])

        cases = [("usual", zoo.draw_inputs(model, generator, zoo.optimum(model))) for _ in range(runs)]
        if model.sizes:
            for _ in range(num_shapes):
                cases.append(("shape", zoo.draw_inputs(model, generator, zoo.draw_sizes(model, generator))))
        if sample:
            cases.append(("sample", sample))
        for index, (_, inputs) in enumerate(cases):
            with open(folder / f"{index:04}.in.npz", "wb") as file:
                numpy.savez(file, **zoo.engine_inputs(model, inputs))
        runner = subprocess.run([sys.executable, str(HERE / "runner.py"), str(folder / "m.engine"), str(folder)], capture_output=True, text=True)

        counts = {"usual": 0, "shape": 0, "sample": 0}
        complaints, worst = [], 0.0
        for index, (kind, inputs) in enumerate(cases):
            answer = folder / f"{index:04}.out.npz"
            shape = zoo_shape(inputs)
            if not answer.exists():
                error = folder / f"{index:04}.error"
                complaints.append(f"{kind} {shape}: " + (error.read_text() if error.exists() else f"no answer: {runner.stderr.strip()[-300:]}"))
                if not error.exists():
                    break
                continue
            with numpy.load(answer) as arrays:
                actual = {key: arrays[key] for key in arrays.files}
            answer.unlink()
            expected, moves = reference.answers(inputs, generator)
            relative, problems = compare_case(actual, expected, moves, reference)
            worst = max(worst, relative)
            if kind == "sample" and recorded and not reference.quantised:
                problems += [f"recorded answer: {problem}" for problem in compare_case(actual, recorded, moves, reference)[1]]
            counts[kind] += not problems
            complaints += [f"{kind} {shape}: {problem}" for problem in problems]
        wanted = {kind: sum(1 for other, _ in cases if other == kind) for kind in counts}
        result.update({f"{kind}_equal": counts[kind] for kind in counts}, **{f"{kind}_tried": wanted[kind] for kind in wanted},
                      largest_relative_difference=worst, quantised=reference.quantised)
        result["status"] = "equal" if not complaints and counts == wanted else "different"
        if complaints:
            result["problem"] = complaints[0]
            result["problems"] = complaints[:20]
    return result


def zoo_shape(inputs):
    shapes = [f"{name}:{'x'.join(map(str, value.shape))}" for name, value in inputs.items()]
    return ",".join(shapes[:2]) + (",..." if len(shapes) > 2 else "")


def line_of(row):
    line = f"{row['model']:28} {row['status']:9}"
    if "nodes" in row:
        line += f" {row['nodes']:5} nodes, {row['steps']:4} steps, {row['build_seconds']:6} s, {row['largest_relative_difference']:.1e}"
    line += "".join(f" host:{name}" for name in row.get("on_host", []))
    return line + ("  " + row["problem"].splitlines()[0][:200] if "problem" in row else "")


def markdown(report):
    lines = [f"# Whole models against ONNX Runtime {report['onnxruntime']}", "",
             f"{report['device']}, {report['date']}, commit {report['commit']}. Command: `{report['command']}`", "",
             "| model | nodes | steps | build s | usual inputs | random shapes | sample | largest relative difference | |", "|---|---|---|---|---|---|---|---|---|"]
    for row in report["models"]:
        if "nodes" not in row:
            lines.append(f"| {row['model']} | | | | | | | | {row['status']}: {row.get('problem', '').splitlines()[0][:160]} |")
            continue
        pairs = [f"{row[f'{kind}_equal']}/{row[f'{kind}_tried']}" if row.get(f"{kind}_tried") else "" for kind in ("usual", "shape", "sample")]
        lines.append(f"| {row['model']} | {row['nodes']} | {row['steps']} | {row['build_seconds']} | {pairs[0]} | {pairs[1]} | {pairs[2]} | "
                     f"{row['largest_relative_difference']:.1e} | {row['status']}"
                     + "".join(f", {name} fixed at {value}" for name, value in row.get("fixed_inputs", {}).items())
                     + (f"; on the host: {', '.join(row['on_host'])}" if "on_host" in row else "") + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--shapes", type=int, default=50)
    parser.add_argument("--samples", type=pathlib.Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--markdown", type=pathlib.Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--build-option", action="append", default=[])
    arguments = parser.parse_args()
    import onnxruntime

    paths = sorted(path for entry in arguments.models for path in (entry.glob("*.onnx") if entry.is_dir() else [entry]))
    report = {"date": datetime.date.today().isoformat(), "device": device_name(arguments.device), "commit": commit(), "onnxruntime": onnxruntime.__version__,
              "command": " ".join(["test/models/run_models.py", *(f"--{key} {getattr(arguments, key)}" for key in ("runs", "shapes")),
                                  *([f"--device {arguments.device}"] if arguments.device != "cpu" else [])]), "models": []}
    for path in paths:
        if arguments.only and path.stem not in arguments.only:
            continue
        row = check_model(path, arguments.runs, arguments.shapes, arguments.samples, arguments.build_option, arguments.device)
        report["models"].append(row)
        print(line_of(row), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=1) + "\n")
        if arguments.markdown:
            arguments.markdown.write_text(markdown(report))
    good = sum(row["status"] == "equal" for row in report["models"])
    print(f"{good} of {len(report['models'])} models answer as ONNX Runtime does")
    return 0 if good == len(report["models"]) else 1


if __name__ == "__main__":
    sys.exit(main())
