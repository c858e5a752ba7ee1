"""Which kernels an engine consists of, and what each takes."""

import json

import numpy as np
import tensorrt as trt

import models
from common import build, load


class Times(trt.IProfiler):
    def __init__(self):
        trt.IProfiler.__init__(self)
        self.milliseconds = {}

    def report_layer_time(self, layer_name, ms):
        self.milliseconds[layer_name] = self.milliseconds.get(layer_name, 0) + ms


def detailed(config):
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED


size = 32
engine = load(build(models.classifier(size), [{"input": ((1, 3, size, size),) * 3}], detailed))
context = engine.create_execution_context()
inspector = engine.create_engine_inspector()
inspector.execution_context = context
layers = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))["Layers"]
for layer in layers:
    print(layer["Name"], layer["LayerType"], layer["TacticName"], [i["Dimensions"] for i in layer["Inputs"]])
assert len(layers) == engine.num_layers

times = Times()
context.profiler = times
images = np.zeros((1, 3, size, size), np.float32)
scores = np.empty((1, 10), np.float32)
context.set_input_shape("input", images.shape)
for _ in range(10):
    assert context.execute_v2([images.ctypes.data, scores.ctypes.data])
for name, ms in sorted(times.milliseconds.items(), key=lambda item: -item[1]):
    print(f"{ms / 10:8.4f} ms  {name}")
assert set(times.milliseconds) <= {layer["Name"] for layer in layers}
