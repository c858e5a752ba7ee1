"""Many requests, a pool of threads, one context for each thread. Contexts share the engine's weights."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import models
from common import build, load

size = 32
engine = load(build(models.classifier(size), [{"input": ((1, 3, size, size), (1, 3, size, size), (4, 3, size, size))}]))
local = threading.local()


def infer(images):
    if not hasattr(local, "context"):
        local.context = engine.create_execution_context()
    context = local.context
    context.set_input_shape("input", images.shape)
    scores = np.empty(tuple(context.get_tensor_shape("scores")), np.float32)
    context.set_tensor_address("input", images.ctypes.data)
    context.set_tensor_address("scores", scores.ctypes.data)
    assert context.execute_async_v3(0)
    return scores


random = np.random.default_rng(0)
requests = [random.standard_normal((1 + i % 4, 3, size, size)).astype(np.float32) for i in range(64)]
expected = [infer(images) for images in requests]
with ThreadPoolExecutor(4) as pool:
    answers = list(pool.map(infer, requests))
assert all(np.array_equal(a, b) for a, b in zip(answers, expected))
print(len(answers), "requests answered by 4 threads")
