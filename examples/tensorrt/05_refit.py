"""Gives an engine other weights: those of a model that was trained on."""

import numpy as np
import tensorrt as trt

import models
from common import LOGGER, build, load

size = 32
profiles = [{"input": ((1, 3, size, size),) * 3}]
engine = load(build(models.classifier(size, seed=0), profiles, lambda config: config.set_flag(trt.BuilderFlag.REFIT)))
assert engine.refittable
other = load(build(models.classifier(size, seed=1), profiles))

images = np.random.default_rng(1).standard_normal((1, 3, size, size)).astype(np.float32)


def run(context):
    scores = np.empty((1, 10), np.float32)
    context.set_input_shape("input", images.shape)
    assert context.execute_v2([images.ctypes.data, scores.ctypes.data])
    return scores


context = engine.create_execution_context()
before = run(context)

refitter = trt.Refitter(engine, LOGGER)
print("weights:", refitter.get_all_weights())
# By name ...
assert refitter.set_named_weights("b3", np.zeros(10, np.float32))
# ... or all of them from a model.
parser = trt.OnnxParserRefitter(refitter, LOGGER)
assert parser.refit_from_bytes(models.classifier(size, seed=1))
assert not refitter.get_missing_weights()
assert refitter.refit_cuda_engine()

after = run(context)
assert not np.allclose(before, after)
assert np.allclose(after, run(other.create_execution_context()), rtol=1e-4, atol=1e-6)
print("before", before.argmax(), "after", after.argmax())
