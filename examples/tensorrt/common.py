"""What the other examples share: building a plan from bytes of a model."""

import tensorrt as trt

LOGGER = trt.Logger(trt.Logger.WARNING)


def build(model, profiles=(), configure=None, logger=LOGGER):
    """A plan; each of `profiles` gives (min, opt, max) by input name, and `configure(config)` sets what else is wanted."""
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        raise RuntimeError("\n".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config = builder.create_builder_config()
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for name, (least, best, most) in shapes.items():
            profile.set_shape(name, least, best, most)
        config.add_optimization_profile(profile)
    if configure:
        configure(config)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("the build failed; see the messages above")
    return plan


def load(plan, logger=LOGGER):
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise RuntimeError("the plan cannot be loaded; see the messages above")
    return engine
