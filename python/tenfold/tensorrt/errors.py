"""Errors of the `tensorrt` module. All are `tenfold.Error` where the compiler is there, with its codes."""

from ._core_access import Error, make_error


def unsupported(what, instead):
    """The error for a name of TensorRT's API that Tenfold does not have: says what to use in its place."""
    return make_error("unsupported", f"tensorrt: {what} is not supported by Tenfold; use {instead}")


def argument_error(message):
    return make_error("invalid_argument", f"tensorrt: {message}")


def state_error(message):
    """A call at a time at which it makes no sense: an object whose owner is gone, a context without shapes."""
    return make_error("invalid_argument", f"tensorrt: {message}")


__all__ = ["Error", "argument_error", "state_error", "unsupported"]
