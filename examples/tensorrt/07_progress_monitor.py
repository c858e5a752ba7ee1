"""Follows a build with a progress monitor of its own, and cancels another build."""

import tensorrt as trt

import models
from common import LOGGER


class Bars(trt.IProgressMonitor):
    def __init__(self, cancel_in=None):
        trt.IProgressMonitor.__init__(self)
        self.active, self.finished, self.cancel_in = {}, [], cancel_in

    def phase_start(self, phase_name, parent_phase, num_steps):
        self.active[phase_name] = num_steps

    def step_complete(self, phase_name, step):
        print(f"\r{phase_name:12} [{'#' * (40 * (step + 1) // self.active[phase_name]):40}]", end="")
        return phase_name != self.cancel_in

    def phase_finish(self, phase_name):
        print()
        del self.active[phase_name]
        self.finished.append(phase_name)


def build(monitor):
    builder = trt.Builder(LOGGER)
    network = builder.create_network(0)
    assert trt.OnnxParser(network, LOGGER).parse(models.classifier())
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("input", *[(1, 3, 32, 32)] * 3)
    config.add_optimization_profile(profile)
    config.progress_monitor = monitor
    return builder.build_serialized_network(network, config)


bars = Bars()
assert build(bars) is not None
print("phases:", bars.finished)
assert "tactics" in bars.finished and not bars.active

assert build(Bars(cancel_in="tactics")) is None
print("cancelled")
