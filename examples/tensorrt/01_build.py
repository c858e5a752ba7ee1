"""Builds a plan from an ONNX file with a profile, the FP16 flag and a workspace limit.

python 01_build.py [model.onnx] [model.plan]
"""

import sys

import tensorrt as trt

import models

model_path = sys.argv[1] if len(sys.argv) > 1 else "model.onnx"
plan_path = sys.argv[2] if len(sys.argv) > 2 else "model.plan"
if len(sys.argv) == 1:
    with open(model_path, "wb") as f:
        f.write(models.classifier())

TRT_LOGGER = trt.Logger(trt.Logger.WARNING)
builder = trt.Builder(TRT_LOGGER)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
parser = trt.OnnxParser(network, TRT_LOGGER)
if not parser.parse_from_file(model_path):
    for i in range(parser.num_errors):
        print(parser.get_error(i))
    raise SystemExit("Failed to parse the ONNX file")

config = builder.create_builder_config()
config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
if builder.platform_has_fast_fp16:
    config.set_flag(trt.BuilderFlag.FP16)

input_tensor = network.get_input(0)
fixed = tuple(input_tensor.shape)[1:]
profile = builder.create_optimization_profile()
profile.set_shape(input_tensor.name, min=(1, *fixed), opt=(8, *fixed), max=(16, *fixed))
config.add_optimization_profile(profile)

plan = builder.build_serialized_network(network, config)
if plan is None:
    raise SystemExit("Failed to build the engine")
with open(plan_path, "wb") as f:
    f.write(plan)
print(f"{plan_path}: {plan.nbytes} bytes from {network.num_layers} layers")
