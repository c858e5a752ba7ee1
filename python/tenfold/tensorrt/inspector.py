"""EngineInspector: what an engine consists of, as text or JSON."""

import json

from . import version
from .context import IExecutionContext
from .enums import LayerInformationFormat, ProfilingVerbosity, as_member
from .errors import argument_error
from .interfaces import Reporter

_TYPE_NAMES = {
    "float32": "FP32",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float8e4m3": "FP8",
    "int8": "Int8",
    "uint8": "UInt8",
    "int32": "Int32",
    "int64": "Int64",
    "bool": "Bool",
    "float64": "FP64",
    "int16": "Int16",
    "uint16": "UInt16",
    "uint32": "UInt32",
    "uint64": "UInt64",
}


class EngineInspector(Reporter):
    def __init__(self):
        raise TypeError("an inspector is made by ICudaEngine.create_engine_inspector")

    @classmethod
    def _make(cls, engine):
        inspector = object.__new__(cls)
        inspector._engine, inspector._logger, inspector._context = engine, engine._logger, None
        return inspector

    @property
    def execution_context(self):
        return self._context

    @execution_context.setter
    def execution_context(self, context):
        """With a context, dimensions are those of its shapes where they are set."""
        if context is not None and not isinstance(context, IExecutionContext):
            raise argument_error(f"execution_context takes an IExecutionContext, got {type(context).__name__}")
        if context is not None and context.engine is not self._engine:
            raise argument_error("execution_context takes a context of the inspected engine")
        self._context = context

    def _tensor(self, info):
        name = _TYPE_NAMES.get(info.dtype, info.dtype)
        dims = list(info.dims)
        if self._context is not None and info.name in self._engine._tensors:
            dims = list(self._context.get_tensor_shape(info.name))
        entry = {"Name": info.name, "Location": "Device", "Dimensions": dims}
        if version.MAJOR >= 11:
            return {**entry, "Datatype": name, "Format": "Row major linear"}
        return {**entry, "Format/Datatype": f"Row major linear {name} format"}

    def _layer(self, step, profile):
        tactic = step.tactics[profile] if step.tactics else "runtime"
        if self._engine.profiling_verbosity is ProfilingVerbosity.LAYER_NAMES_ONLY:
            return step.name
        return {
            "Name": step.name,
            "LayerType": step.op_type,
            "Inputs": [self._tensor(i) for i in step.inputs],
            "Outputs": [self._tensor(o) for o in step.outputs],
            "ParameterType": step.op_type,
            "Attributes": step.attributes,
            "Origin": step.op_type,
            "TacticValue": tactic,
            "TacticName": tactic,
            "StreamId": 0,
            "Metadata": ", ".join(f"[ONNX Layer: {origin}]" for origin in step.origins),
        }

    def _steps(self):
        if self._engine._steps is None:
            self._engine._steps = self._engine._core.steps()
        return self._engine._steps

    def _text(self, layer, format):
        if as_member(LayerInformationFormat, format, "the format") is LayerInformationFormat.JSON:
            return json.dumps(layer)
        if isinstance(layer, str):
            return layer
        tensors = [", ".join(f"{t['Name']}{t['Dimensions']}" for t in layer[key]) for key in ("Inputs", "Outputs")]
        return f"{layer['Name']} ({layer['LayerType']}, {layer['TacticName']}): {tensors[0]} -> {tensors[1]}"

    def get_layer_information(self, layer_index, format):
        steps = self._steps()
        if not isinstance(layer_index, int) or not 0 <= layer_index < len(steps):
            raise IndexError(f"the engine has {len(steps)} layers; there is none with index {layer_index!r}")
        if self._engine.profiling_verbosity is ProfilingVerbosity.NONE:
            return json.dumps("") if format is LayerInformationFormat.JSON else ""
        profile = self._context.active_optimization_profile if self._context is not None else 0
        return self._text(self._layer(steps[layer_index], profile), format)

    def get_engine_information(self, format):
        steps = [] if self._engine.profiling_verbosity is ProfilingVerbosity.NONE else self._steps()
        profile = self._context.active_optimization_profile if self._context is not None else 0
        layers = [self._layer(step, profile) for step in steps]
        if as_member(LayerInformationFormat, format, "the format") is LayerInformationFormat.ONELINE:
            return "\n".join(self._text(layer, format) for layer in layers)
        key = "I/O Tensors" if version.MAJOR >= 11 else "Bindings"
        return json.dumps({"Layers": layers, key: self._engine._names})
