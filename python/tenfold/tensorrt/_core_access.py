"""The compiler's extension module, and its one exception type."""

from tenfold import _core

Error = _core.Error


def make_error(code, message):
    error = Error(message)
    error.code = code
    return error
