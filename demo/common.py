"""What the demos share: building engines, timing two runtimes fairly, printing tables."""

import json
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TENFOLD = ROOT / "build/release/bin/tenfold"
WORK = ROOT / "build/demo"


def build_engine(model, name, *options):
    """Compiles ``model`` with the command line; progress goes to stderr.

    :returns: path of the engine, and the closing summary of ``tenfold build --json`` as a dictionary.
    """
    WORK.mkdir(parents=True, exist_ok=True)
    engine = WORK / f"{name}.engine"
    command = [str(TENFOLD), "build", str(model), "-o", str(engine), "--timing-cache", str(WORK / "timing.cache"), "--json",
               *options]
    print(f"\n$ tenfold build {pathlib.Path(model).name} -o {engine.relative_to(ROOT)} {' '.join(options)}", file=sys.stderr)
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(result.returncode)
    return engine, json.loads(result.stdout)


def describe_build(name, summary):
    seconds = summary["seconds"]["total"]
    print(f"{name}: {summary['nodes_in_model']} nodes in the model, {summary['steps']} steps in the engine "
          f"({summary['file_bytes'] / 2**20:.1f} MiB, built in {seconds:.1f} s); "
          f"ONNX Runtime runs {onnxruntime_nodes(summary['model'])} nodes")


def onnxruntime_nodes(model):
    """:returns: how many nodes are left of a model after ONNX Runtime's own optimisations."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that the file is for this processor only
    options.optimized_model_filepath = str(WORK / "onnxruntime_optimized.onnx")
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return len(onnx.load(options.optimized_model_filepath).graph.node)


def interleaved(functions, rounds):
    """Calls each function once a round, in turn, so that a slow moment of the machine hits all alike.

    :param functions: name -> function.
    :returns: name -> median milliseconds; the first round does not count.
    """
    times = {name: [] for name in functions}
    for round_index in range(rounds + 1):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            if round_index > 0:
                times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: statistics.median(values) for name, values in times.items()}


def print_table(header, rows):
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  " + "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())
