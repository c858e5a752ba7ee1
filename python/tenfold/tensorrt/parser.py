"""OnnxParser: fills a network from an ONNX model, with errors that name node, operator, reason and fix."""

import os

from ._core_access import _core
from .enums import ErrorCode, OnnxParserFlag, as_member, mask_of
from .errors import argument_error, unsupported
from .imported import import_layers
from .interfaces import Reporter, Scoped, check_logger
from .network import INetworkDefinition
from .values import IHostMemory

_NODE_CODES = {
    "unsupported": ErrorCode.UNSUPPORTED_NODE,
    "invalid_model": ErrorCode.INVALID_NODE,
    "out_of_memory": ErrorCode.MEM_ALLOC_FAILED,
    "internal": ErrorCode.INTERNAL_ERROR,
}
_MODEL_CODES = {
    "unsupported": ErrorCode.UNSUPPORTED_GRAPH,
    "invalid_model": ErrorCode.INVALID_GRAPH,
    "io_failure": ErrorCode.MODEL_DESERIALIZE_FAILED,
    "out_of_memory": ErrorCode.MEM_ALLOC_FAILED,
    "internal": ErrorCode.INTERNAL_ERROR,
}


class ParserError:
    """One reason why a model cannot be parsed. All fields are functions, as in TensorRT."""

    def __init__(self, made=None):
        raise TypeError("a ParserError is made by OnnxParser.get_error")

    @classmethod
    def _make(cls, code, desc, node=-1, name="", operator=""):
        error = object.__new__(cls)
        error._code, error._desc, error._node, error._name, error._operator = code, desc, node, name, operator
        return error

    def code(self):
        return self._code

    def desc(self):
        return self._desc

    def node(self):
        """The node's position in the model; -1 if the error concerns the model as a whole."""
        return self._node

    def node_name(self):
        return self._name

    def node_operator(self):
        return self._operator

    # Places in the parser's own sources mean nothing to a user, so they stay empty.
    def file(self):
        return ""

    def line(self):
        return 0

    def func(self):
        return ""

    def local_function_stack(self):
        return []

    def local_function_stack_size(self):
        return 0

    def __str__(self):
        where = (
            f"In node {self._node} with name: {self._name} and operator: {self._operator}"
            if self._node >= 0
            else "In the model"
        )
        return f"{where}: {self._code.name}: {self._desc}"

    def __repr__(self):
        return str(self)


class ModelReader(Reporter, Scoped):
    """What OnnxParser and OnnxParserRefitter share: reading models in steps, and the list of errors."""

    def _begin(self, logger):
        self._logger = check_logger(logger)
        self._errors = []
        self._pending = None  # (bytes, path, {initializer name: bytes}) between load_model_proto and parse_model_proto

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index):
        if not isinstance(index, int) or not 0 <= index < len(self._errors):
            raise IndexError(f"the parser has {len(self._errors)} errors; there is none with index {index!r}")
        return self._errors[index]

    def clear_errors(self):
        self._errors = []

    def _fail(self, error):
        self._errors.append(error)
        self._report(str(error))

    @staticmethod
    def _bytes(model):
        if isinstance(model, (bytes, bytearray, memoryview, IHostMemory)):
            return bytes(model)
        try:
            return bytes(memoryview(model))
        except TypeError as error:
            raise argument_error(
                f"the model must be bytes, got {type(model).__name__}; to read a file use parse_from_file"
            ) from error

    def _read(self, model, path):
        """The compiler's network of a model; None, with errors, if it cannot be compiled."""
        core, problems = _core.Network.from_onnx(model, path) if path is not None else _core.Network.from_onnx(model)
        for problem in problems:
            codes = _NODE_CODES if problem.node_index >= 0 else _MODEL_CODES
            code = codes.get(problem.code, ErrorCode.MODEL_DESERIALIZE_FAILED)
            if core is None and code is ErrorCode.INVALID_GRAPH:
                code = ErrorCode.MODEL_DESERIALIZE_FAILED
            text = (
                problem.message
                if problem.node_index >= 0 or not problem.where
                else f"{problem.where}: {problem.message}"
            )
            self._fail(ParserError._make(code, text, problem.node_index, problem.node, problem.op_type))
        return core

    @staticmethod
    def _text(path, what):
        try:
            return os.fspath(path)
        except TypeError as error:
            raise argument_error(f"{what} must be a path, got {path!r}") from error

    # Tensors handed over in memory, which TensorRT 10.13 brought, need a parser that takes them from outside.
    def load_model_proto(self, model, path=None):
        raise unsupported(f"{type(self).__name__}.load_model_proto", "parse or parse_from_file")

    def load_initializer(self, name, data, size):
        raise unsupported(f"{type(self).__name__}.load_initializer", "a model file with its external data beside it")


class OnnxParser(ModelReader):
    def __init__(self, network, logger):
        if not isinstance(network, INetworkDefinition):
            raise argument_error(f"OnnxParser takes a network, got {type(network).__name__}")
        self._begin(logger)
        self._network = network
        self._flags = 1 << OnnxParserFlag.NATIVE_INSTANCENORM.value
        self._groups = []

    def parse(self, model, path=None):
        """Reads `model` (bytes). `path`: where tensors in other files are looked for. False if there are errors."""
        return self._parse(self._bytes(model), None if path is None else self._text(path, "path"))

    def parse_from_file(self, model):
        path = self._text(model, "the model")
        from pathlib import Path

        return self._parse(Path(path), None)

    def _parse(self, model, path):
        network = self._network
        if network._layers or network._inputs:
            raise unsupported(
                "OnnxParser.parse into a network that has inputs or layers already",
                "an empty network, and add layers after parsing",
            )
        core = self._read(model, path)
        if core is None or self._errors:
            return False
        import_layers(network, core)
        return True

    def parse_with_weight_descriptors(self, model):
        return self.parse(model)

    def supports_operator(self, op_name):
        return _core.supports_operator(str(op_name))

    def supports_model_v2(self, model, path=None):
        """Can the model be parsed? Fills the list of subgraphs: the longest runs of nodes that can be compiled. As with
        TensorRT, a node that cannot stands in none of them; `get_error` says why."""
        core = self._read(self._bytes(model), None if path is None else self._text(path, "path"))
        self._groups = [] if core is None else [(list(nodes), True) for nodes, ok in core.support_groups() if ok]
        return core is not None and not self._errors

    def supports_model(self, model, path=None):
        supported = self.supports_model_v2(model, path)
        return supported, [(nodes, ok) for nodes, ok in self._groups]

    num_subgraphs = property(lambda self: len(self._groups))

    def _group(self, index):
        if not isinstance(index, int) or not 0 <= index < len(self._groups):
            raise IndexError(
                f"there are {len(self._groups)} subgraphs; there is none with index {index!r}; call supports_model_v2 first"
            )
        return self._groups[index]

    def is_subgraph_supported(self, index):
        return self._group(index)[1]

    def get_subgraph_nodes(self, index):
        return list(self._group(index)[0])

    def parse_model_proto(self):
        raise unsupported("OnnxParser.parse_model_proto", "parse or parse_from_file")

    def get_layer_output_tensor(self, name, i):
        for layer in self._network._layers:
            if layer.name == name:
                return layer.get_output(i)
        return None

    def get_used_vc_plugin_libraries(self):
        return []

    def set_builder_config(self, builder_config):
        """Accepted; nothing in it changes how a model is read."""
        from .config import IBuilderConfig

        if not isinstance(builder_config, IBuilderConfig):
            raise argument_error(f"set_builder_config takes an IBuilderConfig, got {type(builder_config).__name__}")
        return True

    @property
    def flags(self):
        return self._flags

    @flags.setter
    def flags(self, flags):
        mask = mask_of(OnnxParserFlag, flags, "flags")
        for flag in (
            OnnxParserFlag.ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA,
            OnnxParserFlag.REPORT_CAPABILITY_DLA,
            OnnxParserFlag.ADJUST_FOR_DLA,
        ):
            if mask >> flag.value & 1:
                raise unsupported(str(flag), "no flag: there is no DLA, and uint8 with zero points is read as it is")
        self._flags = mask

    def set_flag(self, flag):
        self.flags = self._flags | 1 << as_member(OnnxParserFlag, flag, "set_flag").value

    def clear_flag(self, flag):
        self._flags &= ~(1 << as_member(OnnxParserFlag, flag, "clear_flag").value)

    def get_flag(self, flag):
        return bool(self._flags >> as_member(OnnxParserFlag, flag, "get_flag").value & 1)
