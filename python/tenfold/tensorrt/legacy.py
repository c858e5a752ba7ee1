"""Names of release 8 and before, and of parts Tenfold does not have: each raises when it is used."""

from .errors import unsupported


def _refused(name, instead):
    def __init__(self, *arguments, **named):
        raise unsupported(name, instead)

    return type(name, (), {"__init__": __init__, "__doc__": f"Not supported; use {instead}."})


UffParser = _refused("UffParser", "OnnxParser, after converting the model to ONNX")
CaffeParser = _refused("CaffeParser", "OnnxParser, after converting the model to ONNX")
ICaffePluginFactoryV2 = _refused("ICaffePluginFactoryV2", "OnnxParser")
IBlobNameToTensor = _refused("IBlobNameToTensor", "INetworkDefinition.get_layer and ITensor.name")
FieldMap = _refused("FieldMap", "OnnxParser")
FieldCollection = _refused("FieldCollection", "OnnxParser")
IAlgorithm = _refused("IAlgorithm", "EngineInspector, which shows the chosen kernels")
IAlgorithmContext = _refused("IAlgorithmContext", "EngineInspector")
IAlgorithmIOInfo = _refused("IAlgorithmIOInfo", "EngineInspector")
IAlgorithmVariant = _refused("IAlgorithmVariant", "EngineInspector")
TimingCacheKey = _refused("TimingCacheKey", "ITimingCache.serialize")
TimingCacheValue = _refused("TimingCacheValue", "ITimingCache.serialize")
ISymExpr = _refused("ISymExpr", "layers of the network")
ISymExprs = _refused("ISymExprs", "layers of the network")
KernelLaunchParams = _refused("KernelLaunchParams", "layers of the network")
FallbackString = _refused("FallbackString", "str")


def shutdown_protobuf_library():
    """Nothing to shut down."""


def get_nv_onnx_parser_version():
    """The version of the parser that is imitated, as one number: 101600."""
    from . import version

    return version.NUMBER


__all__ = [name for name in globals() if not name.startswith("_") and name != "unsupported"]
