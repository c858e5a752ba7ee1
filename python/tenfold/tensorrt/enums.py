"""The enumerations of TensorRT's Python API: the union of the names of releases 8, 10 and 11.

Numbers are those of TensorRT 10. A name that release 10 no longer has gets a number that no release uses, from 48 up, so
that a mask of bits never means two things; `NetworkDefinitionCreationFlag.EXPLICIT_PRECISION` is one of them.
"""

import enum


class TrtEnum(enum.Enum):
    """An enumeration that behaves like pybind11's: converts to int, shifts, compares only with its own kind."""

    def __int__(self):
        return self.value

    def __index__(self):
        return self.value

    def __rlshift__(self, one):
        return one << self.value

    def __str__(self):
        return f"{type(self).__name__}.{self.name}"

    @classmethod
    def _missing_(cls, value):
        if isinstance(value, TrtEnum):
            raise ValueError(f"{value!s} is no {cls.__name__}; its members are {', '.join(cls.__members__)}")
        return None


def _define(name, members, aliases=None):
    """`members`: names in the order of their numbers, or (name, number) pairs where numbers have gaps."""
    numbered, number = {}, 0
    for member in members:
        if isinstance(member, tuple):
            member, number = member
        numbered[member] = number
        number += 1
    for alias, of in (aliases or {}).items():
        numbered[alias] = numbered[of]
    made = TrtEnum(name, numbered, module="tensorrt")
    # Where pybind11 keeps an enumeration's members; tools recognise one by it.
    setattr(made, "__entries", {name: (made[name], None) for name in numbered})
    return made


DataType = _define(
    "DataType", ["FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "FP8", "BF16", "INT64", "INT4", "FP4", "E8M0"]
)
TensorFormat = _define(
    "TensorFormat",
    [
        "LINEAR",
        "CHW2",
        "HWC8",
        "CHW4",
        "CHW16",
        "CHW32",
        "DHWC8",
        "CDHW32",
        "HWC",
        "DLA_LINEAR",
        "DLA_HWC4",
        "HWC16",
        "DHWC",
    ],
)
TensorLocation = _define("TensorLocation", ["DEVICE", "HOST"])
TensorIOMode = _define("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
WeightsRole = _define("WeightsRole", ["KERNEL", "BIAS", "SHIFT", "SCALE", "CONSTANT", "ANY"])
LayerType = _define(
    "LayerType",
    [
        "CONVOLUTION",
        "CAST",
        "ACTIVATION",
        "POOLING",
        "LRN",
        "SCALE",
        "SOFTMAX",
        "DECONVOLUTION",
        "CONCATENATION",
        "ELEMENTWISE",
        "PLUGIN",
        "UNARY",
        "PADDING",
        "SHUFFLE",
        "REDUCE",
        "TOPK",
        "GATHER",
        "MATRIX_MULTIPLY",
        "RAGGED_SOFTMAX",
        "CONSTANT",
        "IDENTITY",
        "PLUGIN_V2",
        "SLICE",
        "SHAPE",
        "PARAMETRIC_RELU",
        "RESIZE",
        "TRIP_LIMIT",
        "RECURRENCE",
        "ITERATOR",
        "LOOP_OUTPUT",
        "SELECT",
        "FILL",
        "QUANTIZE",
        "DEQUANTIZE",
        "CONDITION",
        "CONDITIONAL_INPUT",
        "CONDITIONAL_OUTPUT",
        "SCATTER",
        "EINSUM",
        "ASSERTION",
        "ONE_HOT",
        "NON_ZERO",
        "GRID_SAMPLE",
        "NMS",
        "REVERSE_SEQUENCE",
        "NORMALIZATION",
        "PLUGIN_V3",
        "SQUEEZE",
        "UNSQUEEZE",
        "CUMULATIVE",
        "DYNAMIC_QUANTIZE",
        "ATTENTION_INPUT",
        "ATTENTION_OUTPUT",
        "ROTARY_EMBEDDING",
        "KV_CACHE_UPDATE",
        "MOE",
        "DIST_COLLECTIVE",
        ("FULLY_CONNECTED", 64),
        "RNN_V2",
    ],
)

ActivationType = _define(
    "ActivationType",
    [
        "RELU",
        "SIGMOID",
        "TANH",
        "LEAKY_RELU",
        "ELU",
        "SELU",
        "SOFTSIGN",
        "SOFTPLUS",
        "CLIP",
        "HARD_SIGMOID",
        "SCALED_TANH",
        "THRESHOLDED_RELU",
        "GELU_ERF",
        "GELU_TANH",
    ],
)
ElementWiseOperation = _define(
    "ElementWiseOperation",
    ["SUM", "PROD", "MAX", "MIN", "SUB", "DIV", "POW", "FLOOR_DIV", "AND", "OR", "XOR", "EQUAL", "GREATER", "LESS"],
)
UnaryOperation = _define(
    "UnaryOperation",
    [
        "EXP",
        "LOG",
        "SQRT",
        "RECIP",
        "ABS",
        "NEG",
        "SIN",
        "COS",
        "TAN",
        "SINH",
        "COSH",
        "ASIN",
        "ACOS",
        "ATAN",
        "ASINH",
        "ACOSH",
        "ATANH",
        "CEIL",
        "FLOOR",
        "ERF",
        "NOT",
        "SIGN",
        "ROUND",
        "ISINF",
        "ISNAN",
    ],
)
PoolingType = _define("PoolingType", ["MAX", "AVERAGE", "MAX_AVERAGE_BLEND"])
PaddingMode = _define(
    "PaddingMode",
    ["EXPLICIT_ROUND_DOWN", "EXPLICIT_ROUND_UP", "SAME_UPPER", "SAME_LOWER", "CAFFE_ROUND_DOWN", "CAFFE_ROUND_UP"],
)
ScaleMode = _define("ScaleMode", ["UNIFORM", "CHANNEL", "ELEMENTWISE"])
ReduceOperation = _define("ReduceOperation", ["SUM", "PROD", "MAX", "MIN", "AVG", "NONE"])
TopKOperation = _define("TopKOperation", ["MAX", "MIN"])
MatrixOperation = _define("MatrixOperation", ["NONE", "TRANSPOSE", "VECTOR"])
GatherMode = _define("GatherMode", ["DEFAULT", "ELEMENT", "ND"])
ScatterMode = _define("ScatterMode", ["ELEMENT", "ND"])
InterpolationMode = _define("InterpolationMode", ["NEAREST", "LINEAR", "CUBIC"])
ResizeMode = InterpolationMode
ResizeCoordinateTransformation = _define(
    "ResizeCoordinateTransformation", ["ALIGN_CORNERS", "ASYMMETRIC", "HALF_PIXEL"]
)
ResizeSelector = _define("ResizeSelector", ["FORMULA", "UPPER"])
ResizeRoundMode = _define("ResizeRoundMode", ["HALF_UP", "HALF_DOWN", "FLOOR", "CEIL"])
SampleMode = _define("SampleMode", ["STRICT_BOUNDS", "WRAP", "CLAMP", "FILL", "REFLECT"], {"DEFAULT": "STRICT_BOUNDS"})
SliceMode = SampleMode
FillOperation = _define("FillOperation", ["LINSPACE", "RANDOM_UNIFORM", "RANDOM_NORMAL"])
LoopOutput = _define("LoopOutput", ["LAST_VALUE", "CONCATENATE", "REVERSE"])
TripLimit = _define("TripLimit", ["COUNT", "WHILE"])
BoundingBoxFormat = _define("BoundingBoxFormat", ["CORNER_PAIRS", "CENTER_SIZES"])
CumulativeOperation = _define("CumulativeOperation", ["SUM"])
AttentionNormalizationOp = _define("AttentionNormalizationOp", ["NONE", "SOFTMAX"])
AttentionIOForm = _define("AttentionIOForm", ["PADDED_BHND", "PACKED_NHD"])
CausalMaskKind = _define("CausalMaskKind", ["NONE", "UPPER_LEFT", "LOWER_RIGHT"])
KVCacheMode = _define("KVCacheMode", ["LINEAR"])
MoEActType = _define("MoEActType", ["NONE", "SILU"])
CollectiveOperation = _define(
    "CollectiveOperation",
    ["ALL_REDUCE", "ALL_GATHER", "BROADCAST", "REDUCE", "REDUCE_SCATTER", "ALL_TO_ALL", "GATHER", "SCATTER"],
)
RNNOperation = _define("RNNOperation", ["RELU", "TANH", "LSTM", "GRU"])
RNNDirection = _define("RNNDirection", ["UNIDIRECTION", "BIDIRECTION"])
RNNInputMode = _define("RNNInputMode", ["LINEAR", "SKIP"])
RNNGateType = _define("RNNGateType", ["INPUT", "OUTPUT", "FORGET", "UPDATE", "RESET", "CELL", "HIDDEN"])

NetworkDefinitionCreationFlag = _define(
    "NetworkDefinitionCreationFlag",
    [
        "EXPLICIT_BATCH",
        "STRONGLY_TYPED",
        "PREFER_JIT_PYTHON_PLUGINS",
        "PREFER_AOT_PYTHON_PLUGINS",
        ("EXPLICIT_PRECISION", 48),
    ],
)
BuilderFlag = _define(
    "BuilderFlag",
    [
        "FP16",
        "INT8",
        "DEBUG",
        "GPU_FALLBACK",
        "REFIT",
        "DISABLE_TIMING_CACHE",
        "TF32",
        "SPARSE_WEIGHTS",
        "SAFETY_SCOPE",
        "OBEY_PRECISION_CONSTRAINTS",
        "PREFER_PRECISION_CONSTRAINTS",
        "DIRECT_IO",
        "REJECT_EMPTY_ALGORITHMS",
        "VERSION_COMPATIBLE",
        "EXCLUDE_LEAN_RUNTIME",
        "FP8",
        "ERROR_ON_TIMING_CACHE_MISS",
        "BF16",
        "DISABLE_COMPILATION_CACHE",
        "STRIP_PLAN",
        "REFIT_IDENTICAL",
        "WEIGHT_STREAMING",
        "INT4",
        "REFIT_INDIVIDUAL",
        "STRICT_NANS",
        "MONITOR_MEMORY",
        "FP4",
        "EDITABLE_TIMING_CACHE",
        "DISTRIBUTIVE_INDEPENDENCE",
        ("STRICT_TYPES", 48),
        "ENABLE_TACTIC_HEURISTIC",
    ],
    {"WEIGHTLESS": "STRIP_PLAN"},
)
QuantizationFlag = _define("QuantizationFlag", ["CALIBRATE_BEFORE_FUSION"])
PreviewFeature = _define(
    "PreviewFeature",
    [
        "PROFILE_SHARING_0806",
        "ALIASED_PLUGIN_IO_10_03",
        "RUNTIME_ACTIVATION_RESIZE_10_10",
        "MULTIDEVICE_RUNTIME_10_16",
        ("FASTER_DYNAMIC_SHAPES_0805", 48),
        "DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805",
    ],
)
TacticSource = _define("TacticSource", ["CUBLAS", "CUBLAS_LT", "CUDNN", "EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"])
MemoryPoolType = _define(
    "MemoryPoolType",
    ["WORKSPACE", "DLA_MANAGED_SRAM", "DLA_LOCAL_DRAM", "DLA_GLOBAL_DRAM", "TACTIC_DRAM", "TACTIC_SHARED_MEMORY"],
)
ProfilingVerbosity = _define(
    "ProfilingVerbosity",
    ["LAYER_NAMES_ONLY", "NONE", "DETAILED"],
    {"DEFAULT": "LAYER_NAMES_ONLY", "VERBOSE": "DETAILED"},
)
EngineCapability = _define(
    "EngineCapability",
    ["STANDARD", "SAFETY", "DLA_STANDALONE"],
    {"DEFAULT": "STANDARD", "SAFE_GPU": "SAFETY", "SAFE_DLA": "DLA_STANDALONE"},
)
DeviceType = _define("DeviceType", ["GPU", "DLA"])
HardwareCompatibilityLevel = _define("HardwareCompatibilityLevel", ["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"])
RuntimePlatform = _define("RuntimePlatform", ["SAME_AS_BUILD", "WINDOWS_AMD64"])
TilingOptimizationLevel = _define("TilingOptimizationLevel", ["NONE", "FAST", "MODERATE", "FULL"])
CalibrationAlgoType = _define(
    "CalibrationAlgoType", ["LEGACY_CALIBRATION", "ENTROPY_CALIBRATION", "ENTROPY_CALIBRATION_2", "MINMAX_CALIBRATION"]
)
LayerInformationFormat = _define("LayerInformationFormat", ["ONELINE", "JSON"])
OnnxParserFlag = _define(
    "OnnxParserFlag",
    [
        "NATIVE_INSTANCENORM",
        "ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA",
        "REPORT_CAPABILITY_DLA",
        "ENABLE_PLUGIN_OVERRIDE",
        "ADJUST_FOR_DLA",
    ],
)
SerializationFlag = _define("SerializationFlag", ["EXCLUDE_WEIGHTS", "EXCLUDE_LEAN_RUNTIME", "INCLUDE_REFIT"])
ExecutionContextAllocationStrategy = _define(
    "ExecutionContextAllocationStrategy", ["STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"]
)
TempfileControlFlag = _define("TempfileControlFlag", ["ALLOW_IN_MEMORY_FILES", "ALLOW_TEMPORARY_FILES"])
EngineStat = _define("EngineStat", ["TOTAL_WEIGHTS_SIZE", "STRIPPED_WEIGHTS_SIZE"])
SeekPosition = _define("SeekPosition", ["SET", "CUR", "END"])
AllocatorFlag = _define("AllocatorFlag", ["RESIZABLE"])
APILanguage = _define("APILanguage", ["CPP", "PYTHON"])
DLAWorkspaceAllocationStrategy = _define("DLAWorkspaceAllocationStrategy", ["ORIGINAL", "SHARED_STATIC"])

ErrorCode = _define(
    "ErrorCode",
    [
        "SUCCESS",
        "INTERNAL_ERROR",
        "MEM_ALLOC_FAILED",
        "MODEL_DESERIALIZE_FAILED",
        "INVALID_VALUE",
        "INVALID_GRAPH",
        "INVALID_NODE",
        "UNSUPPORTED_GRAPH",
        "UNSUPPORTED_NODE",
        "UNSUPPORTED_NODE_ATTR",
        "UNSUPPORTED_NODE_INPUT",
        "UNSUPPORTED_NODE_DATATYPE",
        "UNSUPPORTED_NODE_DYNAMIC",
        "UNSUPPORTED_NODE_SHAPE",
        "REFIT_FAILED",
    ],
)
ErrorCodeTRT = _define(
    "ErrorCodeTRT",
    [
        "SUCCESS",
        "UNSPECIFIED_ERROR",
        "INTERNAL_ERROR",
        "INVALID_ARGUMENT",
        "INVALID_CONFIG",
        "FAILED_ALLOCATION",
        "FAILED_INITIALIZATION",
        "FAILED_EXECUTION",
        "FAILED_COMPUTATION",
        "INVALID_STATE",
        "UNSUPPORTED_STATE",
    ],
)
Severity = _define("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

PluginFieldType = _define(
    "PluginFieldType",
    [
        "FLOAT16",
        "FLOAT32",
        "FLOAT64",
        "INT8",
        "INT16",
        "INT32",
        "CHAR",
        "DIMS",
        "UNKNOWN",
        "BF16",
        "INT64",
        "FP8",
        "INT4",
        "FP4",
    ],
)
PluginCapabilityType = _define("PluginCapabilityType", ["CORE", "BUILD", "RUNTIME"])
PluginCreatorVersion = _define("PluginCreatorVersion", ["V1", "V1_PYTHON"])
PluginArgType = _define("PluginArgType", ["INT"])
PluginArgDataType = _define("PluginArgDataType", ["INT8", "INT16", "INT32"])
QuickPluginCreationRequest = _define(
    "QuickPluginCreationRequest", ["UNKNOWN", "PREFER_JIT", "PREFER_AOT", "STRICT_JIT", "STRICT_AOT"]
)
TensorRTPhase = _define("TensorRTPhase", ["BUILD", "RUNTIME"])
DimensionOperation = _define(
    "DimensionOperation", ["SUM", "PROD", "MAX", "MIN", "SUB", "EQUAL", "LESS", "FLOOR_DIV", "CEIL_DIV"]
)
FieldType = _define("FieldType", ["FLOAT", "INT32", "CHAR", "DIMS", "DATATYPE", "UNKNOWN"])
UffInputOrder = _define("UffInputOrder", ["NCHW", "NHWC", "NC"])

float32, float16, int8, int32, bool_ = (DataType.FLOAT, DataType.HALF, DataType.INT8, DataType.INT32, DataType.BOOL)
uint8, fp8, bfloat16, int64, int4, fp4, e8m0 = (
    DataType.UINT8,
    DataType.FP8,
    DataType.BF16,
    DataType.INT64,
    DataType.INT4,
    DataType.FP4,
    DataType.E8M0,
)

_BITS = {
    "FLOAT": 32,
    "HALF": 16,
    "INT8": 8,
    "INT32": 32,
    "BOOL": 8,
    "UINT8": 8,
    "FP8": 8,
    "BF16": 16,
    "INT64": 64,
    "INT4": 4,
    "FP4": 4,
    "E8M0": 8,
}
# Bytes of one element; a fraction for types of four bits, as in TensorRT.
DataType.itemsize = property(lambda self: _BITS[self.name] / 8 if _BITS[self.name] < 8 else _BITS[self.name] // 8)


def as_member(cls, value, what):
    """`value` as a member of `cls`; a number is accepted as well. `what` names the argument in the error."""
    if isinstance(value, cls):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return cls(value)
        except ValueError:
            pass
    raise TypeError(f"{what} must be a tensorrt.{cls.__name__}, got {value!r}; members: {', '.join(cls.__members__)}")


def mask_of(cls, flags, what):
    """A mask of bits from a mask, a member, or several members."""
    if isinstance(flags, cls):
        return 1 << flags.value
    if isinstance(flags, int) and not isinstance(flags, bool):
        if flags < 0:
            raise ValueError(f"{what} is a mask of bits and cannot be negative, got {flags}")
        return flags
    if isinstance(flags, (list, tuple, set, frozenset)):
        mask = 0
        for flag in flags:
            mask |= 1 << as_member(cls, flag, what).value
        return mask
    raise TypeError(f"{what} must be a mask of bits such as 1 << int(tensorrt.{cls.__name__}.X), got {flags!r}")
