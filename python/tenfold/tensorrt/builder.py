"""Builder: networks and configurations are made here, and compiled to plans."""

import json

from . import precision, version
from ._core_access import _core
from .calibration import calibrate
from .config import IBuilderConfig, IOptimizationProfile, ITimingCache
from .engine import PLAN_KEY, Runtime
from .enums import BuilderFlag, HardwareCompatibilityLevel, NetworkDefinitionCreationFlag, Severity, mask_of
from .errors import Error, argument_error, unsupported
from .interfaces import IStreamWriter, Reporter, Scoped, check_logger
from .lowering import Lowering
from .machine import Allocating, Threaded
from .network import INetworkDefinition
from .tensor import FLOATS
from .values import IHostMemory, as_int, core_dtype, trt_dtype


class Builder(Threaded, Allocating, Reporter, Scoped):
    def __init__(self, logger):
        self._logger = check_logger(logger)

    logger = property(lambda self: self._logger)

    def create_network(self, flags=0):
        """An empty network. Every network has an explicit batch, whatever the flags say."""
        mask = mask_of(NetworkDefinitionCreationFlag, flags, "create_network: flags")
        return INetworkDefinition._make(self, mask)

    def create_builder_config(self):
        return IBuilderConfig._make(self._logger)

    def create_optimization_profile(self):
        return IOptimizationProfile._make()

    def build_serialized_network(self, network, config, kernel_text=None):
        """Compiles. Returns the plan, or None after the logger has been told why not.

        Raises `tenfold.Error` with code `unsupported` for what Tenfold refuses by name, and whatever a callback raised.
        """
        if kernel_text:
            raise unsupported("build_serialized_network(kernel_text=...)", "a build without it")
        self._check(network, config)
        try:
            return IHostMemory(self._build(network, config))
        except Error as error:
            if error.code == "unsupported":
                self._report(error)
                raise
            self._report(error)
            return None

    def build_engine_with_config(self, network, config):
        plan = self.build_serialized_network(network, config)
        if plan is None:
            return None
        return Runtime(self._logger).deserialize_cuda_engine(plan)

    build_engine = build_engine_with_config

    def build_serialized_network_to_stream(self, network, config, writer):
        if not isinstance(writer, IStreamWriter):
            raise argument_error(f"the writer must derive from IStreamWriter, got {type(writer).__name__}")
        plan = self.build_serialized_network(network, config)
        if plan is None:
            return False
        view, done = memoryview(plan), 0
        while done < len(view):
            taken = writer.write(view[done:])
            if not isinstance(taken, int) or taken <= 0:
                self._report(argument_error(f"the stream writer took {taken!r} of {len(view) - done} bytes"))
                return False
            done += taken
        return True

    def is_network_supported(self, network, config):
        """Can every layer be compiled? Shapes are inferred, nothing is built."""
        self._check(network, config)
        try:
            network._sync()
        except Error as error:
            self._report(error)
            return False
        return True

    def _check(self, network, config):
        if not isinstance(network, INetworkDefinition):
            raise argument_error(f"a build takes a network, got {type(network).__name__}")
        if not isinstance(config, IBuilderConfig):
            raise argument_error(f"a build takes a configuration, got {type(config).__name__}")

    def _build(self, network, config):
        if not network._outputs:
            raise argument_error("the network has no outputs; mark_output names what is wanted")
        if network.get_flag(NetworkDefinitionCreationFlag.STRONGLY_TYPED):
            for flag in (BuilderFlag.FP16, BuilderFlag.BF16, BuilderFlag.INT8):
                if config.get_flag(flag):
                    raise argument_error(
                        f"a strongly typed network has the types of its layers; leave {flag!s} out, or STRONGLY_TYPED"
                    )
        profiles = _profiles(network, config)
        if config.get_flag(BuilderFlag.INT8):
            calibrate(self, network, config, profiles)  # fills the calibration cache
            raise unsupported(
                "BuilderFlag.INT8 (arithmetic in int8)",
                "BuilderFlag.FP16, or an ONNX model with QuantizeLinear and DequantizeLinear nodes",
            )
        core, description = _finish(network, config)
        refit = config.get_flag(BuilderFlag.REFIT) or config.get_flag(BuilderFlag.REFIT_IDENTICAL)
        portable = (
            refit
            or config.get_flag(BuilderFlag.VERSION_COMPATIBLE)
            or config._hardware is not HardwareCompatibilityLevel.NONE
        )
        cache = config._timing_cache
        use_cache = cache is not None and not config.get_flag(BuilderFlag.DISABLE_TIMING_CACHE)
        description["level"] = config._level
        options = precision.compile_options(self, network, config)
        monitor = _Monitor(config._monitor)
        if config.get_flag(BuilderFlag.STRICT_NANS):
            options["strict"] = True
        if options.get("device", "cpu") != "cpu":
            options["tactic_sources"] = config._libraries()
        result = _core.compile(
            core,
            profiles=profiles,
            workspace_bytes=config.max_workspace_size,
            num_threads=self._max_threads,
            opt_level=config._level,
            portable=portable,
            timing_cache=cache._text if use_cache else None,
            progress=monitor.report if config._monitor is not None else None,
            name=network.name,
            metadata={PLAN_KEY: json.dumps(description, sort_keys=True)},
            **options,
        )
        monitor.finish()
        for warning in result.warnings:
            self._log(Severity.WARNING, warning)
        if use_cache:
            cache._text = bytes(result.timing_cache)
        elif cache is None and not config.get_flag(BuilderFlag.DISABLE_TIMING_CACHE):
            config._timing_cache = ITimingCache._make(b"")
        self._log(
            Severity.INFO,
            f"built {result.engine_steps} steps from {result.model_nodes} nodes in {result.seconds:.2f} s",
        )
        return result.engine

    def reset(self):
        self._max_threads = 0

    @property
    def max_batch_size(self):
        return 1

    @max_batch_size.setter
    def max_batch_size(self, size):
        """Accepted: the batch is explicit, so profiles say how large it may be."""
        as_int(size, "max_batch_size")

    # --- The device: what scripts ask before they set flags ---------------------------------------------------------
    platform_has_tf32 = False
    platform_has_fast_int8 = False
    num_DLA_cores = 0
    max_DLA_batch_size = 0

    @property
    def platform_has_fast_fp16(self):
        """True: the FP16 flag halves the weights, which is what a CPU waits for."""
        return True


class _Monitor:
    """Calls an IProgressMonitor: each phase of the compiler is a phase of a hundred steps."""

    STEPS = 100

    def __init__(self, monitor):
        self._monitor, self._phase, self._step = monitor, None, 0

    def report(self, phase, item, fraction, remaining):
        if phase != self._phase:
            self.finish()
            if phase == "done":
                return True
            self._phase, self._step = phase, 0
            self._monitor.phase_start(phase, None, self.STEPS)
        step = min(int(fraction * self.STEPS), self.STEPS - 1)
        if step < self._step:
            return True
        self._step = step + 1
        return self._monitor.step_complete(phase, step) is not False

    def finish(self):
        if self._phase is not None:
            self._monitor.phase_finish(self._phase)
            self._phase = None


def _profiles(network, config):
    """The compiler's profiles. A dynamic input without a range is the compiler's to complain about."""
    profiles = []
    for number, profile in enumerate(config._profiles):
        ranges = {}
        for tensor in network._inputs:
            if tensor.name in profile._shapes:
                ranges[tensor.name] = tuple(tuple(part) for part in profile._shapes[tensor.name])
        unknown = [
            name for name in {**profile._shapes, **profile._values} if all(t.name != name for t in network._inputs)
        ]
        if unknown:
            names = ", ".join(f"'{t.name}'" for t in network._inputs)
            raise argument_error(
                f"profile {number} names input '{unknown[0]}', which the network does not have; its inputs are {names}"
            )
        profiles.append(ranges)
    return profiles


def _finish(network, config):
    """A copy of the compiler's network with its outputs marked, and what the plan says about it."""
    network._sync()
    core = network._core.copy()
    for number in core.outputs:
        core.unmark_output(number)
    names, seen = [], {tensor.name for tensor in network._inputs}
    for tensor in [*network._outputs, *(t for t in network._debug if t not in network._outputs)]:
        name = tensor.name
        if tensor in network._inputs:
            name = f"{name}_output"
        if name in seen:
            raise argument_error(f"two inputs or outputs of the network are called '{name}'; give them different names")
        seen.add(name)
        number = network._number(tensor)
        wanted = tensor._dtype or (tensor._layer._types.get(tensor._index) if tensor._layer is not None else None)
        have = trt_dtype(core.value_info(number).dtype)
        if wanted is not None and wanted != have and (have is None or have in FLOATS or wanted in FLOATS):
            number = Lowering(core, f"{name}/Cast", []).cast(number, core_dtype(wanted, f"the type of output '{name}'"))
        if number in core.outputs or number in core.inputs or core.constant_value(number) is not None:
            number = core.add_node("Identity", [number], None, 1, f"{name}/Identity")[0]
        core.mark_output(number, name)
        names.append(name)
    for number, tensor in zip(core.inputs, network._inputs):
        if core.value_info(number).name != tensor.name:
            core.set_value_name(number, tensor.name)
    description = {
        "version": version.VERSION,
        "name": network.name,
        "verbosity": config._verbosity.name,
        "flags": config._flags,
        "debug": names[len(network._outputs) :],
        "unfused": network._mark_unfused,
        "shape_inputs": [t.name for t in network._inputs if t.is_shape_tensor],
        "shape_outputs": [t.name for t in network._shape_outputs],
        "profile_values": [
            {name: [list(part) for part in parts] for name, parts in profile._values.items()}
            for profile in config._profiles
        ],
        "refit": _refit_table(network, core, config),
    }
    return core, description


def _refit_table(network, core, config):
    """[name, layer, role, constant's name in the model] for weights that a refit may change."""
    if not (config.get_flag(BuilderFlag.REFIT) or config.get_flag(BuilderFlag.REFIT_IDENTICAL)):
        return None
    table, used = [], set()
    for (layer, role), number in network._weights.items():
        if not core.has_value(number):
            continue
        constant = core.value_info(number).name
        name = network._weights_names.get((layer, role)) or (
            constant if layer._op_type else f"{layer.name} {role.upper()}"
        )
        if constant in used:
            continue
        used.add(constant)
        table.append([name, layer.name, role, constant])
    return table
