"""LeNet-5 (LeCun et al. 1998) layer by layer, and the same in NumPy."""

import numpy as np
import tensorrt as trt

from common import LOGGER, load

random = np.random.default_rng(0)


def weights(*shape):
    return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 10)).astype(np.float32)


W1, B1, W2, B2 = weights(6, 1, 5, 5), weights(6), weights(16, 6, 5, 5), weights(16)
W3, B3, W4, B4 = weights(120, 256), weights(1, 120), weights(10, 120), weights(1, 10)


def dense(network, tensor, w, b, name):
    kernel = network.add_constant(w.shape, w).get_output(0)
    product = network.add_matrix_multiply(tensor, trt.MatrixOperation.NONE, kernel, trt.MatrixOperation.TRANSPOSE)
    bias = network.add_constant(b.shape, b).get_output(0)
    total = network.add_elementwise(product.get_output(0), bias, trt.ElementWiseOperation.SUM)
    total.name = name
    return total.get_output(0)


def pooled(network, tensor, w, b):
    conv = network.add_convolution_nd(tensor, w.shape[0], (5, 5), w, b)
    conv.stride_nd = (1, 1)
    active = network.add_activation(conv.get_output(0), trt.ActivationType.RELU)
    pool = network.add_pooling_nd(active.get_output(0), trt.PoolingType.MAX, (2, 2))
    pool.stride_nd = (2, 2)
    return pool.get_output(0)


builder = trt.Builder(LOGGER)
network = builder.create_network(0)
network.name = "LeNet-5"
images = network.add_input("images", trt.float32, (-1, 1, 28, 28))
tensor = pooled(network, pooled(network, images, W1, B1), W2, B2)
flat = network.add_shuffle(tensor)
flat.reshape_dims = (0, -1)
hidden = network.add_activation(dense(network, flat.get_output(0), W3, B3, "fc1"), trt.ActivationType.TANH)
logits = dense(network, hidden.get_output(0), W4, B4, "fc2")
softmax = network.add_softmax(logits)
softmax.axes = 1 << 1
softmax.get_output(0).name = "probabilities"
network.mark_output(softmax.get_output(0))
print([(layer.name, str(layer.type)) for layer in network])
print("output:", softmax.get_output(0).shape)

config = builder.create_builder_config()
profile = builder.create_optimization_profile()
profile.set_shape("images", (1, 1, 28, 28), (4, 1, 28, 28), (8, 1, 28, 28))
config.add_optimization_profile(profile)
engine = load(builder.build_serialized_network(network, config))

x = random.standard_normal((3, 1, 28, 28)).astype(np.float32)
context = engine.create_execution_context()
context.set_input_shape("images", x.shape)
y = np.empty((3, 10), np.float32)
assert context.execute_v2([x.ctypes.data, y.ctypes.data])


def reference(x):
    for w, b in ((W1, B1), (W2, B2)):
        windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
        x = np.maximum(np.einsum("nchwij,ocij->nohw", windows, w) + b[:, None, None], 0)
        n, c, h, w_ = x.shape
        x = x.reshape(n, c, h // 2, 2, w_ // 2, 2).max(axis=(3, 5))
    logits = np.tanh(x.reshape(len(x), -1) @ W3.T + B3) @ W4.T + B4
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


error = np.abs(y - reference(x)).max()
print("largest difference to NumPy:", error)
assert error < 1e-5
