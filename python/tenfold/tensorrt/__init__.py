"""TensorRT's Python API on Tenfold: the union of the names of releases 8, 10 and 11.

    import tenfold.tensorrt as trt      # or, with the distribution tenfold-tensorrt installed, import tensorrt as trt

docs/tensorrt.md lists what runs, what is accepted and harmless, and what raises.
"""

import os as _os

from . import cudart, enums as _enums, version as _version
from .builder import Builder
from .config import IBuilderConfig, IOptimizationProfile, ITimingCache
from .context import IExecutionContext, IRuntimeConfig
from .engine import ICudaEngine, ISerializationConfig, Runtime
from .errors import Error
from .inspector import EngineInspector
from .interfaces import (
    IAlgorithmSelector,
    IDebugListener,
    IErrorRecorder,
    IGpuAllocator,
    IGpuAsyncAllocator,
    IInt8Calibrator,
    IInt8EntropyCalibrator,
    IInt8EntropyCalibrator2,
    IInt8LegacyCalibrator,
    IInt8MinMaxCalibrator,
    ILogger,
    InterfaceInfo,
    IOutputAllocator,
    IProfiler,
    IProgressMonitor,
    IStreamReader,
    IStreamReaderV2,
    IStreamWriter,
    IVersionedInterface,
    Logger,
    Profiler,
)
from .layer import ILayer
from .layers_control import (
    IConditionLayer,
    IIfConditional,
    IIfConditionalBoundaryLayer,
    IIfConditionalInputLayer,
    IIfConditionalOutputLayer,
    IIteratorLayer,
    ILoop,
    ILoopBoundaryLayer,
    ILoopOutputLayer,
    IRecurrenceLayer,
    ITripLimitLayer,
)
from .layers_conv import IConvolutionLayer, IDeconvolutionLayer, IFullyConnectedLayer, IPaddingLayer, IPoolingLayer
from .layers_math import (
    IActivationLayer,
    ICumulativeLayer,
    IEinsumLayer,
    IElementWiseLayer,
    ILRNLayer,
    IMatrixMultiplyLayer,
    INormalizationLayer,
    IParametricReLULayer,
    IRaggedSoftMaxLayer,
    IReduceLayer,
    IScaleLayer,
    ISoftMaxLayer,
    ITopKLayer,
    IUnaryLayer,
)
from .layers_other import (
    IAssertionLayer,
    IAttention,
    IAttentionBoundaryLayer,
    IAttentionInputLayer,
    IAttentionOutputLayer,
    IDequantizeLayer,
    IDistCollectiveLayer,
    IDynamicQuantizeLayer,
    IGridSampleLayer,
    IKVCacheUpdateLayer,
    IMoELayer,
    INMSLayer,
    IPluginLayer,
    IPluginV2Layer,
    IPluginV3Layer,
    IQuantizeLayer,
    IRNNv2Layer,
    IRotaryEmbeddingLayer,
)
from .layers_shape import (
    ICastLayer,
    IConcatenationLayer,
    IConstantLayer,
    IFillLayer,
    IGatherLayer,
    IIdentityLayer,
    INonZeroLayer,
    IOneHotLayer,
    IResizeLayer,
    IReverseSequenceLayer,
    IScatterLayer,
    ISelectLayer,
    IShapeLayer,
    IShuffleLayer,
    ISliceLayer,
    ISqueezeLayer,
    IUnsqueezeLayer,
)
from .legacy import *  # noqa: F401,F403
from .network import INetworkDefinition
from .parser import OnnxParser, ParserError
from .plugins import *  # noqa: F401,F403
from .refit import OnnxParserRefitter, Refitter
from .tensor import ITensor
from .values import Dims, Dims2, Dims3, Dims4, DimsHW, IHostMemory, Permutation, Weights, nptype, volume

__version__ = _version.VERSION

for _name, _value in vars(_enums).items():
    if (
        isinstance(_value, type)
        and issubclass(_value, _enums.TrtEnum)
        and _value is not _enums.TrtEnum
        and _name != "Severity"
    ):
        globals()[_name] = _value
float32, float16, int8, int32, uint8 = _enums.float32, _enums.float16, _enums.int8, _enums.int32, _enums.uint8
fp8, bfloat16, int64, int4, fp4, e8m0 = _enums.fp8, _enums.bfloat16, _enums.int64, _enums.int4, _enums.fp4, _enums.e8m0
bool = _enums.bool_  # TensorRT's name for the type; hides the builtin within this module only

if _os.environ.get("TENFOLD_CUDART_SHIM", "") not in ("", "0"):
    cudart.enable()
del _name, _value
