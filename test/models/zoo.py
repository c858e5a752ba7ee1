"""What the whole-model tests know about each model: shapes to accept, and inputs that make sense to it.

A model that is not in the table works too if its input shapes are static.
"""

import dataclasses

import numpy


@dataclasses.dataclass
class Size:
    """One symbol of a model's shapes: its range in the profile, and the step between the sizes that are tried."""

    low: int
    opt: int
    high: int
    step: int = 1

    def draw(self, generator):
        return int(generator.integers(self.low // self.step, self.high // self.step + 1)) * self.step


def normal(generator, shape):
    return generator.standard_normal(shape).astype(numpy.float32)


def unit(generator, shape):
    return generator.random(shape, dtype=numpy.float32)


def signed_unit(generator, shape):
    return (2 * generator.random(shape) - 1).astype(numpy.float32)


def pixels(generator, shape):
    return generator.integers(0, 256, shape).astype(numpy.uint8)


def between(low, high, dtype=numpy.int64):
    return lambda generator, shape: generator.integers(low, high, shape).astype(dtype)


def uniform(low, high):
    return lambda generator, shape: generator.uniform(low, high, shape).astype(numpy.float32)


def constant(value, dtype=numpy.int64):
    return lambda generator, shape: numpy.full(shape, value, dtype)


def prefix_mask(generator, shape):
    """Attention masks: ones, then zeros; at least one of them is one."""
    lengths = generator.integers(1, shape[-1] + 1, shape[:-1])
    return (numpy.arange(shape[-1]) < lengths[..., None]).astype(numpy.int64)


@dataclasses.dataclass
class Model:
    sizes: dict          # symbol -> Size; the others are constants
    inputs: dict         # input -> (shape of numbers and symbols, generator of values)
    fix_shapes: str = ""  # for `tenfold build --fix-shapes`
    fix_inputs: tuple = ()  # inputs that `--fix-input` makes constants; ONNX Runtime still gets them


def _batch(high, *rest, values=normal, name):
    return Model({"b": Size(1, 1, high)}, {name: (["b", *rest], values)})


_BERT = Model({"b": Size(1, 1, 4), "s": Size(1, 64, 160)},
              {"input_ids": (["b", "s"], between(1000, 30000)), "attention_mask": (["b", "s"], prefix_mask),
               "token_type_ids": (["b", "s"], constant(0))})
_SILERO = Model({"b": Size(1, 1, 4)}, {"input": (["b", 576], uniform(-0.5, 0.5)), "state": ([2, "b", 128], uniform(-0.5, 0.5)),
                                       "sr": ([], constant(16000))})
_LLAMA = Model({"b": Size(1, 1, 1), "s": Size(1, 1, 16), "p": Size(0, 32, 64)},
               {"input_ids": (["b", "s"], between(100, 40000)),
                **{f"past.{layer}.{part}": (["b", 3, "p", 64], normal) for layer in range(30) for part in ("key", "value")}})

MODELS = {
    "basic_pitch": _batch(2, 43844, 1, values=signed_unit, name="serving_default_input_2:0"),
    "brain_tumor_vgg16": _batch(2, 240, 240, 3, values=unit, name="input"),
    "craft_text_detector": Model({"b": Size(1, 1, 1), "h": Size(96, 192, 256, 32), "w": Size(96, 256, 320, 32)},
                                 {"image": (["b", 3, "h", "w"], normal)}),
    "crepe_full": _batch(8, 1024, name="frame"),
    "crepe_tiny": _batch(8, 1024, name="frame"),
    "ddddocr_common": Model({"w": Size(40, 120, 240)}, {"input1": ([1, 1, 64, "w"], signed_unit)}),
    "dlrm_ml100k": Model({"b": Size(1, 64, 256)}, {"dense": (["b", 4], normal), "cat": (["b", 4], between(0, 2)),
                                                  "genre_bag": (["b", 6], between(0, 2))}),
    "dnsmos_sig_bak_ovr": _batch(2, 144160, values=uniform(-0.3, 0.3), name="input_1"),
    "doc_orientation_pplcnet": _batch(4, 3, 224, 224, name="x"),
    "efficientnet_lite0_imagenet": _batch(4, 3, 224, 224, values=signed_unit, name="image"),
    "efficientnet_lite3_int8": Model({}, {"images": ([1, 280, 280, 3], pixels)}),
    "elpv_effnet_lite0": _batch(4, 3, 224, 224, values=signed_unit, name="image"),
    "face_detection_short_range": Model({}, {"input": ([1, 128, 128, 3], signed_unit)}),
    "fashion_resnet20": _batch(8, 1, 28, 28, name="image"),
    "magika": _batch(4, 2048, values=between(0, 257, numpy.int32), name="bytes"),
    "minilm_l6_sentence": _BERT,
    "minilm_sentiment": _BERT,
    "mtcnn_onet": _batch(8, 3, 48, 48, values=signed_unit, name="crop"),
    "mtcnn_pnet": Model({"b": Size(1, 1, 2), "h": Size(12, 240, 320), "w": Size(12, 320, 400)},
                        {"image": (["b", 3, "h", "w"], signed_unit)}),
    "palm_detection_full": Model({}, {"input_1": ([1, 192, 192, 3], unit)}),
    "pose_landmark_full": Model({}, {"input_1": ([1, 256, 256, 3], unit)}),
    "pp_ocr_cls": Model({"b": Size(1, 6, 6)}, {"x": (["b", 3, 48, 192], signed_unit)}),
    "pp_ocrv4_det": Model({"b": Size(1, 1, 1), "h": Size(32, 320, 480, 32), "w": Size(32, 480, 640, 32)},
                          {"x": (["b", 3, "h", "w"], signed_unit)}),
    "pp_ocrv4_rec": Model({"b": Size(1, 1, 6), "w": Size(16, 320, 480)}, {"x": (["b", 3, 48, "w"], signed_unit)}),
    "resemblyzer_speaker_lstm": Model({"b": Size(1, 1, 4), "t": Size(1, 160, 200)}, {"mel": (["b", "t", 40], unit)}),
    "selfie_segmentation": Model({}, {"input_1": ([1, 256, 256, 3], unit)}),
    "silero_vad": dataclasses.replace(_SILERO, fix_shapes="input:-1x-1,state:2x-1x128"),
    "silero_vad_op18": _SILERO,
    "smollm2_135m_kv": _LLAMA,
    "sscd_resnet50_int8": Model({"b": Size(1, 1, 1), "h": Size(96, 224, 288), "w": Size(96, 224, 288)},
                                {"image": (["b", "h", "w", 3], pixels)}),
    "ssd_mobilenet_v2_coco": Model({"b": Size(1, 1, 1), "h": Size(200, 300, 400), "w": Size(200, 300, 400)},
                                   {"image_tensor:0": (["b", "h", "w", 3], pixels)}),
    "terrain_diffusion_unet": Model({"b": Size(1, 1, 2)}, {"noisy": (["b", 1, 128, 128], normal), "sigma": (["b"], uniform(0.1, 40)),
                                                          "difficulty": (["b"], unit)}),
}


def static_model(session):
    """The entry of a model that the table does not know, from ONNX Runtime's view of its inputs; None if it is dynamic."""
    values = {"tensor(float)": normal, "tensor(uint8)": pixels, "tensor(int64)": between(0, 2), "tensor(int32)": between(0, 2, numpy.int32)}
    inputs = {}
    for node in session.get_inputs():
        if node.type not in values or not all(isinstance(dim, int) and dim > 0 for dim in node.shape):
            return None
        inputs[node.name] = (list(node.shape), values[node.type])
    return Model({}, inputs)


def shapes(model, sizes):
    """:param sizes: symbol -> number. :returns: input -> shape."""
    return {name: [sizes.get(dim, dim) for dim in shape] for name, (shape, _) in model.inputs.items()}


def shape_text(model, sizes):
    """As the command line wants shapes: ``x:1x3x224x224,...``."""
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in engine_inputs(model, shapes(model, sizes)).items())


def import_options(model):
    """Options that say how the model is to be read."""
    options = ["--fix-shapes", model.fix_shapes] if model.fix_shapes else []
    for name, value in model.fix_inputs:
        options += ["--fix-input", f"{name}={value}"]
    return options


def engine_inputs(model, inputs):
    """Without those that are constants of the engine."""
    return {name: value for name, value in inputs.items() if name not in dict(model.fix_inputs)}


def build_options(model):
    """Options of ``tenfold build`` for the model's profile."""
    options = import_options(model)
    if model.sizes:
        for option, part in (("--min-shapes", "low"), ("--opt-shapes", "opt"), ("--max-shapes", "high")):
            options += [option, shape_text(model, {name: getattr(size, part) for name, size in model.sizes.items()})]
    return options


def covering(model, inputs):
    """:returns: the model with a profile that also accepts these inputs."""
    sizes = dict(model.sizes)
    for name, (shape, _) in model.inputs.items():
        for dim, number in zip(shape, numpy.shape(inputs.get(name, ()))):
            if dim in sizes:
                sizes[dim] = dataclasses.replace(sizes[dim], low=min(sizes[dim].low, number), high=max(sizes[dim].high, number))
    return dataclasses.replace(model, sizes=sizes)


def draw_inputs(model, generator, sizes):
    return {name: values(generator, tuple(sizes.get(dim, dim) for dim in shape)) for name, (shape, values) in model.inputs.items()}


def optimum(model):
    return {name: size.opt for name, size in model.sizes.items()}


def draw_sizes(model, generator):
    return {name: size.draw(generator) for name, size in model.sizes.items()}
