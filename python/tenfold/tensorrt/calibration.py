"""Calibration: example inputs run through the network in fp32, and each tensor's scale goes to the calibration cache.

The cache is text, as TensorRT writes it: a line "TRT-<version>-<algorithm>", then "tensor: <8 hexadecimal digits>", the
bits of the scale as IEEE 754 binary32. A scale is the largest kept magnitude divided by 127.

Entropy calibration keeps the magnitude whose clipped histogram, quantised to 128 levels, is nearest to the histogram
itself by Kullback-Leibler divergence (S. Migacz, "8-bit inference with TensorRT", GTC 2017). Minimum-maximum
calibration keeps all; the legacy calibrator a quantile of 0.99999.
"""

import ctypes
import struct

import numpy as np

from . import version
from ._core_access import _core
from .enums import CalibrationAlgoType, Severity
from .errors import argument_error
from .values import nptype, trt_dtype

_NAMES = {
    CalibrationAlgoType.LEGACY_CALIBRATION: "LegacyCalibration",
    CalibrationAlgoType.ENTROPY_CALIBRATION: "EntropyCalibration",
    CalibrationAlgoType.ENTROPY_CALIBRATION_2: "EntropyCalibration2",
    CalibrationAlgoType.MINMAX_CALIBRATION: "MinMaxCalibration",
}
_BINS = 2048
_LEVELS = 128
_LEGACY_QUANTILE = 0.99999


def write_cache(scales, algorithm):
    lines = [f"TRT-{version.NUMBER}-{_NAMES[algorithm]}"]
    lines += [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items()]
    return ("\n".join(lines) + "\n").encode()


def read_cache(text):
    """Scales by tensor. Throws for text that is no calibration cache."""
    lines = bytes(text).decode("utf-8", "replace").splitlines()
    if not lines or not lines[0].startswith("TRT-"):
        raise argument_error(
            "the calibration cache does not begin with a line such as 'TRT-101600-EntropyCalibration2'"
        )
    scales = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        name, _, digits = line.rpartition(": ")
        try:
            scale = struct.unpack(">f", bytes.fromhex(digits.strip()))[0]
        except (ValueError, struct.error) as error:
            raise argument_error(
                f"line {number} of the calibration cache is no 'tensor: <8 hexadecimal digits>': {line!r}"
            ) from error
        if not np.isfinite(scale) or scale < 0 or not name:
            raise argument_error(f"line {number} of the calibration cache has no usable scale: {line!r}")
        scales[name] = scale
    return scales


class Range:
    """A histogram of magnitudes whose range grows by doubling, so that old counts stay exact."""

    def __init__(self):
        self.largest, self.limit = 0.0, 0.0
        self.counts = np.zeros(_BINS, np.int64)

    def add(self, values):
        magnitudes = np.abs(values.astype(np.float32, copy=False).reshape(-1))
        magnitudes = magnitudes[np.isfinite(magnitudes)]
        if magnitudes.size == 0:
            return
        largest = float(magnitudes.max())
        self.largest = max(self.largest, largest)
        if largest == 0:
            self.counts[0] += magnitudes.size
            return
        if self.limit == 0:
            self.limit = largest
        while largest > self.limit:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(_BINS // 2, np.int64)])
            self.limit *= 2
        self.counts += np.histogram(magnitudes, _BINS, (0, self.limit))[0]

    def scale(self, algorithm):
        if self.largest == 0:
            return 0.0
        if algorithm is CalibrationAlgoType.MINMAX_CALIBRATION:
            kept = self.largest
        elif algorithm is CalibrationAlgoType.LEGACY_CALIBRATION:
            reached = np.searchsorted(np.cumsum(self.counts), _LEGACY_QUANTILE * self.counts.sum())
            kept = min((reached + 1) * self.limit / _BINS, self.largest)
        else:
            kept = min(self._nearest() * self.limit / _BINS, self.largest)
        return kept / (_LEVELS - 1)

    def _nearest(self):
        """The number of bins to keep with the least divergence."""
        counts = self.counts.astype(np.float64)
        counts[0] = counts[1]  # exact zeros, often most of all after a ReLU, are represented whatever the scale is
        best, best_divergence = _BINS, np.inf
        for kept in range(_LEVELS, _BINS + 1, 8):
            inside = counts[:kept]
            reference = inside.copy()
            reference[-1] += counts[kept:].sum()
            if reference.sum() == 0:
                continue
            level = np.arange(kept) * _LEVELS // kept
            present = inside > 0
            totals = np.bincount(level, inside, _LEVELS)
            shares = np.bincount(level, present, _LEVELS)
            quantised = np.where(present, (totals / np.maximum(shares, 1))[level], 0)
            p, q = reference / reference.sum(), quantised / max(quantised.sum(), 1)
            used = p > 0
            # A place where the quantised histogram has nothing costs as if it held a thousandth of a count.
            floor = 1e-3 / reference.sum()
            divergence = float(np.sum(p[used] * np.log(p[used] / np.maximum(q[used], floor))))
            if divergence < best_divergence:
                best, best_divergence = kept, divergence
        return best


def calibrate(builder, network, config, profiles):
    """Scales by tensor: from the calibrator's cache, or measured over its batches and written to the cache."""
    calibrator = config.int8_calibrator
    if calibrator is None:
        return {}
    cached = calibrator.read_calibration_cache()
    if cached is not None and len(bytes(cached)):
        return read_cache(cached)
    scales = _measure(builder, network, config, profiles, calibrator)
    if scales:
        calibrator.write_calibration_cache(memoryview(write_cache(scales, calibrator.get_algorithm())))
    return scales


def _measure(builder, network, config, profiles, calibrator):
    shapes = _shapes(network, config)
    network._sync()
    core = network._core.copy()
    for number in core.outputs:
        core.unmark_output(number)
    watched = []
    for layer in network._layers:
        for tensor in layer._outputs:
            number = network._ids.get(tensor)
            if (
                number is None
                or core.constant_value(number) is not None
                or not core.value_info(number).dtype.startswith("float")
            ):
                continue
            core.mark_output(number, tensor.name)
            watched.append(tensor.name)
    exact = {name: (dims, dims, dims) for name, dims in shapes.items()}
    result = _core.compile(core, profiles=[exact], opt_level=0, name=network.name)
    engine = _core.Engine.load(result.engine)
    context = engine.make_context()
    names = [info.name for info in engine.inputs]
    ranges, batches = {}, 0
    while True:
        addresses = calibrator.get_batch(names)
        if not addresses:
            break
        if len(addresses) != len(names):
            raise argument_error(f"get_batch returned {len(addresses)} addresses for {len(names)} inputs")
        for info, address in zip(engine.inputs, addresses):
            dims, dtype = shapes[info.name], np.dtype(nptype(trt_dtype(info.dtype)))
            size = int(np.prod(dims, dtype=np.int64)) * dtype.itemsize
            if not isinstance(address, int) or address <= 0:
                raise argument_error(f"get_batch gave no address for input '{info.name}': {address!r}")
            held = np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(dims)
            if dtype.kind == "f":
                ranges.setdefault(info.name, Range()).add(held)
            context.set_input(info.name, held)
        context.run()
        for name in watched:
            ranges.setdefault(name, Range()).add(context.output(name))
        batches += 1
    builder._log(Severity.INFO, f"calibrated {len(ranges)} tensors over {batches} batches")
    algorithm = calibrator.get_algorithm()
    return {name: found.scale(algorithm) for name, found in ranges.items()}


def _shapes(network, config):
    """The shapes of a batch: the calibration profile's optimum, else the first profile's; fixed shapes as they are."""
    profile = config.get_calibration_profile() or (config._profiles[0] if config._profiles else None)
    shapes = {}
    for tensor in network._inputs:
        dims = list(tensor.shape)
        if any(d < 0 for d in dims):
            if profile is None or tensor.name not in profile._shapes:
                raise argument_error(
                    f"calibration: input '{tensor.name}' has shape {tuple(dims)}; set a calibration profile"
                )
            dims = list(profile._shapes[tensor.name][1])
        shapes[tensor.name] = tuple(dims)
    return shapes
