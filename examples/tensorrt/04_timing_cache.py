"""Keeps what the builder measured, so that the next build of the same network measures nothing."""

import os
import time

import models
from common import build
import tensorrt as trt

size = 64
path = "timing.cache"
profiles = [{"input": ((1, 3, size, size), (4, 3, size, size), (8, 3, size, size))}]


def timed_build():
    caches = []

    def configure(config):
        serialized = open(path, "rb").read() if os.path.exists(path) else b""
        config.set_timing_cache(config.create_timing_cache(serialized), ignore_mismatch=False)
        caches.append(config)

    start = time.perf_counter()
    plan = build(models.classifier(size), profiles, configure)
    seconds = time.perf_counter() - start
    with open(path, "wb") as f:
        f.write(caches[0].get_timing_cache().serialize())
    return plan, seconds


if os.path.exists(path):
    os.remove(path)
first, first_seconds = timed_build()
second, second_seconds = timed_build()
print(
    f"first build {first_seconds:.2f} s, second {second_seconds:.2f} s, cache {os.path.getsize(path)} bytes, TensorRT {trt.__version__}"
)
assert os.path.getsize(path) > 100
