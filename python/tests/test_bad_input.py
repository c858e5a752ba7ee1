"""Wrong calls end with an exception that says what is wrong; the interpreter survives all of them."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref

import numpy as np
import pytest
from conftest import code_of, make_model
from onnx import helper

import tenfold
from tenfold import _core

X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    "given, message",
    [
        (X.astype(np.float64), "input 'x': its dtype is float32, but the array is float64"),
        (X.astype(np.int32), "the array is int32"),
        (X.astype(np.complex64), "format 'Zf'"),
        (X.astype(">f4"), "format '>f'"),
        (np.array([["a"]]), "not supported"),
        (np.array([[object()]]), "input 'x'"),
        (X[0], "input 'x' has 2 axes"),
        (np.ones((2, 4), np.float32), "input 'x' axis 1 is 4"),
        (np.ones((65, 3), np.float32), "input 'x' axis 0 is 65, but profile 0 accepts 1..64"),
        (np.ones((0, 3), np.float32), "axis 0 is 0"),
        ([[1.0, 2.0, 3.0]], "an array was expected"),
        (None, "an array was expected"),
        (1.5, "an array was expected"),
        ((1, 2, 3), "got a tuple"),
        ({"z": X}, "input 'x' is missing"),
        ({"x": X, "z": X}, "there is no input 'z'"),
        ({"x": X, 3: X}, "there is no input '3'"),
        ({}, "input 'x' is missing"),
        (b"abc", "the array is uint8"),
    ],
)
def test_wrong_inputs(affine, given, message):
    with pytest.raises(tenfold.Error) as error:
        affine(given)
    assert message in str(error.value) and code_of(error) == "invalid_argument"
    np.testing.assert_array_equal(affine(X), 3 * X)  # the next call is not affected


def test_wrong_number_of_inputs(affine):
    for inputs in ((), (X, X)):
        with pytest.raises(tenfold.Error, match="the engine has 1 inputs") as error:
            affine(*inputs)
        assert code_of(error) == "invalid_argument"


@pytest.mark.parametrize(
    "out, message",
    [
        (np.ones((2, 3)), "its dtype is float32"),
        (np.ones((3, 3), np.float32), "the array in `out` has shape [3, 3], but the output has [2, 3]"),
        (np.ones((3, 2), np.float32).T, "do not lie one after the other"),
        ({"z": X.copy()}, "names that are no outputs"),
        ([X.copy(), X.copy()], "2 arrays were given"),
        (3, "an array was expected"),
        (np.broadcast_to(np.float32(0), (2, 3)), "read-only"),
        (X.tobytes(), "read-only"),
    ],
)
def test_wrong_out(affine, out, message):
    with pytest.raises(tenfold.Error) as error:
        affine(X, out=out)
    assert message in str(error.value)


def test_arrays_that_do_not_lie_in_a_row_are_copied_in_a_call_and_refused_by_a_context(affine):
    x = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::2]
    np.testing.assert_array_equal(affine(x), 2 * x + 1)
    np.testing.assert_array_equal(affine(x[::-1]), 2 * x[::-1] + 1)
    unaligned = np.frombuffer(b"\0" + X.tobytes(), np.float32, offset=1).reshape(2, 3)
    np.testing.assert_array_equal(affine(unaligned), 3 * X)
    context = affine.make_context()
    for bad in (x, unaligned):
        with pytest.raises(tenfold.Error, match="numpy.require") as error:
            context.set_input("x", bad)
        assert code_of(error) == "invalid_argument"


def test_arrays_are_held_as_long_as_a_context_reads_them(affine):
    context = affine.make_context()

    class Array(np.ndarray):
        pass

    x = np.ones((2, 3), np.float32).view(Array)
    alive = weakref.ref(x)
    context.set_input("x", x)
    del x
    gc.collect()
    assert alive() is not None
    context.run()
    np.testing.assert_array_equal(context.output("y"), 3)
    context.set_input("x", X)
    assert alive() is None


def test_a_bound_buffer_cannot_be_resized(affine):
    context = affine.make_context()
    memory = bytearray(X.tobytes())
    array = np.frombuffer(memory, np.float32).reshape(2, 3)
    context.set_input("x", array)
    del array
    with pytest.raises(BufferError):
        memory.extend(b"more")
    context.run()


def test_wrong_context_calls(affine):
    context = affine.make_context()
    for call, message in [
        (context.run, "input 'x' is not set"),
        (lambda: context.output("y"), "before the first run"),
        (lambda: context.output("z"), "there is no output 'z'"),
        (lambda: context.output_dims("y"), "input 'x' is not set"),
        (lambda: context.set_input("z", X), "there is no input 'z'"),
        (lambda: context.set_input("x", (0, (2, 3), 24)), "has no data"),
        (lambda: context.set_input("x", (X.ctypes.data, (2, 3), 23)), "does not take the 23 bytes"),
        (lambda: context.set_input("x", (X.ctypes.data, (2, -3), 24)), "negative"),
        (lambda: context.set_input("x", (X.ctypes.data, 5, 24)), "a sequence of sizes"),
        (lambda: context.set_input("x", (X.ctypes.data, (1 << 62, 1 << 62), 24)), "does not take"),
        (lambda: context.set_input("x", ("a", (2, 3), 24)), "integers"),
        (lambda: context.set_input("x", (1, 2)), "a tuple (address, dims, nbytes)"),
        (lambda: context.set_profile(1), "profile 1 does not exist"),
        (lambda: affine.make_context(-1), "profile -1 does not exist"),
    ]:
        with pytest.raises(tenfold.Error) as error:
            call()
        assert message in str(error.value) and code_of(error) == "invalid_argument"
    context.set_input("x", X)
    context.set_output("y", np.zeros((1, 3), np.float32))
    with pytest.raises(tenfold.Error, match="needs 24 bytes, but the buffer given has 12"):
        context.run()
    context.set_output("y", None)
    context.run()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"shapes": {"x": (1, 4)}}, "x"),
        ({"shapes": {"x": (1, 3), "z": (1, 3)}}, "z"),
        ({"shapes": {"x": ((1, 3), (2, 3))}}, "three shapes"),
        ({"shapes": {"x": ((4, 3), (2, 3), (1, 3))}}, "x"),
        ({"shapes": {"x": "big"}}, "was expected"),
        ({"shapes": {"x": (1.5, 3)}}, "no 64-bit integer"),
        ({"shapes": {"x": (1 << 70, 3)}}, "no 64-bit integer"),
        ({"shapes": 5}, "a dict by input name"),
        ({"shapes": [5]}, "a dict by input name"),
        ({}, "x"),
        ({"opt_level": 9}, "opt_level is 9"),
        ({"threads": -1}, "num_threads is -1"),
        ({"device": "tpu"}, "tpu"),
        ({"precision": "float8"}, "precision is 'float8'"),
        ({"shapes": {"x": (1, 3)}, "disabled_rules": ["nope"]}, "nope"),
        ({"shapes": {"x": (1, 3)}, "extra_outputs": ["nope"]}, "nope"),
    ],
)
def test_wrong_options(affine_bytes, options, message):
    with pytest.raises(tenfold.Error) as error:
        tenfold.compile(affine_bytes, **options)
    assert message in str(error.value) and code_of(error) == "invalid_argument"


@pytest.mark.parametrize("options", [{"opt_level": "high"}, {"workspace_bytes": -1}, {"threads": 1 << 40}])
def test_options_of_a_wrong_type(affine_bytes, options):
    with pytest.raises(TypeError):
        tenfold.compile(affine_bytes, **options)


@pytest.mark.parametrize(
    "model, code",
    [
        (b"", "invalid_model"),
        (b"not a model", "invalid_model"),
        ("missing.onnx", "io_failure"),
        (3, "invalid_argument"),
        (None, "invalid_argument"),
        (np.ones(3), "invalid_model"),
        ("a\0b", "invalid_argument"),
    ],
)
def test_what_is_no_model(model, code):
    with pytest.raises(tenfold.Error) as error:
        tenfold.compile(model)
    assert code_of(error) == code


def test_every_unsupported_node_is_listed():
    model = make_model(
        [helper.make_node("Nope", ["x"], ["a"], "first"), helper.make_node("Nada", ["x"], ["b"], "second")],
        [("x", [1])],
        [("a", [1]), ("b", [1])],
    )
    with pytest.raises(tenfold.Error, match="(?s)'first' .*'second' ") as error:
        tenfold.compile(model)
    assert code_of(error) == "unsupported"


def test_exceptions_in_progress_stop_the_build_and_come_out(affine_bytes):
    class Stop(Exception):
        pass

    def progress(phase, item, fraction, remaining):
        if phase == "tactics":
            raise Stop("enough")

    with pytest.raises(Stop, match="enough"):
        tenfold.compile(affine_bytes, shapes={"x": (1, 3)}, progress=progress)


def test_progress_that_returns_false_cancels(affine_bytes):
    with pytest.raises(tenfold.Error) as error:
        tenfold.compile(affine_bytes, shapes={"x": (1, 3)}, progress=lambda *now: False)
    assert code_of(error) == "cancelled"


def test_exceptions_in_an_observer_end_the_run_and_come_out(affine):
    context = affine.make_context()
    context.set_input("x", X)

    def observer(step, values):
        raise KeyError(step)

    context.set_observer(observer)
    with pytest.raises(KeyError):
        context.run()
    context.set_observer(None)
    context.run()
    np.testing.assert_array_equal(context.output("y"), 3)


def test_a_context_is_for_one_thread_at_a_time(affine):
    context = affine.make_context()
    context.set_input("x", X)
    messages = []

    def observer(step, values):
        for call in (context.run, lambda: context.set_input("x", X), lambda: context.set_observer(None)):
            try:
                call()
            except tenfold.Error as error:
                messages.append(str(error))

    context.set_observer(observer)
    context.run()
    assert len(messages) >= 3 and all("running already" in message for message in messages)


def test_an_observer_that_holds_its_context_is_collected(affine):
    context = affine.make_context()

    class Observer:
        def __init__(self, context):
            self.context = context

        def __call__(self, step, values):
            pass

    observer = Observer(context)
    alive = weakref.ref(observer)
    context.set_observer(observer)
    del observer, context
    gc.collect()
    assert alive() is None


def test_ctrl_c_stops_a_build(slow_model):
    main = threading.main_thread().ident
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(100):
            tenfold.compile(slow_model, opt_level=5)
    assert time.monotonic() - start < 20


def test_other_threads_go_on_during_a_build(slow_model):
    turns = []
    done = threading.Event()

    def count():
        while not done.is_set():
            turns.append(1)
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        tenfold.compile(slow_model, opt_level=1)
    finally:
        done.set()
        thread.join()
    assert len(turns) > 20


def run_python(code, timeout=60):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, env={**os.environ}
    )


FORK = """
import os, sys, numpy as np, tenfold
engine = tenfold.Engine.load(sys.argv[1], threads=2) if len(sys.argv) > 1 else None
"""


def test_an_engine_works_in_a_forked_child(tmp_path, slow_model):
    path = tmp_path / "m.engine"
    engine = tenfold.compile(slow_model, opt_level=0, threads=2)
    engine.save(path)
    result = run_python(
        f"""
import os, sys, numpy as np, tenfold
engine = tenfold.Engine.load({str(path)!r}, threads=2)
x = np.ones((1, 16, 56, 56), np.float32)
want = engine(x)
child = os.fork()
same = np.array_equal(engine(x), want)
if child == 0:
    sys.exit(0 if same else 3)  # a regular exit: everything is destroyed
_, status = os.waitpid(child, 0)
print(same, os.waitstatus_to_exitcode(status))
"""
    )
    assert result.stdout.split() == ["True", "0"], result.stderr


def test_leaving_while_others_run_is_clean(tmp_path, affine):
    affine.save(tmp_path / "m.engine")
    result = run_python(
        f"""
import threading, numpy as np, tenfold
engine = tenfold.Engine.load({str(tmp_path / 'm.engine')!r})
tenfold._core.set_log_sink(lambda level, message: None)
context = engine.make_context()
context.set_input("x", np.ones((1, 3), np.float32))
def work():
    while True: engine(np.ones((1, 3), np.float32))
threading.Thread(target=work, daemon=True).start()
for _ in range(1000): context.run()
print("left")
"""
    )
    assert (result.stdout.strip(), result.returncode) == ("left", 0), result.stderr


def test_objects_that_were_never_initialised_are_refused():
    for name in ("Engine", "Context", "TensorInfo", "StepInfo", "CompileResult", "NodeInfo", "Network"):
        cls = getattr(_core, name)
        if name != "Network":
            with pytest.raises(TypeError):
                cls()
        empty = cls.__new__(cls)
        for member in dir(cls):
            if member.startswith("_") or member in ("from_onnx", "newest_opset"):
                continue
            with warnings.catch_warnings(), pytest.raises((TypeError, RuntimeError)):
                warnings.simplefilter("ignore", RuntimeWarning)
                arguments = {"call": ((),)}.get(member, ())
                getattr(empty, member)(*arguments)


def test_dlpack_tensors(affine):
    class Tensor:
        """A tensor of some library: nothing but DLPack."""

        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **kwargs):
            return self.array.__dlpack__(**kwargs)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    np.testing.assert_array_equal(affine(Tensor(X)), 3 * X)
    np.testing.assert_array_equal(np.from_dlpack(affine(Tensor(X))), 3 * X)
    out = np.zeros((2, 3), np.float32)
    affine(Tensor(X), out=Tensor(out))
    np.testing.assert_array_equal(out, 3)
    for bad, message in [
        (Tensor(X.astype(np.float64)), "float64"),
        (Tensor(np.ones((3, 2), np.float32)), "axis"),
        (Tensor(np.ones((3, 2), np.float32).T), "contiguous"),
    ]:
        with pytest.raises(tenfold.Error, match=message):
            affine(bad)

    frozen = np.zeros((2, 3), np.float32)
    frozen.flags.writeable = False
    np.testing.assert_array_equal(affine(Tensor(frozen)), 1)
    with pytest.raises(tenfold.Error, match="no writable DLPack view"):
        affine(X, out=Tensor(frozen))

    class Broken(Tensor):
        def __dlpack__(self, **kwargs):
            raise ValueError("not today")

    with pytest.raises(tenfold.Error, match="DLPack"):
        affine(Broken(X))
