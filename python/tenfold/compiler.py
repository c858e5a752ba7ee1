"""Compiling a model into an engine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Union

from tenfold import _core
from tenfold.engine import Engine

#: One shape, or three: smallest, best and largest. Sizes count elements, outermost axis first.
Shape = Sequence[int]
Range = Union[Shape, tuple[Shape, Shape, Shape]]
#: phase, item, fraction done (0 .. 1), seconds left (None while nothing is known)
Progress = Callable[[str, str, float, Union[float, None]], Any]

_log = logging.getLogger("tenfold")
_PRECISIONS = ("float32", "tf32", "float16", "bfloat16", "int8")


def _error(code: str, message: str) -> _core.Error:
    error = _core.Error(message)
    error.code = code
    return error


def _to_range(name: str, given: Any) -> tuple[Shape, Shape, Shape]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise _error("invalid_argument", f"shapes['{name}']: a shape, or (min, opt, max), was expected, got {given!r}")
    parts = tuple(given)
    if parts and all(isinstance(part, Iterable) for part in parts):
        if len(parts) != 3:
            raise _error("invalid_argument", f"shapes['{name}']: three shapes (min, opt, max) were expected, got {len(parts)}")
        return tuple(tuple(part) for part in parts)
    return parts, parts, parts


def _to_profiles(shapes: Any) -> list[dict[str, tuple[Shape, Shape, Shape]]]:
    if shapes is None:
        return []
    profiles = [shapes] if isinstance(shapes, Mapping) else shapes
    if isinstance(profiles, (str, bytes)) or not isinstance(profiles, Iterable):
        raise _error("invalid_argument", "shapes: a dict by input name, or a list of such dicts, was expected")
    result = []
    for profile in profiles:
        if not isinstance(profile, Mapping):
            raise _error("invalid_argument", f"shapes: each profile is a dict by input name, got {type(profile).__name__}")
        result.append({str(name): _to_range(str(name), given) for name, given in profile.items()})
    return result


def compile(
    model: Any,
    *,
    shapes: Mapping[str, Range] | Sequence[Mapping[str, Range]] | None = None,
    device: str = "cpu",
    precision: str = "float32",
    calibration: Any = None,
    threads: int = 0,
    opt_level: int = 3,
    strict: bool = False,
    portable: bool = False,
    workspace_bytes: int = 1 << 40,
    tactic_sources: Iterable[str] = (),
    timing_cache: str | os.PathLike | None = None,
    disabled_rules: Iterable[str] = (),
    extra_outputs: Iterable[str] = (),
    progress: Progress | None = None,
) -> Engine:
    """Compile an ONNX model into an engine for this processor, or for a GPU.

    Kernels are timed on the way, so this takes seconds to minutes; the result is fast, and can be saved. Other Python
    threads go on meanwhile. Ctrl-C stops it.

    :param model: path of an ONNX file (tensors in files beside it are found), its bytes, or an ``onnx.ModelProto``.
    :param shapes: which shapes the engine accepts, by input name: one shape, or ``(min, opt, max)``, of which ``opt``
        is the one to be fast at. A list of such dicts makes one profile each. Inputs whose shapes the model fixes need
        not be named. Sizes count elements, outermost axis first.
    :param device: what to compile for: "cpu", "cuda" or "cuda:1".
    :param precision: the lowest precision that arithmetic may use: "float32" (the default: what the model says),
        "tf32" (on a GPU, products of float32 round their operands to 11 bits), "float16", "bfloat16" or "int8". It is a
        permission: where the device has no faster kernels in it, the
        engine computes in float32 and the logger ``tenfold`` says so.
    :param calibration: inputs to measure ranges with, for "int8". Not there yet.
    :param threads: processor threads that the engine is tuned for; 0: all that this process may use.
    :param opt_level: 0 (no kernel is timed) to 5 (everything is timed longer).
    :param strict: no arithmetic shortcuts such as the algorithms of Winograd and Strassen.
    :param portable: store the model itself, too, for processors that cannot run the engine.
    :param workspace_bytes: limit for activations and scratch memory, in bytes.
    :param tactic_sources: on a GPU, libraries whose kernels are tried beside Tenfold's own: "cublas_lt" and "cudnn". They
        must be installed; an engine that took a kernel of one needs that version of it to run.
    :param timing_cache: a file with kernel times, read before and written after, that makes the next build shorter.
    :param disabled_rules: passes or rewrites to leave out, by name.
    :param extra_outputs: names of values to give out besides the model's outputs.
    :param progress: called as ``progress(phase, item, fraction, remaining_seconds)`` from this thread. What it raises
        stops the build and is raised here; if it returns False, the build ends with the code ``cancelled``.
    :returns: the engine.
    :raises tenfold.Error: ``code`` is ``invalid_model`` for a broken file, ``unsupported`` with a list of the nodes that
        cannot be compiled, ``invalid_argument`` for shapes that do not fit the inputs, ``io_failure``,
        ``out_of_memory`` when nothing fits into ``workspace_bytes``, ``cancelled``.
    """
    if precision not in _PRECISIONS:
        raise _error("invalid_argument", f"precision is {precision!r}; possible are {', '.join(_PRECISIONS)}")
    if precision == "int8" or calibration is not None:
        raise _error(
            "unsupported",
            "calibration for int8 is not there yet; a model that is quantised already (QuantizeLinear and "
            "DequantizeLinear, or the integer operators) compiles and runs in integers as it is",
        )
    if hasattr(model, "SerializeToString"):
        model = model.SerializeToString()
    fp16 = precision == "float16"
    tf32 = precision == "tf32" and device != "cpu"
    bf16 = precision == "bfloat16" and _core.has_bf16(device)
    result = _core.compile(
        model,
        device=device,
        fp16=fp16,
        tf32=tf32,
        bf16=bf16,
        profiles=_to_profiles(shapes),
        workspace_bytes=workspace_bytes,
        num_threads=threads,
        opt_level=opt_level,
        strict=strict,
        portable=portable,
        tactic_sources=list(tactic_sources),
        timing_cache_path=timing_cache,
        disabled_rules=list(disabled_rules),
        extra_outputs=list(extra_outputs),
        progress=progress,
    )
    for warning in result.warnings:
        _log.warning("%s", warning)
    if precision != "float32" and not (fp16 or bf16 or tf32):
        _log.warning("there are no %s kernels for this device yet: the engine computes in float32", precision)
    return Engine.load(result.engine, verify=False, threads=threads, device="" if device == "cpu" else device)
