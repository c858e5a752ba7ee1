"""One engine with two profiles: single images, and large batches. Each context uses the profile that fits."""

import numpy as np

import models
from common import build, load

size = 32


def shape(batch):
    return (batch, 3, size, size)


plan = build(
    models.classifier(size), [{"input": (shape(1), shape(1), shape(2))}, {"input": (shape(3), shape(16), shape(32))}]
)
engine = load(plan)
print(engine.num_optimization_profiles, "profiles")
for index in range(engine.num_optimization_profiles):
    print(index, [tuple(s) for s in engine.get_tensor_profile_shape("input", index)])

context = engine.create_execution_context()
for batch in (1, 2, 3, 20):
    profile = 0 if batch <= 2 else 1
    if context.active_optimization_profile != profile:
        assert context.set_optimization_profile_async(profile, 0)
    images = np.random.default_rng(batch).standard_normal(shape(batch)).astype(np.float32)
    assert context.set_input_shape("input", images.shape)
    assert not context.infer_shapes()
    scores = np.empty(tuple(context.get_tensor_shape("scores")), np.float32)
    context.set_tensor_address("input", images.ctypes.data)
    context.set_tensor_address("scores", scores.ctypes.data)
    assert context.execute_async_v3(0)
    print(f"batch {batch}: profile {context.active_optimization_profile}, classes {scores.argmax(axis=1)[:5]}")

# A shape that no profile accepts is refused before the run.
assert not context.set_input_shape("input", shape(33))
