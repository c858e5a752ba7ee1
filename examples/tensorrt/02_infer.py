"""Loads a plan and runs it with addresses by name, and with a list of bindings."""

import numpy as np
import tensorrt as trt

import models
from common import build, load

size = 32
plan = build(models.classifier(size), [{"input": ((1, 3, size, size), (4, 3, size, size), (8, 3, size, size))}])
engine = load(plan)
for i in range(engine.num_io_tensors):
    name = engine.get_tensor_name(i)
    print(name, engine.get_tensor_mode(name), engine.get_tensor_dtype(name), engine.get_tensor_shape(name))

context = engine.create_execution_context()
images = np.random.default_rng(1).standard_normal((4, 3, size, size)).astype(np.float32)
assert context.set_input_shape("input", images.shape)
scores = np.empty(tuple(context.get_tensor_shape("scores")), trt.nptype(engine.get_tensor_dtype("scores")))

# Release 8.5 and later.
context.set_tensor_address("input", images.ctypes.data)
context.set_tensor_address("scores", scores.ctypes.data)
assert context.execute_async_v3(0)
print("classes:", scores.argmax(axis=1))

# All releases.
again = np.empty_like(scores)
assert context.execute_v2([images.ctypes.data, again.ctypes.data])
assert np.array_equal(scores, again)
assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)
