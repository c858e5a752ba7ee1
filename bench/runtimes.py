"""The runtimes that are compared, each in a process of its own that answers "run N" with N times.

Settings, each runtime's best honest ones for answers in float32:

* all: fixed shapes, the same number of threads, the same arrays as inputs, results as new NumPy arrays.
* Tenfold: an engine built for the shapes and the number of threads, through the installed Python package.
* ONNX Runtime: all graph optimisations (which choose its blocked layouts), threads that spin between operators (its
  default), dynamic dimensions replaced by numbers before it optimises, sequential execution.
* OpenVINO: reshaped to the fixed shapes, LATENCY, one stream, float32 (its default may be bfloat16).

With bfloat16 allowed (`--bf16`): an engine built so, and OpenVINO told so; ONNX Runtime has no such kernels for x86-64 and stays
as it is.
"""

import importlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[1]
RUNTIMES = ["tenfold", "onnxruntime", *(["openvino"] if importlib.util.find_spec("openvino") else [])]
TITLES = {"tenfold": "Tenfold", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
PEERS = RUNTIMES[1:]


# --- In the child process ------------------------------------------------------------------------------------------
def peak_memory():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def start_tenfold(model, engine, threads, shapes, bf16):
    import tenfold

    return tenfold.Engine.load(engine, threads=threads)


def start_onnxruntime(model, engine, threads, shapes, bf16):
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    sizes = {}
    for value in onnx.load(model, load_external_data=False).graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, [])):
            sizes.setdefault(dim.dim_param, set()).add(size)
    for name, values in sizes.items():
        if name and len(values) == 1:  # some files call every unknown size "?"
            options.add_free_dimension_override_by_name(name, values.pop())
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs)))


def start_openvino(model, engine, threads, shapes, bf16):
    import openvino

    core = openvino.Core()
    network = core.read_model(model)
    network.reshape({name: openvino.PartialShape(shape) for name, shape in shapes.items()})
    compiled = core.compile_model(network, "CPU", {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32"})
    request = compiled.create_infer_request()
    # Outputs by position: OpenVINO may give one tensor several names.
    names = [next(iter(sorted(output.get_names()))) for output in network.outputs]

    def run(inputs):
        request.infer(inputs, share_inputs=True)
        return {name: request.get_output_tensor(i).data.copy() for i, name in enumerate(names)}

    return run


STARTS = {"tenfold": start_tenfold, "onnxruntime": start_onnxruntime, "openvino": start_openvino}


def serve(runtime, model, engine, threads, inputs_path, outputs_path, bf16):
    """Answers "run N" on stdin with N times in milliseconds, until stdin ends."""
    with numpy.load(inputs_path) as arrays:
        inputs = {key: arrays[key] for key in arrays.files}
    shapes = {name: list(value.shape) for name, value in inputs.items()}
    importlib.import_module(runtime)  # what a process does once, whatever it loads, is not the time of a load
    memory_before = peak_memory()
    begin = time.perf_counter()
    run = STARTS[runtime](model, engine, threads, shapes, bf16)
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
def stat_fields(folder):
    """What /proc says of a process or a thread, from its state on."""
    return (folder / "stat").read_text().rsplit(")", 1)[1].split()


class Child:
    """One runtime with one model loaded. Raises RuntimeError with what the process said if it cannot."""

    def __init__(self, runtime, model, engine, threads, inputs_path, folder, bf16=False):
        self.outputs_path = folder / f"{runtime}.out.npz"
        self._log = open(folder / f"{runtime}.log", "w+")
        command = [sys.executable, __file__, runtime, str(model), str(engine), str(threads), str(inputs_path), str(self.outputs_path), *(["bf16"] if bf16 else [])]
        # NumPy's own threads would spin beside the first run.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
                                         env={**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"})
        self.start = self._read()
        self.rounds, self.memory = [], 0

    def _read(self):
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        raise RuntimeError(lines[-1][-300:] if lines else f"ended with {self._process.returncode}")

    def run(self, count, keep=True):
        """:returns: milliseconds of each of the runs."""
        self._process.stdin.write(f"run {count}\n")
        self._process.stdin.flush()
        answer = self._read()
        if keep:
            self.rounds.append(answer["times_ms"])
        self.memory = answer["memory_bytes"]
        return answer["times_ms"]

    def processor_seconds(self):
        fields = stat_fields(pathlib.Path(f"/proc/{self._process.pid}"))
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_idle(self):
        """Whether all of its threads sleep."""
        states = []
        for task in pathlib.Path(f"/proc/{self._process.pid}/task").iterdir():
            try:
                states.append(stat_fields(task)[0])
            except OSError:
                pass  # it has ended
        return "R" not in states

    def outputs(self):
        with numpy.load(self.outputs_path) as arrays:
            return dict(zip(self.start["outputs"], (arrays[key] for key in sorted(arrays.files))))

    def stop(self):
        self._process.stdin.close()
        self._process.wait()
        self._log.close()


if __name__ == "__main__":
    name, model_path, engine_path, num_threads, given, answers, *precision = sys.argv[1:]
    serve(name, model_path, engine_path, int(num_threads), given, answers, precision == ["bf16"])
