#!/usr/bin/env python3
"""Reads the text of pictures with PP-OCRv4 (detection and recognition), by Tenfold and by ONNX Runtime.

RapidOCR's own pre- and post-processing runs around both; only the networks are exchanged. The scanned page and the
photograph come with scikit-image, the two others are drawn here.
"""

import pathlib
import statistics
import time

import cv2
import numpy
import onnxruntime
import rapidocr_onnxruntime
from PIL import Image, ImageDraw, ImageFilter, ImageFont

import common
from tenfold_ctypes import Engine

MODELS = pathlib.Path(rapidocr_onnxruntime.__file__).parent / "models"
# Both networks take pictures of any size: what the engines shall accept, and what they shall be fastest at.
NETWORKS = {
    "detection": ("ch_PP-OCRv4_det_infer.onnx", ["x:1x3x32x32", "x:1x3x736x1088", "x:1x3x1536x2048"]),
    "recognition": ("ch_PP-OCRv4_rec_infer.onnx", ["x:1x3x48x32", "x:6x3x48x320", "x:6x3x48x2048"]),
}


class Session:
    """Stands in for onnxruntime.InferenceSession inside RapidOCR and counts the time spent in the network."""

    def __init__(self, original, run):
        self._original, self._run, self.seconds = original, run, 0.0

    def __getattr__(self, name):
        return getattr(self._original, name)

    def run(self, names, inputs):
        begin = time.perf_counter()
        outputs = self._run(names, inputs)
        self.seconds += time.perf_counter() - begin
        return outputs


def reader(run_detection, run_recognition):
    """RapidOCR whose two networks are these functions of (output names, inputs)."""
    ocr = rapidocr_onnxruntime.RapidOCR(use_cls=False)
    ocr.text_det.infer.session = Session(ocr.text_det.infer.session, run_detection)
    ocr.text_rec.session.session = Session(ocr.text_rec.session.session, run_recognition)
    return ocr


def drawn_pictures():
    """Two pictures with text: a letter, and a receipt photographed at an angle."""
    def draw(size, lines, font_size, colour, background):
        image = Image.new("RGB", size, background)
        pen, font = ImageDraw.Draw(image), ImageFont.load_default(font_size)
        for index, line in enumerate(lines):
            pen.text((40, 30 + index * int(1.6 * font_size)), line, colour, font=font)
        return image

    letter = draw((1000, 460), ["Dear Ms Keller,", "thank you for your order no. 48213 of 17 March.", "The parcel left our warehouse this morning",
                                "and should arrive by Friday, 21 March 2025.", "Kind regards, Lena Hoffmann"], 36, (20, 20, 40), (250, 248, 240))
    receipt = draw((620, 560), ["CORNER BAKERY", "2 x Croissant        4.80", "1 x Rye bread        5.20", "1 x Coffee           2.90",
                                "TOTAL EUR         12.90", "paid by card  14:32"], 34, (40, 40, 40), (235, 235, 230))
    receipt = receipt.rotate(4, Image.BICUBIC, expand=True, fillcolor=(90, 70, 60)).filter(ImageFilter.GaussianBlur(0.8))
    noise = numpy.random.default_rng(1).normal(0, 6, (receipt.height, receipt.width, 3))
    receipt = numpy.clip(numpy.asarray(receipt) + noise, 0, 255).astype(numpy.uint8)
    return [("letter (drawn)", numpy.asarray(letter)[:, :, ::-1].copy()), ("receipt (drawn)", receipt[:, :, ::-1].copy())]


def pictures():
    """:returns: title, BGR pixels."""
    import skimage  # only for the place of its files

    folder = pathlib.Path(skimage.__file__).parent / "data"
    real = [("page.png (scan)", "page.png"), ("motorcycle_right.png (photograph)", "motorcycle_right.png")]
    return [(title, cv2.imread(str(folder / name))) for title, name in real] + drawn_pictures()


def main():
    engines, sessions, summaries = {}, {}, {}
    for name, (file, (smallest, usual, largest)) in NETWORKS.items():
        path, summaries[name] = common.build_engine(MODELS / file, f"ppocr_{name}", "--min-shapes", smallest, "--opt-shapes", usual,
                                                    "--max-shapes", largest)
        engines[name] = Engine(path)
        sessions[name] = onnxruntime.InferenceSession(str(MODELS / file), providers=["CPUExecutionProvider"])

    def by_tenfold(name):
        def run(names, inputs):
            outputs = engines[name].run(inputs)
            return [outputs[output] for output in names]
        return run

    readers = {"Tenfold": reader(by_tenfold("detection"), by_tenfold("recognition")),
               "ONNX Runtime": reader(sessions["detection"].run, sessions["recognition"].run)}

    def networks_ms(ocr):
        total = 1e3 * (ocr.text_det.infer.session.seconds + ocr.text_rec.session.session.seconds)
        ocr.text_det.infer.session.seconds = ocr.text_rec.session.session.seconds = 0.0
        return total

    rows, all_equal = [], True
    for title, pixels in pictures():
        texts, whole, inside = {}, {name: [] for name in readers}, {name: [] for name in readers}
        for round_index in range(4):  # the first does not count; the runtimes take turns
            for name, ocr in readers.items():
                begin = time.perf_counter()
                result, _ = ocr(pixels)
                elapsed, in_networks = 1e3 * (time.perf_counter() - begin), networks_ms(ocr)
                texts[name] = [line[1] for line in result or []]
                if round_index > 0:
                    whole[name].append(elapsed)
                    inside[name].append(in_networks)
        print(f"\n{title}, {pixels.shape[1]} x {pixels.shape[0]}")
        for line in texts["Tenfold"]:
            print(f"    {line}")
        equal = texts["Tenfold"] == texts["ONNX Runtime"]
        all_equal = all_equal and equal
        if not equal:
            print(f"    ONNX Runtime reads: {texts['ONNX Runtime']}")
        median = {name: (statistics.median(whole[name]), statistics.median(inside[name])) for name in readers}
        rows.append([title, *(f"{median[name][part]:.0f} ms" for part in (0, 1) for name in readers), "yes" if equal else "NO"])
    print()
    common.print_table(["time per picture (median of 3)", "Tenfold", "ONNX Runtime", "networks: Tenfold", "networks: ONNX Runtime", "same text"], rows)
    print()
    for name, summary in summaries.items():
        common.describe_build(f"PP-OCRv4 {name}", summary)
    if not all_equal:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
