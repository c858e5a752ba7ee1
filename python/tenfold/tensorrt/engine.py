"""Runtime and ICudaEngine: plans are loaded, and say what they take and give."""

import json

from ._core_access import _core
from .context import IExecutionContext, IRuntimeConfig
from .enums import (
    EngineCapability,
    EngineStat,
    ExecutionContextAllocationStrategy,
    HardwareCompatibilityLevel,
    ProfilingVerbosity,
    SeekPosition,
    SerializationFlag,
    Severity,
    TempfileControlFlag,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
    as_member,
    mask_of,
)
from .errors import Error, argument_error, unsupported
from .inspector import EngineInspector
from .interfaces import IStreamReader, IStreamReaderV2, Reporter, Scoped, check_logger
from .machine import Allocating, Threaded, WithoutDLA
from .values import Dims, IHostMemory, as_int, trt_dtype, volume

# What a plan says about the network in the terms of this API; in the engine's metadata.
PLAN_KEY = "tenfold.tensorrt"
_CHUNK = 16 << 20


class Runtime(Threaded, Allocating, WithoutDLA, Reporter, Scoped):
    def __init__(self, logger):
        self._logger = check_logger(logger)
        self._temporary_directory, self._tempfile_flags = None, 3
        self._host_code = False

    logger = property(lambda self: self._logger)

    def deserialize_cuda_engine(self, serialized_engine):
        """The engine of a plan: bytes, or a reader that gives them. None after the logger has been told why not."""
        data = self._bytes(serialized_engine)
        try:
            return ICudaEngine._make(_core.Engine.load(data, num_threads=self._max_threads, portable=True), self)
        except Error as error:
            self._report(error)
            return None

    @staticmethod
    def _bytes(source):
        if isinstance(source, (bytes, bytearray, memoryview)):
            return source
        if isinstance(source, IStreamReaderV2):
            source.seek(0, SeekPosition.SET)
            parts = iter(lambda: bytes(source.read(_CHUNK, 0)), b"")
        elif isinstance(source, IStreamReader):
            parts = iter(lambda: bytes(source.read(_CHUNK)), b"")
        else:
            try:
                return memoryview(source).cast("B")
            except TypeError as error:
                raise argument_error(
                    f"a plan is bytes or comes from an IStreamReader, got {type(source).__name__}"
                ) from error
        return b"".join(parts)

    num_DLA_cores = 0

    @property
    def temporary_directory(self):
        return self._temporary_directory

    @temporary_directory.setter
    def temporary_directory(self, path):
        """Accepted: loading writes no files."""
        self._temporary_directory = path

    @property
    def tempfile_control_flags(self):
        return self._tempfile_flags

    @tempfile_control_flags.setter
    def tempfile_control_flags(self, flags):
        self._tempfile_flags = mask_of(TempfileControlFlag, flags, "tempfile_control_flags")

    @property
    def engine_host_code_allowed(self):
        return self._host_code

    @engine_host_code_allowed.setter
    def engine_host_code_allowed(self, allowed):
        """Accepted: a plan holds no code."""
        self._host_code = bool(allowed)

    def load_runtime(self, path):
        raise unsupported("Runtime.load_runtime", "the plan as it is; with VERSION_COMPATIBLE it holds the model, too")


class ISerializationConfig:
    def __init__(self):
        self._flags = 0

    @property
    def flags(self):
        return self._flags

    @flags.setter
    def flags(self, flags):
        mask = mask_of(SerializationFlag, flags, "flags")
        if mask >> SerializationFlag.EXCLUDE_WEIGHTS.value & 1:
            raise unsupported(str(SerializationFlag.EXCLUDE_WEIGHTS), "the plan with its weights")
        self._flags = mask

    def set_flag(self, flag):
        self.flags = self._flags | 1 << as_member(SerializationFlag, flag, "set_flag").value
        return True

    def clear_flag(self, flag):
        self._flags &= ~(1 << as_member(SerializationFlag, flag, "clear_flag").value)
        return True

    def get_flag(self, flag):
        return bool(self._flags >> as_member(SerializationFlag, flag, "get_flag").value & 1)


class _Bindings:
    """Release 8: inputs and outputs by number. With several profiles each profile has its own numbers."""

    num_bindings = property(lambda self: len(self._names) * self.num_optimization_profiles)

    def _binding(self, binding):
        """(name, profile) of a number or a name."""
        n = len(self._names)
        if isinstance(binding, str):
            name, _, profile = binding.partition(" [profile ")
            self._check(name)
            return name, int(profile.rstrip("]") or 0)
        index = as_int(binding, "a binding")
        if not 0 <= index < self.num_bindings:
            raise IndexError(f"the engine has {self.num_bindings} bindings; there is none with index {index}")
        return self._names[index % n], index // n

    def get_binding_name(self, index):
        name, profile = self._binding(index)
        return name if profile == 0 else f"{name} [profile {profile}]"

    def get_binding_index(self, name):
        try:
            tensor, profile = self._binding(name)
        except Error:
            return -1
        return self._names.index(tensor) + profile * len(self._names)

    def binding_is_input(self, binding):
        return self._binding(binding)[0] in self._inputs

    def get_binding_shape(self, binding):
        return self.get_tensor_shape(self._binding(binding)[0])

    def get_binding_dtype(self, binding):
        return self.get_tensor_dtype(self._binding(binding)[0])

    def get_location(self, binding):
        return self.get_tensor_location(self._binding(binding)[0])

    def get_profile_shape(self, profile_index, binding):
        return self.get_tensor_profile_shape(self._binding(binding)[0], profile_index)

    def get_profile_shape_input(self, profile_index, binding):
        return self.get_tensor_profile_values(profile_index, self._binding(binding)[0])

    def is_shape_binding(self, binding):
        return self.is_shape_inference_io(self._binding(binding)[0])

    def is_execution_binding(self, binding):
        return True

    def get_binding_bytes_per_component(self, index):
        return self.get_tensor_bytes_per_component(self._binding(index)[0])

    def get_binding_components_per_element(self, index):
        return self.get_tensor_components_per_element(self._binding(index)[0])

    def get_binding_format(self, index):
        return self.get_tensor_format(self._binding(index)[0])

    def get_binding_format_desc(self, index):
        return self.get_tensor_format_desc(self._binding(index)[0])

    def get_binding_vectorized_dim(self, index):
        return self.get_tensor_vectorized_dim(self._binding(index)[0])

    max_batch_size = 1
    has_implicit_batch_dimension = False

    def __len__(self):
        return self.num_bindings

    def __getitem__(self, index):
        """A binding's name by its number, or its number by its name."""
        if isinstance(index, str):
            number = self.get_binding_index(index)
            if number < 0:
                raise KeyError(index)
            return number
        return self.get_binding_name(index)

    def __iter__(self):
        return iter([self.get_binding_name(i) for i in range(self.num_bindings)])

    def __bool__(self):
        return True


class ICudaEngine(_Bindings, Reporter, Scoped):
    """A loaded plan. Any number of contexts may run at once; an engine changes only by being refitted."""

    def __init__(self):
        raise TypeError("an engine is made by Runtime.deserialize_cuda_engine")

    @classmethod
    def _make(cls, core, runtime):
        engine = object.__new__(cls)
        engine._runtime, engine._logger = runtime, runtime.logger
        engine._load(core)
        return engine

    def _load(self, core):
        try:
            said = json.loads(core.metadata.get(PLAN_KEY, "{}"))
        except ValueError:
            said = {}
        if core.info.backend != "cpu":
            raise unsupported(f"an engine that was built for {core.info.backend}", "tenfold.Engine.load")
        debug = set(said.get("debug", []))
        inputs = {info.name: info for info in core.inputs}
        outputs = {info.name: info for info in core.outputs if info.name not in debug}
        for info in [*inputs.values(), *outputs.values()]:
            if trt_dtype(info.dtype) is None:
                raise unsupported(f"an engine whose tensor '{info.name}' is {info.dtype}", "the package tenfold")
        self._core, self._said = core, said
        self._debug = [info for info in core.outputs if info.name in debug]
        self._inputs, self._outputs = inputs, outputs
        self._tensors = {**inputs, **outputs}
        self._names = list(self._tensors)
        self._steps = None

    def _check(self, name):
        if name not in self._tensors:
            known = ", ".join(f"'{n}'" for n in self._names)
            raise argument_error(f"there is no tensor {name!r}; the engine has {known}")
        return self._tensors[name]

    def _check_profile(self, index):
        if not isinstance(index, int) or not 0 <= index < self.num_optimization_profiles:
            raise argument_error(
                f"the engine has {self.num_optimization_profiles} profiles; there is no profile {index!r}"
            )
        return index

    # --- Tensors ----------------------------------------------------------------------------------------------------
    num_io_tensors = property(lambda self: len(self._names))

    def get_tensor_name(self, index):
        if not isinstance(index, int) or not 0 <= index < len(self._names):
            raise IndexError(f"the engine has {len(self._names)} tensors; there is none with index {index!r}")
        return self._names[index]

    def get_tensor_mode(self, name):
        if name in self._inputs:
            return TensorIOMode.INPUT
        return TensorIOMode.OUTPUT if name in self._outputs else TensorIOMode.NONE

    def get_tensor_shape(self, name):
        return Dims(self._check(name).dims)

    def get_tensor_dtype(self, name):
        return trt_dtype(self._check(name).dtype)

    def get_tensor_location(self, name):
        """HOST for what decides shapes, as in TensorRT; on this device both places are the same memory."""
        return TensorLocation.HOST if self.is_shape_inference_io(name) else TensorLocation.DEVICE

    def is_shape_inference_io(self, name):
        self._check(name)
        return name in self._said.get("shape_inputs", []) or name in self._said.get("shape_outputs", [])

    def get_tensor_bytes_per_component(self, name, profile_index=0):
        return int(self.get_tensor_dtype(name).itemsize)

    def get_tensor_components_per_element(self, name, profile_index=0):
        self._check(name)
        return 1

    def get_tensor_format(self, name, profile_index=0):
        self._check(name)
        return TensorFormat.LINEAR

    def get_tensor_format_desc(self, name, profile_index=0):
        return f"Row major linear {self.get_tensor_dtype(name).name} format (kLINEAR)"

    def get_tensor_vectorized_dim(self, name, profile_index=0):
        self._check(name)
        return -1

    def get_tensor_profile_shape(self, name, profile_index):
        """(min, opt, max) of an input."""
        self._check(name)
        self._check_profile(profile_index)
        if name not in self._inputs:
            raise argument_error(f"'{name}' is an output; only inputs have shapes in a profile")
        ranges = self._core.profile(profile_index)
        found = ranges[name] if isinstance(ranges, dict) else ranges[list(self._inputs).index(name)]
        return [Dims(found.min), Dims(found.opt), Dims(found.max)]

    def get_tensor_profile_values(self, name, profile_index):
        """(min, opt, max) values of an input that decides shapes; empty if the profile had none."""
        if isinstance(name, int):  # release 10 has the arguments in this order
            name, profile_index = profile_index, name
        self._check(name)
        self._check_profile(profile_index)
        profiles = self._said.get("profile_values", [])
        return profiles[profile_index].get(name, []) if profile_index < len(profiles) else []

    def get_aliased_input_tensor(self, name):
        self._check(name)
        return None

    def is_debug_tensor(self, name):
        return any(info.name == name for info in self._debug)

    # --- The engine as a whole --------------------------------------------------------------------------------------
    num_optimization_profiles = property(lambda self: self._core.num_profiles)
    num_layers = property(lambda self: self._core.num_steps)
    name = property(lambda self: self._said.get("name") or self._core.info.model_name or "Unnamed Network 0")
    refittable = property(lambda self: self._said.get("refit") is not None)
    engine_capability = EngineCapability.STANDARD
    num_aux_streams = 0
    tactic_sources = 0
    hardware_compatibility_level = HardwareCompatibilityLevel.NONE

    @property
    def profiling_verbosity(self):
        return ProfilingVerbosity[self._said.get("verbosity", "DETAILED")]

    def serialize(self):
        return IHostMemory(self._core.serialize())

    def create_serialization_config(self):
        return ISerializationConfig()

    def serialize_with_config(self, config):
        if not isinstance(config, ISerializationConfig):
            raise argument_error(f"serialize_with_config takes an ISerializationConfig, got {type(config).__name__}")
        return self.serialize()

    def create_runtime_config(self):
        return IRuntimeConfig()

    def create_execution_context(self, strategy=ExecutionContextAllocationStrategy.STATIC):
        if isinstance(strategy, IRuntimeConfig):
            strategy = strategy.get_execution_context_allocation_strategy()
        strategy = as_member(ExecutionContextAllocationStrategy, strategy, "create_execution_context: strategy")
        try:
            return IExecutionContext._make(self, strategy)
        except Error as error:
            self._report(error)
            return None

    def create_execution_context_without_device_memory(self):
        return self.create_execution_context(ExecutionContextAllocationStrategy.USER_MANAGED)

    def create_engine_inspector(self):
        return EngineInspector._make(self)

    # --- Memory -----------------------------------------------------------------------------------------------------
    def get_device_memory_size_for_profile_v2(self, profile_index):
        """Bytes of activations and scratch memory at the profile's largest shapes."""
        return self._core.arena_bytes(self._check_profile(profile_index))

    get_device_memory_size_for_profile = get_device_memory_size_for_profile_v2

    @property
    def device_memory_size_v2(self):
        return max(self._core.arena_bytes(i) for i in range(self.num_optimization_profiles))

    device_memory_size = device_memory_size_v2

    # Weights lie in the plan file's mapping, and the system loads what is used; there is nothing to stream.
    streamable_weights_size = 0
    minimum_weight_streaming_budget = 0
    weight_streaming_scratch_memory_size = 0

    @property
    def weight_streaming_budget_v2(self):
        return 0

    @weight_streaming_budget_v2.setter
    def weight_streaming_budget_v2(self, budget):
        if budget not in (0, -1):
            raise unsupported("ICudaEngine.weight_streaming_budget_v2", "nothing: weights are loaded as they are used")

    weight_streaming_budget = weight_streaming_budget_v2

    def get_weight_streaming_automatic_budget(self):
        return 0

    def get_engine_stat(self, stat):
        stat = as_member(EngineStat, stat, "get_engine_stat")
        return self._core.weight_bytes if stat is EngineStat.TOTAL_WEIGHTS_SIZE else 0

    def _output_bytes(self, name, dims):
        return volume(dims) * int(trt_dtype(self._check(name).dtype).itemsize)


__all__ = ["ICudaEngine", "ISerializationConfig", "Runtime", "Severity"]
