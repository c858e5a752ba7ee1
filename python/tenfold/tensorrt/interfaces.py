"""Classes that users derive from to be called back: loggers, recorders, monitors, allocators, readers, calibrators.

A subclass has to call the base's `__init__`, as in TensorRT; a missing override raises NotImplementedError with its name.
"""

import sys

from .enums import APILanguage, CalibrationAlgoType, ErrorCodeTRT, Severity, as_member
from .errors import argument_error


def _abstract(self, method):
    return NotImplementedError(f"{type(self).__name__} must define {method}()")


class InterfaceInfo:
    def __init__(self, kind="", major=1, minor=0):
        self.kind, self.major, self.minor = kind, major, minor


class IVersionedInterface:
    @property
    def api_language(self):
        return APILanguage.PYTHON

    @property
    def interface_info(self):
        return InterfaceInfo(type(self).__name__)


class ILogger:
    """Receives messages: derive and define `log(severity, msg)`."""

    Severity = Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def __init__(self):
        pass

    def log(self, severity, msg):
        raise _abstract(self, "log")


class Logger(ILogger):
    """Writes messages of at least `min_severity` to the standard error stream."""

    def __init__(self, min_severity=Severity.WARNING):
        super().__init__()
        self.min_severity = min_severity

    @property
    def min_severity(self):
        return self._min_severity

    @min_severity.setter
    def min_severity(self, value):
        self._min_severity = as_member(Severity, value, "min_severity")

    def log(self, severity, msg):
        severity = as_member(Severity, severity, "severity")
        if severity.value > self._min_severity.value:
            return
        letter = {"INTERNAL_ERROR": "F", "ERROR": "E", "WARNING": "W", "INFO": "I", "VERBOSE": "V"}[severity.name]
        print(f"[TRT] [{letter}] {msg}", file=sys.stderr)


class IErrorRecorder(IVersionedInterface):
    """Collects errors: `report_error(code, description)` is called for each."""

    MAX_DESC_LENGTH = 127

    def __init__(self):
        pass

    def num_errors(self):
        raise _abstract(self, "num_errors")

    def get_num_errors(self):
        return self.num_errors()

    def get_error_code(self, index):
        raise _abstract(self, "get_error_code")

    def get_error_desc(self, index):
        raise _abstract(self, "get_error_desc")

    def has_overflowed(self):
        return False

    def clear(self):
        raise _abstract(self, "clear")

    def report_error(self, code, description):
        raise _abstract(self, "report_error")


class Reporter:
    """Where an object's messages go: its logger, and its error recorder once one is set. Mixed into API classes."""

    _logger = None
    _error_recorder = None

    @property
    def error_recorder(self):
        return self._error_recorder

    @error_recorder.setter
    def error_recorder(self, recorder):
        self._error_recorder = check_interface(recorder, IErrorRecorder, "error_recorder")

    def _log(self, severity, message):
        if self._logger is not None:
            self._logger.log(severity, message)

    def _report(self, error, code=None):
        """Logs an error and hands it to the recorder."""
        text = str(error)
        self._log(Severity.ERROR, text)
        if self._error_recorder is not None:
            self._error_recorder.report_error(
                code or _CODES.get(getattr(error, "code", ""), ErrorCodeTRT.UNSPECIFIED_ERROR),
                text[: IErrorRecorder.MAX_DESC_LENGTH],
            )


# Tenfold's codes by TensorRT's.
_CODES = {
    "invalid_argument": ErrorCodeTRT.INVALID_ARGUMENT,
    "invalid_model": ErrorCodeTRT.INVALID_ARGUMENT,
    "unsupported": ErrorCodeTRT.UNSUPPORTED_STATE,
    "out_of_memory": ErrorCodeTRT.FAILED_ALLOCATION,
    "device_failure": ErrorCodeTRT.FAILED_EXECUTION,
    "incompatible_engine": ErrorCodeTRT.INVALID_STATE,
    "io_failure": ErrorCodeTRT.FAILED_INITIALIZATION,
    "internal": ErrorCodeTRT.INTERNAL_ERROR,
}


class Scoped:
    """`with` blocks around the main objects; leaving one frees nothing early, as in TensorRT 10."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return False


def check_interface(value, interface, what):
    """Raises unless `value`, called `what`, is None or derives from `interface`.

    :returns: the value.
    """
    if value is not None and not isinstance(value, interface):
        raise argument_error(f"{what} must derive from {interface.__name__}, got {type(value).__name__}")
    return value


def check_logger(logger):
    if not isinstance(logger, ILogger):
        raise argument_error(
            f"the logger must be a tensorrt.Logger or derive from tensorrt.ILogger, got {type(logger).__name__}"
        )
    return logger


class IProfiler:
    """`report_layer_time(layer_name, ms)` is called for each step of a run."""

    def __init__(self):
        pass

    def report_layer_time(self, layer_name, ms):
        raise _abstract(self, "report_layer_time")


class Profiler(IProfiler):
    """Prints each step's time."""

    def report_layer_time(self, layer_name, ms):
        print(f"{layer_name}: {ms}ms")


class IProgressMonitor(IVersionedInterface):
    """Follows a build. `step_complete` returning False cancels it."""

    def __init__(self):
        pass

    def phase_start(self, phase_name, parent_phase, num_steps):
        raise _abstract(self, "phase_start")

    def step_complete(self, phase_name, step):
        raise _abstract(self, "step_complete")

    def phase_finish(self, phase_name):
        raise _abstract(self, "phase_finish")


class IOutputAllocator(IVersionedInterface):
    """Gives memory for outputs whose size is known only when they are computed.

    `reallocate_output(tensor_name, memory, size, alignment)` returns an address of at least `size` bytes; then
    `notify_shape(tensor_name, shape)` is called.
    """

    def __init__(self):
        pass

    def reallocate_output(self, tensor_name, memory, size, alignment):
        raise _abstract(self, "reallocate_output")

    def reallocate_output_async(self, tensor_name, memory, size, alignment, stream):
        return self.reallocate_output(tensor_name, memory, size, alignment)

    def notify_shape(self, tensor_name, shape):
        raise _abstract(self, "notify_shape")


class IDebugListener(IVersionedInterface):
    """`process_debug_tensor(addr, location, type, shape, name, stream)` is called with each debug tensor of a run."""

    def __init__(self):
        pass

    def process_debug_tensor(self, addr, location, type, shape, name, stream):
        raise _abstract(self, "process_debug_tensor")

    def get_interface_info(self):
        return self.interface_info


class IGpuAllocator(IVersionedInterface):
    """Accepted where TensorRT takes one; a CPU engine asks it for nothing."""

    def __init__(self):
        pass

    def allocate(self, size, alignment, flags):
        raise _abstract(self, "allocate")

    def reallocate(self, address, alignment, new_size):
        return None

    def deallocate(self, memory):
        raise _abstract(self, "deallocate")

    def free(self, memory):
        return self.deallocate(memory)

    def allocate_async(self, size, alignment, flags, stream):
        return self.allocate(size, alignment, flags)

    def deallocate_async(self, memory, stream):
        return self.deallocate(memory)


class IGpuAsyncAllocator(IGpuAllocator):
    pass


class IStreamReader(IVersionedInterface):
    """A plan that comes in parts: `read(size)` returns bytes, empty at the end."""

    def __init__(self):
        pass

    def read(self, size):
        raise _abstract(self, "read")


class IStreamReaderV2(IVersionedInterface):
    """A plan that comes in parts: `read(num_bytes, stream)` returns bytes; `seek(offset, where)` moves."""

    def __init__(self):
        pass

    def read(self, num_bytes, stream):
        raise _abstract(self, "read")

    def seek(self, offset, where):
        raise _abstract(self, "seek")


class IStreamWriter(IVersionedInterface):
    """Takes a plan in parts: `write(data)` returns how many bytes it took."""

    def __init__(self):
        pass

    def write(self, data):
        raise _abstract(self, "write")


class IInt8Calibrator:
    """Feeds example inputs to a build with the INT8 flag; derive from one of the four classes below."""

    _algorithm = None

    def __init__(self):
        pass

    def get_batch_size(self):
        raise _abstract(self, "get_batch_size")

    def get_algorithm(self):
        return self._algorithm

    def get_batch(self, names):
        """Addresses of one input each, in the order of `names`; None when there are no more."""
        raise _abstract(self, "get_batch")

    def read_calibration_cache(self):
        return None

    def write_calibration_cache(self, cache):
        return None


class IInt8EntropyCalibrator2(IInt8Calibrator):
    _algorithm = CalibrationAlgoType.ENTROPY_CALIBRATION_2


class IInt8EntropyCalibrator(IInt8Calibrator):
    _algorithm = CalibrationAlgoType.ENTROPY_CALIBRATION


class IInt8MinMaxCalibrator(IInt8Calibrator):
    _algorithm = CalibrationAlgoType.MINMAX_CALIBRATION


class IInt8LegacyCalibrator(IInt8Calibrator):
    _algorithm = CalibrationAlgoType.LEGACY_CALIBRATION


class IAlgorithmSelector:
    """Exists so that subclasses can be defined; a build that is given one raises."""

    def __init__(self):
        pass

    def select_algorithms(self, context, choices):
        raise _abstract(self, "select_algorithms")

    def report_algorithms(self, contexts, choices):
        raise _abstract(self, "report_algorithms")
