#!/usr/bin/env python3
"""Writes models of floats quantised to 8-bit integers, as ONNX Runtime does it: for speed and agreement.

Usage: quantised_models.py FOLDER MODEL...

FOLDER/NAME_int8.onnx has QuantizeLinear and DequantizeLinear around every operator (QDQ), FOLDER/NAME_int8_operators.onnx operators on
integers (QOperator: QLinearConv, QLinearAdd, QGemm ...). Weights are int8 with a scale for each channel and the whole range of 8 bits,
activations uint8, calibrated on random images: MODEL must have one input [1, C, H, W]. FOLDER/NAME_dynamic.onnx finds the ranges of its activations
as it runs (DynamicQuantizeLinear, ConvInteger, MatMulInteger), with one scale for a matrix of weights. A file that is there is not written again.
"""

import pathlib
import sys
import tempfile

import numpy
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class RandomImages(CalibrationDataReader):
    def __init__(self, value, count=4):
        generator = numpy.random.default_rng(1)
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        self._images = iter([{value.name: generator.standard_normal(shape).astype(numpy.float32)} for _ in range(count)])

    def get_next(self):
        return next(self._images, None)


def quantise(source, target, quant_format):
    """quant_format None: dynamic."""
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantised = pathlib.Path(folder) / "prepared.onnx", pathlib.Path(folder) / "quantised.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        if quant_format is None:
            quantize_dynamic(str(prepared), str(quantised), weight_type=QuantType.QInt8)
        else:
            images = RandomImages(onnx.load(str(prepared), load_external_data=False).graph.input[0])
            quantize_static(str(prepared), str(quantised), images, quant_format=quant_format, per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
        temporary = target.with_suffix(".part")
        temporary.write_bytes(quantised.read_bytes())
        temporary.rename(target)


def main():
    if len(sys.argv) < 3 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for source in map(pathlib.Path, sys.argv[2:]):
        for suffix, quant_format in (("int8", QuantFormat.QDQ), ("int8_operators", QuantFormat.QOperator), ("dynamic", None)):
            target = folder / f"{source.stem}_{suffix}.onnx"
            if not target.exists():
                quantise(source, target, quant_format)


if __name__ == "__main__":
    main()
