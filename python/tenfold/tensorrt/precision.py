"""What the precision flags mean for an engine on this device."""

from ._core_access import _core
from .enums import BuilderFlag, DataType, Severity

_logged = set()


def log_once(builder, severity, message):
    if message not in _logged:
        _logged.add(message)
        builder._log(severity, message)


def compile_options(builder, network, config):
    """Arguments of the compiler for FP16 and BF16 flags and for layers pinned to fp32.

    TF32 is on by default in TensorRT and permits shortcuts that a CPU does not take, so it changes nothing there.
    """
    fp16, bf16 = config.get_flag(BuilderFlag.FP16), config.get_flag(BuilderFlag.BF16)
    pinned = [
        layer._node.name if layer._node is not None else layer.name
        for layer in network._layers
        if layer.precision_is_set and layer.precision is DataType.FLOAT
    ]
    # What is rounded to bfloat16 is all or nothing; pinned layers are looked after by float16 weights.
    if bf16 and not fp16 and not pinned and _core.has_bf16():
        return {"bf16": True}
    if not (fp16 or bf16):
        return {}
    log_once(
        builder,
        Severity.INFO,
        f"BuilderFlag.{'FP16' if fp16 else 'BF16'}: on this processor weights are stored as float16 and computed with in float32",
    )
    return {"fp16": True, "keep_float32": pinned}
