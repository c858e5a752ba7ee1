"""Refitter and OnnxParserRefitter: other weights for an engine that was built with BuilderFlag.REFIT.

Such a plan holds the model beside the compiled engine. A refit puts the new weights into the model and compiles it again
with the plan's own options; what kernels take was measured before and is remembered within the process.
"""

from ._core_access import _core
from .engine import PLAN_KEY, ICudaEngine
from .enums import Severity, TensorLocation, WeightsRole, as_member
from .errors import Error, argument_error, unsupported
from .interfaces import Reporter, Scoped, check_logger
from .parser import ModelReader
from .values import Weights, as_int, as_weights, dtype_of_array

_timing = {"cache": b""}  # of all refits of this process

_ROLES = {
    "kernel": WeightsRole.KERNEL,
    "bias": WeightsRole.BIAS,
    "shift": WeightsRole.SHIFT,
    "scale": WeightsRole.SCALE,
    "constant": WeightsRole.CONSTANT,
    "power": WeightsRole.ANY,
}


class Refitter(Reporter, Scoped):
    def __init__(self, engine, logger):
        if not isinstance(engine, ICudaEngine):
            raise argument_error(f"Refitter takes an engine, got {type(engine).__name__}")
        self._logger = check_logger(logger)
        if not engine.refittable:
            raise argument_error("the engine cannot be refitted; build it with BuilderFlag.REFIT")
        self._engine = engine
        self._table = {name: (layer, role, constant) for name, layer, role, constant in engine._said["refit"]}
        self._model = _core.Network.from_engine(engine._core.serialize())
        self._given = {}
        self.weights_validation = True
        self._max_threads = 0

    logger = property(lambda self: self._logger)

    def _entry(self, name):
        if name not in self._table:
            known = ", ".join(f"'{n}'" for n in list(self._table)[:10])
            raise argument_error(f"the engine has no weights '{name}'; some of its weights are {known}")
        return self._table[name]

    def _current(self, name):
        number = self._model.find_value(self._entry(name)[2])
        return self._model.constant_value(number)

    def set_named_weights(self, name, weights, location=TensorLocation.HOST):
        """False, and a message to the logger, if there are no such weights or they have another type or size."""
        try:
            as_member(TensorLocation, location, "location")
            weights = as_weights(weights, f"weights '{name}'") or Weights(weights)
            array, now = weights.numpy(), self._current(name)
            if array.size != now.size or dtype_of_array(array) != dtype_of_array(now):
                raise argument_error(
                    f"weights '{name}': expected {now.size} elements of {now.dtype}, got {array.size} of {array.dtype}"
                )
        except Error as error:
            self._report(error)
            return False
        self._given[name] = array.reshape(now.shape).copy()
        return True

    def set_weights(self, layer_name, role, weights):
        role = as_member(WeightsRole, role, "role")
        for name, (layer, of, _) in self._table.items():
            if layer == layer_name and _ROLES.get(of) in (role, WeightsRole.ANY):
                return self.set_named_weights(name, weights)
        self._report(argument_error(f"the engine has no layer '{layer_name}' with weights of {role!s}"))
        return False

    def unset_named_weights(self, weights_name):
        return self._given.pop(weights_name, None) is not None

    def get_named_weights(self, weights_name):
        self._entry(weights_name)
        return Weights(self._given[weights_name]) if weights_name in self._given else Weights()

    def get_weights_location(self, weights_name):
        self._entry(weights_name)
        return TensorLocation.HOST

    def get_weights_prototype(self, weights_name):
        """The type and the number of elements that are wanted, without values of meaning."""
        return Weights(self._current(weights_name))

    def get_all_weights(self):
        return list(self._table)

    def get_missing_weights(self):
        """Each tensor can be changed alone, so none is ever missing."""
        return []

    def get_all(self):
        """(layers, roles)"""
        return (
            [layer for layer, _, _ in self._table.values()],
            [_ROLES.get(role, WeightsRole.ANY) for _, role, _ in self._table.values()],
        )

    def get_missing(self):
        return [], []

    def refit_cuda_engine(self):
        """Compiles the engine with the new weights. Contexts of it use them from their next run on."""
        engine = self._engine
        try:
            for name, array in self._given.items():
                self._model.set_constant(self._model.find_value(self._table[name][2]), array)
            profiles = []
            for index in range(engine.num_optimization_profiles):
                profiles.append(
                    {
                        name: tuple(tuple(part) for part in engine.get_tensor_profile_shape(name, index))
                        for name in engine._inputs
                    }
                )
            core = engine._core
            options = {key: value for key, value in engine._said.get("options", {}).items()}
            result = _core.compile(
                self._model,
                profiles=profiles,
                portable=True,
                timing_cache=_timing["cache"],
                opt_level=engine._said.get("level", 3),
                num_threads=self._max_threads,
                name=core.info.model_name,
                metadata={PLAN_KEY: core.metadata[PLAN_KEY]},
                **options,
            )
            _timing["cache"] = bytes(result.timing_cache)
            engine._load(_core.Engine.load(result.engine))
        except Error as error:
            self._report(error)
            return False
        self._given = {}
        self._log(Severity.INFO, f"refitted in {result.seconds:.2f} s")
        return True

    def refit_cuda_engine_async(self, stream_handle):
        return self.refit_cuda_engine()

    @property
    def max_threads(self):
        return self._max_threads

    @max_threads.setter
    def max_threads(self, count):
        self._max_threads = as_int(count, "max_threads")

    # Ranges belong to INT8, which no engine has.
    def get_tensors_with_dynamic_range(self):
        return []

    def get_dynamic_range(self, tensor_name):
        raise unsupported("Refitter.get_dynamic_range (INT8)", "an engine without INT8 ranges")

    def set_dynamic_range(self, tensor_name, range):
        raise unsupported("Refitter.set_dynamic_range (INT8)", "an engine without INT8 ranges")


class OnnxParserRefitter(ModelReader):
    """Takes the weights of a model, by name, into a refitter."""

    def __init__(self, refitter, logger):
        if not isinstance(refitter, Refitter):
            raise argument_error(f"OnnxParserRefitter takes a Refitter, got {type(refitter).__name__}")
        self._begin(logger)
        self._refitter = refitter

    def refit_from_bytes(self, model, path=None):
        return self._refit(self._bytes(model), None if path is None else self._text(path, "path"))

    def refit_from_file(self, model):
        from pathlib import Path

        return self._refit(Path(self._text(model, "the model")), None)

    def _refit(self, model, path):
        core = self._read(model, path)
        if core is None or self._errors:
            return False
        refitter, done = self._refitter, 0
        for name, (_, _, constant) in refitter._table.items():
            number = core.find_value(constant)
            if number is None:
                continue
            array = core.constant_value(number)
            if array is not None:
                if not refitter.set_named_weights(name, array):
                    return False
                done += 1
        if done == 0:
            self._report(argument_error("the model has none of the engine's weights; is it another model?"))
            return False
        return True

    def refit_model_proto(self):
        raise unsupported("OnnxParserRefitter.refit_model_proto", "refit_from_bytes or refit_from_file")
