"""What the tests of the `tensorrt` module share: a small classifier, and building and running networks."""

import sys

import numpy as np
import tenfold.tensorrt as trt
from tensorrt_environment import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "examples" / "tensorrt"))
import models  # noqa: E402


class Collected(trt.ILogger):
    """Keeps all messages."""

    def __init__(self):
        trt.ILogger.__init__(self)
        self.messages = []

    def log(self, severity, msg):
        self.messages.append((severity, msg))

    def errors(self):
        return [msg for severity, msg in self.messages if severity in (trt.Logger.ERROR, trt.Logger.INTERNAL_ERROR)]


class Growing(trt.IOutputAllocator):
    """Memory for outputs of any size."""

    def __init__(self):
        trt.IOutputAllocator.__init__(self)
        self.buffers, self.shapes = {}, {}

    def reallocate_output(self, tensor_name, memory, size, alignment):
        self.buffers[tensor_name] = np.zeros(size + alignment, np.uint8)
        return self.buffers[tensor_name].ctypes.data

    def notify_shape(self, tensor_name, shape):
        self.shapes[tensor_name] = tuple(shape)

    def array(self, name, dtype):
        count = int(np.prod(self.shapes[name], dtype=np.int64))
        return self.buffers[name][: count * np.dtype(dtype).itemsize].view(dtype).reshape(self.shapes[name])


def new_network(logger=None):
    logger = logger or Collected()
    builder = trt.Builder(logger)
    return builder, builder.create_network(0), builder.create_builder_config(), logger


def build(builder, network, config, logger):
    """An engine; the logger's messages explain a failure."""
    config.builder_optimization_level = 0
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, logger.errors()
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    assert engine is not None, logger.errors()
    return engine


def run(engine, feeds, context=None):
    """Outputs by name, whatever their size."""
    context = context or engine.create_execution_context()
    held = {}
    for name, array in feeds.items():
        held[name] = np.array(array, trt.nptype(engine.get_tensor_dtype(name)), order="C")
        assert context.set_input_shape(name, held[name].shape), engine._logger.errors()
        assert context.set_tensor_address(name, held[name].ctypes.data)
    allocator = Growing()
    outputs = [
        n
        for n in map(engine.get_tensor_name, range(engine.num_io_tensors))
        if engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT
    ]
    for name in outputs:
        context.set_output_allocator(name, allocator)
    assert context.execute_async_v3(0), engine._logger.errors()
    return {name: allocator.array(name, trt.nptype(engine.get_tensor_dtype(name))).copy() for name in outputs}


SIZE = 16


def shape(batch):
    return (batch, 3, SIZE, SIZE)


def images(batch, seed=0):
    return np.random.default_rng(seed).standard_normal(shape(batch)).astype(np.float32)


def parsed(model=None, logger=None):
    builder, network, config, logger = new_network(logger)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model or models.classifier(SIZE)), logger.errors()
    config.builder_optimization_level = 0
    return builder, network, config, logger


def with_profile(builder, config, least=1, best=2, most=4):
    profile = builder.create_optimization_profile()
    profile.set_shape("input", shape(least), shape(best), shape(most))
    return config.add_optimization_profile(profile)


def classifier(configure=None, model=None):
    builder, network, config, logger = parsed(model)
    with_profile(builder, config)
    if configure:
        configure(config)
    return build(builder, network, config, logger), logger
