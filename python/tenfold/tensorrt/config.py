"""IBuilderConfig, IOptimizationProfile and ITimingCache."""

from .enums import (
    BuilderFlag,
    DeviceType,
    EngineCapability,
    HardwareCompatibilityLevel,
    MemoryPoolType,
    PreviewFeature,
    ProfilingVerbosity,
    QuantizationFlag,
    RuntimePlatform,
    TacticSource,
    TilingOptimizationLevel,
    as_member,
    mask_of,
)
from .errors import argument_error, unsupported
from .interfaces import IAlgorithmSelector, IInt8Calibrator, IProgressMonitor, Reporter, Scoped, check_interface
from .layer import ILayer
from .machine import WithoutDLA
from .values import Dims, IHostMemory, as_dims, as_int

# Flags whose promise an engine cannot keep: setting one raises, so that nobody believes it. INT8 is refused by the build.
_REFUSED = {
    BuilderFlag.INT4: "FP16",
    BuilderFlag.FP4: "FP16",
    BuilderFlag.STRIP_PLAN: "REFIT, which keeps the weights",
    BuilderFlag.REFIT_INDIVIDUAL: "REFIT",
    BuilderFlag.WEIGHT_STREAMING: "nothing: weights are mapped from the plan file as they are needed",
    BuilderFlag.SAFETY_SCOPE: "EngineCapability.STANDARD",
    BuilderFlag.EDITABLE_TIMING_CACHE: "the timing cache as a whole",
    BuilderFlag.ERROR_ON_TIMING_CACHE_MISS: "a build without it; what is missing is measured",
}


class IOptimizationProfile:
    """The shapes that an engine accepts: min, opt and max for each input whose shape has a -1."""

    def __init__(self, made=None):
        raise TypeError("a profile is made by Builder.create_optimization_profile")

    @classmethod
    def _make(cls):
        profile = object.__new__(cls)
        profile._shapes, profile._values = {}, {}
        profile._extra_memory = 1.0
        return profile

    def set_shape(self, input, min, opt, max):
        self._shapes[self._name(input)] = self._checked(input, (min, opt, max), as_dims)
        return True

    def get_shape(self, input):
        if input not in self._shapes:
            return []
        return list(self._shapes[input])

    def set_shape_input(self, input, min, opt, max):
        """Values of an input that decides shapes."""

        def integers(value, what):
            return Dims([value] if isinstance(value, int) else value)

        self._values[self._name(input)] = self._checked(input, (min, opt, max), integers)
        return True

    def get_shape_input(self, input):
        return [list(part) for part in self._values.get(input, [])]

    @staticmethod
    def _name(name):
        if not isinstance(name, str):
            raise argument_error(f"a profile names inputs by text, got {name!r}")
        return name

    @staticmethod
    def _checked(name, parts, convert):
        low, best, high = (
            convert(part, f"profile of input '{name}': {which}") for part, which in zip(parts, ("min", "opt", "max"))
        )
        if not len(low) == len(best) == len(high):
            raise argument_error(
                f"profile of input '{name}': min, opt and max have different ranks: {low}, {best}, {high}"
            )
        for axis, (a, b, c) in enumerate(zip(low, best, high)):
            if not a <= b <= c:
                raise argument_error(
                    f"profile of input '{name}', axis {axis}: expected min <= opt <= max, got {a}, {b}, {c}"
                )
        return low, best, high

    @property
    def extra_memory_target(self):
        return self._extra_memory

    @extra_memory_target.setter
    def extra_memory_target(self, fraction):
        """Accepted: scratch memory is limited by the workspace pool."""
        if not 0 <= float(fraction) <= 1:
            raise argument_error(f"extra_memory_target is a fraction between 0 and 1, got {fraction}")
        self._extra_memory = float(fraction)

    def __bool__(self):
        return True

    __nonzero__ = __bool__


class ITimingCache(Scoped):
    """What was measured in earlier builds, as text."""

    def __init__(self, made=None):
        raise TypeError("a timing cache is made by IBuilderConfig.create_timing_cache")

    @classmethod
    def _make(cls, text):
        cache = object.__new__(cls)
        cache._text = text
        return cache

    def serialize(self):
        return IHostMemory(self._text)

    def combine(self, input_cache, ignore_mismatch=False):
        """Takes over the other's entries; where both have one, this one's stays."""
        if not isinstance(input_cache, ITimingCache):
            raise argument_error(f"combine takes an ITimingCache, got {type(input_cache).__name__}")
        from .timing import merge

        self._text = merge(self._text, input_cache._text)
        return True

    def reset(self):
        self._text = b""
        return True

    def queryKeys(self):
        raise unsupported("ITimingCache.queryKeys", "serialize, which gives the cache as text")

    def query(self, key):
        raise unsupported("ITimingCache.query", "serialize, which gives the cache as text")

    def update(self, key, value):
        raise unsupported("ITimingCache.update", "create_timing_cache with the text of a cache")


def _count(value, what, least=0):
    number = as_int(value, what)
    if number < least:
        raise argument_error(f"{what} must be at least {least}, got {number}")
    return number


class IBuilderConfig(WithoutDLA, Reporter, Scoped):
    """How to build. What a CPU engine cannot mean is accepted where it is harmless; docs/tensorrt.md lists all of it."""

    def __init__(self, made=None):
        raise TypeError("a configuration is made by Builder.create_builder_config")

    @classmethod
    def _make(cls, logger):
        config = object.__new__(cls)
        config._logger = logger
        config.reset()
        return config

    def reset(self):
        self._flags = 1 << BuilderFlag.TF32.value
        self._pools = {MemoryPoolType.WORKSPACE: 1 << 40}
        self._profiles, self._calibration_profile = [], None
        self._timing_cache = None
        self._quantization = 0
        self._preview = set()
        self._tactic_sources = (1 << TacticSource.EDGE_MASK_CONVOLUTIONS.value) | (
            1 << TacticSource.JIT_CONVOLUTIONS.value
        )
        self._calibrator = self._monitor = None
        self._level, self._verbosity = 3, ProfilingVerbosity.LAYER_NAMES_ONLY
        self._max_aux_streams, self._avg_iterations, self._max_tactics = 0, 1, -1
        self._hardware = HardwareCompatibilityLevel.NONE
        self._tiling, self._l2_limit = TilingOptimizationLevel.NONE, 0
        self._stream = 0

    # --- Flags ------------------------------------------------------------------------------------------------------
    @property
    def flags(self):
        return self._flags

    @flags.setter
    def flags(self, flags):
        mask = mask_of(BuilderFlag, flags, "flags")
        for flag in BuilderFlag:
            if mask >> flag.value & 1:
                self._check_flag(flag)
        self._flags = mask

    @staticmethod
    def _check_flag(flag):
        if flag in _REFUSED:
            raise unsupported(str(flag), _REFUSED[flag])

    def set_flag(self, flag):
        flag = as_member(BuilderFlag, flag, "set_flag")
        self._check_flag(flag)
        self._flags |= 1 << flag.value

    def clear_flag(self, flag):
        self._flags &= ~(1 << as_member(BuilderFlag, flag, "clear_flag").value)

    def get_flag(self, flag):
        return bool(self._flags >> as_member(BuilderFlag, flag, "get_flag").value & 1)

    @property
    def quantization_flags(self):
        return self._quantization

    @quantization_flags.setter
    def quantization_flags(self, flags):
        self._quantization = mask_of(QuantizationFlag, flags, "quantization_flags")

    def set_quantization_flag(self, flag):
        self._quantization |= 1 << as_member(QuantizationFlag, flag, "set_quantization_flag").value

    def clear_quantization_flag(self, flag):
        self._quantization &= ~(1 << as_member(QuantizationFlag, flag, "clear_quantization_flag").value)

    def get_quantization_flag(self, flag):
        return bool(self._quantization >> as_member(QuantizationFlag, flag, "get_quantization_flag").value & 1)

    def set_preview_feature(self, feature, enable):
        feature = as_member(PreviewFeature, feature, "set_preview_feature")
        if enable and feature in (PreviewFeature.ALIASED_PLUGIN_IO_10_03, PreviewFeature.MULTIDEVICE_RUNTIME_10_16):
            raise unsupported(str(feature), "an engine without it")
        (self._preview.add if enable else self._preview.discard)(feature)

    def get_preview_feature(self, feature):
        return as_member(PreviewFeature, feature, "get_preview_feature") in self._preview

    # --- Memory -----------------------------------------------------------------------------------------------------
    def set_memory_pool_limit(self, pool, pool_size):
        """WORKSPACE limits an engine's activations and scratch memory. The other pools belong to other devices."""
        pool = as_member(MemoryPoolType, pool, "set_memory_pool_limit")
        self._pools[pool] = _count(pool_size, f"the limit of {pool!s}")

    def get_memory_pool_limit(self, pool):
        return self._pools.get(as_member(MemoryPoolType, pool, "get_memory_pool_limit"), 0)

    @property
    def max_workspace_size(self):
        return self._pools[MemoryPoolType.WORKSPACE]

    @max_workspace_size.setter
    def max_workspace_size(self, size):
        self.set_memory_pool_limit(MemoryPoolType.WORKSPACE, size)

    # --- Profiles ---------------------------------------------------------------------------------------------------
    def add_optimization_profile(self, profile):
        if not isinstance(profile, IOptimizationProfile):
            raise argument_error(f"add_optimization_profile takes a profile, got {type(profile).__name__}")
        self._profiles.append(profile)
        return len(self._profiles) - 1

    num_optimization_profiles = property(lambda self: len(self._profiles))

    def set_calibration_profile(self, profile):
        if not isinstance(profile, IOptimizationProfile):
            raise argument_error(f"set_calibration_profile takes a profile, got {type(profile).__name__}")
        self._calibration_profile = profile
        return True

    def get_calibration_profile(self):
        return self._calibration_profile

    # --- Search -----------------------------------------------------------------------------------------------------
    @property
    def builder_optimization_level(self):
        return self._level

    @builder_optimization_level.setter
    def builder_optimization_level(self, level):
        level = as_int(level, "builder_optimization_level")
        if not 0 <= level <= 5:
            raise argument_error(f"builder_optimization_level is between 0 and 5, got {level}")
        self._level = level

    @property
    def avg_timing_iterations(self):
        return self._avg_iterations

    @avg_timing_iterations.setter
    def avg_timing_iterations(self, count):
        """Accepted: builder_optimization_level says how long kernels are timed."""
        self._avg_iterations = _count(count, "avg_timing_iterations", 1)

    min_timing_iterations = avg_timing_iterations

    @property
    def max_num_tactics(self):
        return self._max_tactics

    @max_num_tactics.setter
    def max_num_tactics(self, count):
        """Accepted: the compiler's own list of candidates is short."""
        self._max_tactics = _count(count, "max_num_tactics", -1)

    def create_timing_cache(self, serialized_timing_cache):
        text = bytes(serialized_timing_cache)
        from .timing import check

        check(text)
        return ITimingCache._make(text)

    def set_timing_cache(self, cache, ignore_mismatch=False):
        if not isinstance(cache, ITimingCache):
            raise argument_error(f"set_timing_cache takes an ITimingCache, got {type(cache).__name__}")
        self._timing_cache = cache
        return True

    def get_timing_cache(self):
        return self._timing_cache

    def set_tactic_sources(self, tactic_sources):
        """On a GPU, CUBLAS, CUBLAS_LT and CUDNN are libraries whose kernels are tried beside Tenfold's own.

        Accepted on a CPU, whose engines have kernels from one source, Tenfold itself.
        """
        self._tactic_sources = mask_of(TacticSource, tactic_sources, "set_tactic_sources")
        return True

    def get_tactic_sources(self):
        return self._tactic_sources

    def _libraries(self):
        """The compiler's names of the libraries among the tactic sources."""
        names = {
            TacticSource.CUBLAS: "cublas_lt",
            TacticSource.CUBLAS_LT: "cublas_lt",
            TacticSource.CUDNN: "cudnn",
        }
        return sorted({name for source, name in names.items() if self._tactic_sources >> source.value & 1})

    @property
    def tiling_optimization_level(self):
        return self._tiling

    @tiling_optimization_level.setter
    def tiling_optimization_level(self, level):
        """Accepted: the kernels' blocks fit the caches that are found."""
        self._tiling = as_member(TilingOptimizationLevel, level, "tiling_optimization_level")

    @property
    def l2_limit_for_tiling(self):
        return self._l2_limit

    @l2_limit_for_tiling.setter
    def l2_limit_for_tiling(self, size):
        self._l2_limit = _count(size, "l2_limit_for_tiling")

    @property
    def algorithm_selector(self):
        return None

    @algorithm_selector.setter
    def algorithm_selector(self, selector):
        if check_interface(selector, IAlgorithmSelector, "algorithm_selector") is not None:
            raise unsupported(
                "IBuilderConfig.algorithm_selector", "a timing cache, which makes builds choose the same kernels"
            )

    @property
    def build_route(self):
        return ""

    @build_route.setter
    def build_route(self, route):
        if route:
            raise unsupported("IBuilderConfig.build_route", "builder_optimization_level")

    all_build_routes = "{}"

    @property
    def remote_auto_tuning_config(self):
        return ""

    @remote_auto_tuning_config.setter
    def remote_auto_tuning_config(self, config):
        if config:
            raise unsupported(
                "IBuilderConfig.remote_auto_tuning_config", "a timing cache that was filled on the other machine"
            )

    # --- Callbacks --------------------------------------------------------------------------------------------------
    @property
    def progress_monitor(self):
        return self._monitor

    @progress_monitor.setter
    def progress_monitor(self, monitor):
        self._monitor = check_interface(monitor, IProgressMonitor, "progress_monitor")

    @property
    def int8_calibrator(self):
        return self._calibrator

    @int8_calibrator.setter
    def int8_calibrator(self, calibrator):
        if calibrator is not None and not isinstance(calibrator, IInt8Calibrator):
            raise argument_error(
                f"int8_calibrator must derive from one of the IInt8 classes, got {type(calibrator).__name__}"
            )
        self._calibrator = calibrator

    # --- Devices and what is kept -----------------------------------------------------------------------------------
    @property
    def profiling_verbosity(self):
        return self._verbosity

    @profiling_verbosity.setter
    def profiling_verbosity(self, verbosity):
        self._verbosity = as_member(ProfilingVerbosity, verbosity, "profiling_verbosity")

    @property
    def engine_capability(self):
        return EngineCapability.STANDARD

    @engine_capability.setter
    def engine_capability(self, capability):
        if as_member(EngineCapability, capability, "engine_capability") is not EngineCapability.STANDARD:
            raise unsupported(str(capability), "EngineCapability.STANDARD")

    @property
    def default_device_type(self):
        return DeviceType.GPU

    @default_device_type.setter
    def default_device_type(self, device):
        self._check_device(device)

    @staticmethod
    def _check_device(device):
        if as_member(DeviceType, device, "the device type") is DeviceType.DLA:
            raise unsupported("DeviceType.DLA", "DeviceType.GPU, which stands for the engine's device, also a CPU")

    def _check_layer(self, layer):
        if not isinstance(layer, ILayer):
            raise argument_error(f"expected a layer, got {type(layer).__name__}")

    def set_device_type(self, layer, device_type):
        self._check_layer(layer)
        self._check_device(device_type)

    def get_device_type(self, layer):
        self._check_layer(layer)
        return DeviceType.GPU

    def is_device_type_set(self, layer):
        self._check_layer(layer)
        return False

    def reset_device_type(self, layer):
        self._check_layer(layer)

    def can_run_on_DLA(self, layer):
        self._check_layer(layer)
        return False

    @property
    def profile_stream(self):
        return self._stream

    @profile_stream.setter
    def profile_stream(self, handle):
        """Accepted: a CPU engine has no streams."""
        self._stream = as_int(handle, "profile_stream")

    @property
    def max_aux_streams(self):
        return self._max_aux_streams

    @max_aux_streams.setter
    def max_aux_streams(self, count):
        """Accepted: a run uses the engine's threads, and no streams."""
        self._max_aux_streams = _count(count, "max_aux_streams")

    @property
    def hardware_compatibility_level(self):
        return self._hardware

    @hardware_compatibility_level.setter
    def hardware_compatibility_level(self, level):
        """Anything but NONE adds the model itself to the engine, which then runs on every processor, if slower."""
        self._hardware = as_member(HardwareCompatibilityLevel, level, "hardware_compatibility_level")

    @property
    def runtime_platform(self):
        return RuntimePlatform.SAME_AS_BUILD

    @runtime_platform.setter
    def runtime_platform(self, platform):
        if as_member(RuntimePlatform, platform, "runtime_platform") is not RuntimePlatform.SAME_AS_BUILD:
            raise unsupported(str(platform), "a build on that platform")

    @property
    def plugins_to_serialize(self):
        return []

    @plugins_to_serialize.setter
    def plugins_to_serialize(self, paths):
        if list(paths):
            raise unsupported("IBuilderConfig.plugins_to_serialize", "operators of ONNX; an engine file holds no code")
