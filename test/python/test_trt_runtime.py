"""Callbacks, running, refitting and calibration with the `tensorrt` module, and wrong calls."""

import gc
import json
import os
import signal
import threading
import weakref

import numpy as np
import pytest
import tenfold.tensorrt as trt
from trt_support import (
    SIZE,
    Collected,
    Growing,
    build,
    classifier,
    images,
    new_network,
    parsed,
    run,
    shape,
    with_profile,
)

# --- Callbacks ----------------------------------------------------------------------------------------------------------


class Monitor(trt.IProgressMonitor):
    def __init__(self, step):
        trt.IProgressMonitor.__init__(self)
        self.step = step

    def phase_start(self, phase_name, parent_phase, num_steps):
        pass

    def step_complete(self, phase_name, step):
        return self.step()

    def phase_finish(self, phase_name):
        pass


def monitored(step):
    builder, network, config, logger = parsed()
    with_profile(builder, config)
    config.progress_monitor = Monitor(step)
    return builder.build_serialized_network(network, config)


def test_an_exception_in_a_progress_monitor_ends_the_build():
    def fail():
        raise ValueError("of the monitor")

    with pytest.raises(ValueError, match="of the monitor"):
        monitored(fail)


def test_ctrl_c_ends_a_build():
    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        return True

    with pytest.raises(KeyboardInterrupt):
        monitored(interrupt)
    assert monitored(lambda: True) is not None  # and the next one works


def test_a_monitor_that_says_no_cancels():
    assert monitored(lambda: False) is None


def test_a_logger_is_told_and_its_exceptions_come_out():
    class Failing(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)

        def log(self, severity, msg):
            raise RuntimeError("logger: " + msg)

    builder, network, config, _ = parsed(logger=Failing())
    with pytest.raises(RuntimeError, match="logger: "):
        builder.build_serialized_network(network, config)
    with pytest.raises(trt.Error, match="must be a tensorrt.Logger"):
        trt.Builder(None)


def test_an_error_recorder_gets_code_and_text():
    class Recorder(trt.IErrorRecorder):
        def __init__(self):
            trt.IErrorRecorder.__init__(self)
            self.errors = []

        def report_error(self, code, description):
            self.errors.append((code, description))

    builder, network, config, _ = parsed()
    builder.error_recorder = recorder = Recorder()
    assert builder.build_serialized_network(network, config) is None
    assert recorder.errors[0][0] is trt.ErrorCodeTRT.INVALID_ARGUMENT and recorder.errors[0][1]


# --- Running ------------------------------------------------------------------------------------------------------------


def test_a_broken_plan_gives_none():
    logger = Collected()
    runtime = trt.Runtime(logger)
    plan = bytearray(bytes(classifier()[0].serialize()))
    for broken in (b"", b"rubbish", bytes(plan[:1000]), bytes(plan[:-1]), bytes(plan[:200] + b"\x55" + plan[201:])):
        assert runtime.deserialize_cuda_engine(broken) is None
    assert len(logger.errors()) == 5
    with pytest.raises(trt.Error):
        runtime.deserialize_cuda_engine(5)


def test_a_plan_comes_through_a_reader_and_goes_to_a_writer():
    class Reader(trt.IStreamReader):
        def __init__(self, data):
            trt.IStreamReader.__init__(self)
            self.data = data

        def read(self, size):
            part, self.data = self.data[:size], self.data[size:]
            return part

    class Writer(trt.IStreamWriter):
        def __init__(self):
            trt.IStreamWriter.__init__(self)
            self.parts = []

        def write(self, data):
            self.parts.append(bytes(data[:5000]))
            return len(self.parts[-1])

    builder, network, config, logger = parsed()
    with_profile(builder, config)
    writer = Writer()
    assert builder.build_serialized_network_to_stream(network, config, writer)
    engine = trt.Runtime(logger).deserialize_cuda_engine(Reader(b"".join(writer.parts)))
    assert engine is not None and len(writer.parts) > 1


def test_wrong_shapes_names_and_addresses_are_told_and_refused():
    engine, logger = classifier()
    context = engine.create_execution_context()
    assert not context.execute_async_v3(0) and "shape of input 'input' is not set" in logger.errors()[-1]
    assert not context.set_input_shape("input", shape(9)) and "profile 0 accepts 1 to 4, got 9" in logger.errors()[-1]
    assert not context.set_input_shape("input", (1, 3)) and not context.set_input_shape("pixels", shape(1))
    assert not context.set_input_shape("scores", (1, 10))
    assert context.set_input_shape("input", shape(2))
    assert not context.execute_async_v3(0) and "address of input 'input' is not set" in logger.errors()[-1]
    x = images(2)
    assert context.set_tensor_address("input", x.ctypes.data)
    assert not context.execute_async_v3(0) and "address of output 'scores' is not set" in logger.errors()[-1]
    assert not context.set_tensor_address("input", -1) and not context.set_tensor_address("nothing", 1)
    assert (
        not context.set_tensor_address("input", x[:, :, ::2])
        and "do not lie one after the other" in logger.errors()[-1]
    )
    assert not context.execute_v2([x.ctypes.data]) and "got 1 bindings" in logger.errors()[-1]
    assert not context.set_optimization_profile_async(3, 0)
    y = np.empty((2, 10), np.float32)
    assert context.execute_v2([x, y]) and np.allclose(y.sum(1), 1, atol=1e-5)  # arrays in place of addresses


def test_an_array_given_as_an_address_is_kept_alive():
    engine, _ = classifier()
    context = engine.create_execution_context()
    context.set_input_shape("input", shape(1))
    context.set_tensor_address("input", images(1, seed=5))  # nothing else refers to it
    y = np.empty((1, 10), np.float32)
    context.set_tensor_address("scores", y)
    gc.collect()
    filler = [np.full(shape(1), 1e9, np.float32) for _ in range(50)]
    assert context.execute_async_v3(0) and len(filler) == 50
    np.testing.assert_array_equal(y, run(engine, {"input": images(1, seed=5)})["scores"])


def test_outputs_of_unknown_size_need_an_allocator():
    builder, network, config, logger = new_network()
    x = network.add_input("x", trt.float32, (8,))
    zero = network.add_constant((1,), np.zeros(1, np.float32)).get_output(0)
    positive = network.add_elementwise(x, zero, trt.ElementWiseOperation.GREATER).get_output(0)
    places = network.add_non_zero(positive).get_output(0)
    places.name = "places"
    network.mark_output(places)
    engine = build(builder, network, config, logger)
    values = np.array([1, -1, 2, -2, 3, -3, 4, 5], np.float32)
    np.testing.assert_array_equal(run(engine, {"x": values})["places"], [[0, 2, 4, 6, 7]])
    assert run(engine, {"x": -np.ones(8, np.float32)})["places"].shape == (1, 0)
    context = engine.create_execution_context()
    out = np.zeros(64, np.int32)
    assert context.get_max_output_size("places") == -1
    assert (
        not context.execute_v2([values.ctypes.data, out.ctypes.data])
        and "set an IOutputAllocator" in logger.errors()[-1]
    )


def test_exceptions_of_allocators_profilers_and_listeners_come_out():
    engine, logger = classifier()

    class NoMemory(Growing):
        def reallocate_output(self, tensor_name, memory, size, alignment):
            return None

    class Failing(Growing):
        def notify_shape(self, tensor_name, shape):
            raise ValueError("of the allocator")

    class Profiler(trt.IProfiler):
        def report_layer_time(self, layer_name, ms):
            raise ValueError("of the profiler")

    context = engine.create_execution_context()
    x = images(1)
    context.set_input_shape("input", x.shape)
    context.set_tensor_address("input", x)
    context.set_output_allocator("scores", NoMemory())
    assert not context.execute_async_v3(0) and "gave no memory" in logger.errors()[-1]
    context.set_output_allocator("scores", Failing())
    with pytest.raises(ValueError, match="of the allocator"):
        context.execute_async_v3(0)
    context.set_output_allocator("scores", Growing())
    context.profiler = Profiler()
    with pytest.raises(ValueError, match="of the profiler"):
        context.execute_async_v3(0)
    context.profiler = None
    assert context.execute_async_v3(0)
    with pytest.raises(trt.Error, match="must derive from IOutputAllocator"):
        context.set_output_allocator("scores", object())


def test_debug_tensors_go_to_the_listener():
    class Listener(trt.IDebugListener):
        def __init__(self):
            trt.IDebugListener.__init__(self)
            self.seen = {}

        def process_debug_tensor(self, addr, location, type, shape, name, stream):
            import ctypes

            count = int(np.prod(tuple(shape)))
            self.seen[name] = (
                np.ctypeslib.as_array(ctypes.cast(addr, ctypes.POINTER(ctypes.c_float)), (count,))
                .reshape(tuple(shape))
                .copy()
            )
            return True

    builder, network, config, logger = parsed()
    with_profile(builder, config)
    hidden = network[1].get_output(0)
    assert network.mark_debug(hidden) and network.is_debug_tensor(hidden)
    engine = build(builder, network, config, logger)
    assert list(engine) == ["input", "scores"] and engine.is_debug_tensor("r1")
    context = engine.create_execution_context()
    listener = Listener()
    context.set_debug_listener(listener)
    run(engine, {"input": images(1)}, context)
    assert not listener.seen
    assert context.set_all_tensors_debug_state(True) and context.get_debug_state("r1")
    run(engine, {"input": images(1)}, context)
    assert listener.seen["r1"].shape == (1, 16, SIZE // 2, SIZE // 2) and listener.seen["r1"].min() == 0


def test_unfused_tensors_can_be_watched():
    names = []

    class Listener(trt.IDebugListener):
        def process_debug_tensor(self, addr, location, type, shape, name, stream):
            names.append(name)
            if len(names) > 100:
                raise ValueError("of the listener")
            return True

    builder, network, config, logger = parsed()
    with_profile(builder, config)
    network.mark_unfused_tensors_as_debug_tensors()
    engine = build(builder, network, config, logger)
    context = engine.create_execution_context()
    context.set_debug_listener(Listener())
    context.unfused_tensors_debug_state = True
    run(engine, {"input": images(1)}, context)
    assert 0 < len(names) <= engine.num_layers
    names.extend(["filler"] * 100)
    with pytest.raises(ValueError, match="of the listener"):
        run(engine, {"input": images(1)}, context)


def test_contexts_with_listeners_are_freed():
    class Listener(trt.IDebugListener):
        def process_debug_tensor(self, addr, location, type, shape, name, stream):
            return True

    builder, network, config, logger = parsed()
    with_profile(builder, config)
    network.mark_unfused_tensors_as_debug_tensors()
    engine = build(builder, network, config, logger)
    context = engine.create_execution_context()
    context.set_debug_listener(Listener())
    context.unfused_tensors_debug_state = True
    run(engine, {"input": images(1)}, context)
    gone = weakref.ref(context)
    del context
    gc.collect()
    assert gone() is None


def test_contexts_run_in_threads():
    engine, _ = classifier()
    x = images(4)
    expected = run(engine, {"input": x})["scores"]
    failures = []

    def work():
        context = engine.create_execution_context()
        for _ in range(20):
            if not np.array_equal(run(engine, {"input": x}, context)["scores"], expected):
                failures.append("differs")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_forked_child_can_run_an_engine():
    engine, _ = classifier()
    x = images(1)
    expected = run(engine, {"input": x})["scores"]
    plan = bytes(engine.serialize())
    child = os.fork()
    if child == 0:
        try:
            copy = trt.Runtime(Collected()).deserialize_cuda_engine(plan)
            os._exit(0 if np.array_equal(run(copy, {"input": x})["scores"], expected) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_user_managed_memory_has_to_be_given():
    engine, logger = classifier()
    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    x, y = images(1), np.empty((1, 10), np.float32)
    context.set_input_shape("input", x.shape)
    assert not context.execute_v2([x, y]) and "call set_device_memory first" in logger.errors()[-1]
    size = context.update_device_memory_size_for_shapes()
    assert size == engine.device_memory_size_v2
    with pytest.raises(trt.Error, match="needs"):
        context.set_device_memory(1, size - 1)
    memory = np.zeros(size + 1, np.uint8)
    context.set_device_memory(memory.ctypes.data, size)
    assert context.execute_v2([x, y])


def test_the_inspector_shows_steps():
    def detailed(config):
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED

    engine, _ = classifier(detailed)
    inspector = engine.create_engine_inspector()
    text = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    assert len(text["Layers"]) == engine.num_layers and text["Bindings"] == ["input", "scores"]
    layer = json.loads(inspector.get_layer_information(0, trt.LayerInformationFormat.JSON))
    assert (
        layer["Inputs"][0]["Name"] == "input"
        and "FP32" in layer["Inputs"][0]["Format/Datatype"]
        and layer["TacticName"]
    )
    assert inspector.get_engine_information(trt.LayerInformationFormat.ONELINE).count("\n") == engine.num_layers - 1
    names_only, _ = classifier()
    assert isinstance(
        json.loads(names_only.create_engine_inspector().get_layer_information(0, trt.LayerInformationFormat.JSON)), str
    )
    with pytest.raises(IndexError):
        inspector.get_layer_information(engine.num_layers, trt.LayerInformationFormat.JSON)


# --- Refit and calibration ----------------------------------------------------------------------------------------------


def test_refit_takes_other_weights_by_layer_and_by_name():
    builder, network, config, logger = new_network()
    x = network.add_input("x", trt.float32, (1, 2, 4, 4))
    w = np.ones((3, 2, 1, 1), np.float32)
    conv = network.add_convolution_nd(x, 3, (1, 1), w, np.zeros(3, np.float32))
    conv.name, conv.get_output(0).name = "conv", "y"
    network.mark_output(conv.get_output(0))
    network.set_weights_name(w, "kernel weights")
    config.set_flag(trt.BuilderFlag.REFIT)
    engine = build(builder, network, config, logger)
    context = engine.create_execution_context()
    values = np.ones((1, 2, 4, 4), np.float32)
    assert (run(engine, {"x": values}, context)["y"] == 2).all()
    refitter = trt.Refitter(engine, logger)
    assert "kernel weights" in refitter.get_all_weights() and refitter.get_missing() == ([], [])
    assert refitter.set_named_weights("kernel weights", np.full((3, 2, 1, 1), 2, np.float32))
    assert refitter.set_weights("conv", trt.WeightsRole.BIAS, np.array([1, 2, 3], np.float32))
    assert (
        not refitter.set_named_weights("kernel weights", np.zeros(5, np.float32))
        and "expected 6 elements" in logger.errors()[-1]
    )
    assert not refitter.set_named_weights("kernel weights", np.zeros(6, np.float16))
    assert not refitter.set_weights("conv", trt.WeightsRole.SCALE, np.zeros(3, np.float32))
    assert refitter.refit_cuda_engine()
    np.testing.assert_array_equal(run(engine, {"x": values}, context)["y"][0, :, 0, 0], [5, 6, 7])
    with pytest.raises(trt.Error, match="BuilderFlag.REFIT"):
        trt.Refitter(classifier()[0], logger)


def calibrator(base, batches, cache=None):
    class Calibrator(base):
        def __init__(self):
            base.__init__(self)
            self.batches, self.written, self.names = iter(batches), None, None

        def get_batch_size(self):
            return 1

        def get_batch(self, names):
            self.names, self.held = names, next(self.batches, None)
            return None if self.held is None else [self.held.ctypes.data]

        def read_calibration_cache(self):
            return cache

        def write_calibration_cache(self, cache):
            self.written = cache.tobytes()

    return Calibrator()


def calibrated(calibrator):
    builder, network, config, logger = parsed()
    with_profile(builder, config, 1, 1, 1)
    config.set_flag(trt.BuilderFlag.INT8)
    config.int8_calibrator = calibrator
    with pytest.raises(trt.Error, match="INT8 .*not supported") as raised:
        builder.build_serialized_network(network, config)
    assert raised.value.code == "unsupported"


@pytest.mark.parametrize(
    "base",
    [trt.IInt8EntropyCalibrator2, trt.IInt8EntropyCalibrator, trt.IInt8MinMaxCalibrator, trt.IInt8LegacyCalibrator],
)
def test_a_calibrator_is_asked_for_batches_and_gets_a_cache(base):
    from tenfold.tensorrt.calibration import read_cache

    batches = [images(1, seed) for seed in range(4)]
    asked = calibrator(base, batches)
    calibrated(asked)
    assert asked.names == ["input"]
    scales = read_cache(asked.written)
    largest = max(np.abs(batch).max() for batch in batches)
    assert asked.written.startswith(b"TRT-") and {"input", "c1", "r1", "scores"} <= set(scales)
    assert 0 < scales["input"] <= np.float32(largest / 127) * (1 + 1e-6)
    if base is trt.IInt8MinMaxCalibrator:
        np.testing.assert_allclose(scales["input"], largest / 127, rtol=1e-6)


def test_a_calibration_cache_is_read_instead_of_batches():
    from tenfold.tensorrt.calibration import read_cache, write_cache

    text = write_cache({"input": 0.5, "name: with colon": 0.25}, trt.CalibrationAlgoType.ENTROPY_CALIBRATION_2)
    assert b"input: 3f000000\n" in text and read_cache(text) == {"input": 0.5, "name: with colon": 0.25}
    asked = calibrator(trt.IInt8EntropyCalibrator2, [], text)
    calibrated(asked)
    assert asked.names is None and asked.written is None
    builder, network, config, logger = parsed()
    with_profile(builder, config)
    config.set_flag(trt.BuilderFlag.INT8)
    config.int8_calibrator = calibrator(trt.IInt8EntropyCalibrator2, [], b"rubbish")
    assert builder.build_serialized_network(network, config) is None and "calibration cache" in logger.errors()[-1]


def test_entropy_calibration_cuts_off_outliers():
    from tenfold.tensorrt.calibration import Range

    found = Range()
    found.add(np.random.default_rng(0).standard_normal(100000).astype(np.float32))
    found.add(np.array([100.0], np.float32))
    entropy = found.scale(trt.CalibrationAlgoType.ENTROPY_CALIBRATION_2) * 127
    assert 3 < entropy < 50
    np.testing.assert_allclose(found.scale(trt.CalibrationAlgoType.MINMAX_CALIBRATION) * 127, 100, rtol=1e-6)


# --- The rest -----------------------------------------------------------------------------------------------------------


def test_the_plugin_registry_is_empty_and_says_so():
    registry = trt.get_plugin_registry()
    assert (
        registry.all_creators == []
        and registry.get_creator("A", "1") is None
        and trt.init_libnvinfer_plugins(Collected(), "")
    )
    with pytest.raises(trt.Error, match="not supported by Tenfold"):
        registry.load_library("plugin.so")


@pytest.mark.parametrize("name", ["UffParser", "CaffeParser", "FieldMap", "TimingCacheKey"])
def test_old_names_exist_and_say_what_to_use(name):
    with pytest.raises(trt.Error, match="not supported by Tenfold; use"):
        getattr(trt, name)()


def test_the_cuda_shim_allocates_copies_and_refuses_a_second_free():
    import ctypes

    library = trt.cudart.load()
    pointer, stream = ctypes.c_void_p(), ctypes.c_void_p()
    assert library.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(1000)) == 0 and pointer.value % 256 == 0
    source, back = np.arange(100, dtype=np.uint8), np.zeros(100, np.uint8)
    size = ctypes.c_size_t(100)
    assert library.cudaStreamCreate(ctypes.byref(stream)) == 0 and stream.value
    assert library.cudaMemcpy(pointer, ctypes.c_void_p(source.ctypes.data), size, 1) == 0
    assert library.cudaMemcpyAsync(ctypes.c_void_p(back.ctypes.data), pointer, size, 2, stream) == 0
    assert library.cudaStreamSynchronize(stream) == 0 and (back == source).all()
    assert library.cudaMemcpy(None, pointer, size, 2) == 1
    assert library.cudaFree(pointer) == 0 and library.cudaFree(pointer) == 1 and library.cudaFree(None) == 0
    assert library.cudaStreamDestroy(stream) == 0 and library.cudaStreamDestroy(stream) == 400
    assert library.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(2**62)) == 2
