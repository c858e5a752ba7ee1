"""What the precision flags mean for an engine on this device."""

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
    options = {}
    half = config.get_flag(BuilderFlag.FP16) or config.get_flag(BuilderFlag.BF16)
    if half:
        options["fp16"] = True
        options["keep_float32"] = [
            layer._node.name if layer._node is not None else layer.name
            for layer in network._layers
            if layer.precision_is_set and layer.precision is DataType.FLOAT
        ]
        flag = "FP16" if config.get_flag(BuilderFlag.FP16) else "BF16"
        log_once(
            builder,
            Severity.INFO,
            f"BuilderFlag.{flag}: on this processor weights are stored as float16 and computed with in float32",
        )
    return options
