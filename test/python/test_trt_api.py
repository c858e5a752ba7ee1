"""Scripts, networks and configurations of the `tensorrt` module, and what is refused."""

import gc
import json

import numpy as np
import pytest
import tenfold.tensorrt as trt
from trt_support import (
    SIZE,
    Collected,
    build,
    classifier,
    images,
    models,
    new_network,
    parsed,
    run,
    shape,
    with_profile,
)

# --- Scripts ----------------------------------------------------------------------------------------------------------


def test_the_snippet_of_many_tutorials_runs_verbatim(tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(models.classifier(224))
    monkeypatch.chdir(tmp_path)
    TRT_LOGGER = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(TRT_LOGGER)
    network = builder.create_network(flags=trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    parser = trt.OnnxParser(network, TRT_LOGGER)
    with open("model.onnx", "rb") as f:
        if not parser.parse(f.read()):
            raise RuntimeError("Failed to parse ONNX")
    config = builder.create_builder_config()
    config.max_workspace_size = 1 << 30  # 1GB
    config.set_flag(trt.BuilderFlag.FP16)
    profile = builder.create_optimization_profile()
    profile.set_shape("input", min=(1, 3, 224, 224), opt=(8, 3, 224, 224), max=(16, 3, 224, 224))
    config.add_optimization_profile(profile)
    engine_bytes = builder.build_serialized_network(network, config)
    assert engine_bytes is not None and engine_bytes.nbytes == len(bytes(engine_bytes))
    engine = trt.Runtime(TRT_LOGGER).deserialize_cuda_engine(engine_bytes)
    assert [tuple(s) for s in engine.get_tensor_profile_shape("input", 0)] == [
        (1, 3, 224, 224),
        (8, 3, 224, 224),
        (16, 3, 224, 224),
    ]


def test_release_8_scripts_use_bindings():
    engine, _ = classifier()
    assert engine.num_bindings == 2 and len(engine) == 2
    assert [engine.get_binding_name(i) for i in range(2)] == list(engine) == ["input", "scores"]
    assert engine.get_binding_index("scores") == engine["scores"] == 1 and engine.binding_is_input("input")
    assert engine.get_binding_dtype(0) is trt.float32 and tuple(engine.get_binding_shape("input")) == (
        -1,
        3,
        SIZE,
        SIZE,
    )
    context = engine.create_execution_context()
    x, y = images(3), np.empty((3, 10), np.float32)
    assert context.set_binding_shape(0, x.shape) and tuple(context.get_binding_shape(1)) == (3, 10)
    assert context.all_binding_shapes_specified
    assert context.execute_async_v2([x.ctypes.data, y.ctypes.data], 0)
    np.testing.assert_allclose(y.sum(1), 1, atol=1e-5)


def test_int_keys_of_several_profiles():
    def two(config):
        profile = trt.IOptimizationProfile._make()
        profile.set_shape("input", shape(8), shape(8), shape(16))
        config.add_optimization_profile(profile)

    engine, _ = classifier(two)
    assert engine.num_optimization_profiles == 2 and engine.num_bindings == 4
    assert engine.get_binding_name(2) == "input [profile 1]" and engine.get_binding_index("scores [profile 1]") == 3
    context = engine.create_execution_context()
    context.active_optimization_profile = 1
    x, y = images(9), np.empty((9, 10), np.float32)
    assert context.set_binding_shape(2, x.shape)
    assert context.execute_v2([0, 0, x.ctypes.data, y.ctypes.data])
    np.testing.assert_array_equal(y, run(engine, {"input": x}, context)["scores"])


def test_tactic_sources_name_the_compilers_libraries():
    config = trt.Builder(trt.Logger(trt.Logger.WARNING)).create_builder_config()
    assert config._libraries() == []
    sources = trt.TacticSource
    config.set_tactic_sources(1 << int(sources.CUBLAS) | 1 << int(sources.CUBLAS_LT) | 1 << int(sources.CUDNN))
    assert config._libraries() == ["cublas_lt", "cudnn"]
    config.set_tactic_sources(1 << int(sources.JIT_CONVOLUTIONS))
    assert config._libraries() == []


# --- The network --------------------------------------------------------------------------------------------------------


def test_a_network_works_after_its_builder_and_parser_are_gone():
    network, config = (lambda parts: (parts[1], parts[2]))(parsed())
    gc.collect()
    assert network.num_layers == 10 and tuple(network.get_output(0).shape) == (-1, 10)
    with_profile(network.builder, config)
    assert network.builder.build_serialized_network(network, config) is not None


def test_layers_of_a_model_have_their_types_and_attributes():
    _, network, _, _ = parsed()
    types = {layer.name: layer.type for layer in network}
    assert types["conv1"] is trt.LayerType.CONVOLUTION and types["relu1"] is trt.LayerType.ACTIVATION
    assert types["pool"] is trt.LayerType.REDUCE and types["dense"] is trt.LayerType.MATRIX_MULTIPLY
    conv = network.get_layer(0)
    conv.__class__ = trt.IConvolutionLayer
    assert tuple(conv.stride_nd) == (2, 2) and conv.kernel.shape == (16 * 3 * 3 * 3,) and conv.num_output_maps == 16
    relu = network[1]
    relu.__class__ = trt.IActivationLayer
    assert relu.type is trt.ActivationType.RELU and relu == network[1] and hash(relu) == hash(network[1])
    assert relu.get_input(0) is conv.get_output(0)
    assert not [name for name in dir(conv) if name.startswith("_") and not name.startswith("__")]


def test_a_layer_of_a_model_can_be_changed():
    x = images(2)
    before = run(classifier()[0], {"input": x})["scores"]
    builder, network, config, logger = parsed()
    activation = network[1]
    activation.__class__ = trt.IActivationLayer
    activation.type, activation.alpha = trt.ActivationType.LEAKY_RELU, 1.0  # the identity
    with_profile(builder, config)
    after = run(build(builder, network, config, logger), {"input": x})["scores"]
    assert np.abs(before - after).max() > 1e-4
    with pytest.raises(trt.Error, match="came from a model"):
        network[5].reshape_dims = (1, 2)  # a Flatten says more than a Shuffle's attributes


def test_layers_can_follow_those_of_a_model():
    x = images(2)
    expected = run(classifier()[0], {"input": x})["scores"]
    builder, network, config, logger = parsed()
    scores = network.get_output(0)
    network.unmark_output(scores)
    best = network.add_topk(scores, trt.TopKOperation.MAX, 1, 1 << 1)
    best.get_output(1).name = "best"
    network.mark_output(best.get_output(1))
    with_profile(builder, config)
    results = run(build(builder, network, config, logger), {"input": x})
    assert list(results) == ["best"] and results["best"].dtype == np.int32
    np.testing.assert_array_equal(results["best"][:, 0], expected.argmax(1))


def test_inputs_and_outputs_can_have_other_types():
    x = images(2)
    expected = run(classifier()[0], {"input": x.astype(np.float16).astype(np.float32)})["scores"]
    builder, network, config, logger = parsed()
    network.get_input(0).dtype = trt.float16
    network.get_output(0).dtype = trt.float16
    with_profile(builder, config)
    engine = build(builder, network, config, logger)
    assert engine.get_tensor_dtype("input") is trt.float16 and engine.get_tensor_dtype("scores") is trt.float16
    # Scores below 1: half a unit in the last place of float16.
    np.testing.assert_allclose(run(engine, {"input": x})["scores"].astype(np.float32), expected, atol=2**-11)


def test_renamed_tensors_are_what_the_engine_says():
    builder, network, config, logger = parsed()
    network.get_input(0).name, network.get_output(0).name = "pixels", "classes"
    profile = builder.create_optimization_profile()
    profile.set_shape("pixels", shape(1), shape(1), shape(1))
    config.add_optimization_profile(profile)
    engine = build(builder, network, config, logger)
    assert list(engine) == ["pixels", "classes"]


def test_tensors_of_another_network_are_refused():
    _, one, _, _ = new_network()
    _, two, _, _ = new_network()
    x = one.add_input("x", trt.float32, (2,))
    with pytest.raises(trt.Error, match="belongs to another network"):
        two.add_identity(x)
    with pytest.raises(trt.Error, match="belongs to another network"):
        two.mark_output(x)
    with pytest.raises(trt.Error, match="must be a tensorrt.ITensor"):
        two.add_identity(None if False else "x")


def test_operands_that_do_not_fit_are_named():
    builder, network, config, logger = new_network()
    a, b = network.add_input("a", trt.float32, (2, 3)), network.add_input("b", trt.float32, (4, 5))
    layer = network.add_matrix_multiply(a, trt.MatrixOperation.NONE, b, trt.MatrixOperation.NONE)
    layer.name = "product"
    with pytest.raises(trt.Error, match="product"):
        layer.get_output(0).shape
    network.mark_output(layer.get_output(0))
    assert builder.build_serialized_network(network, config) is None
    assert "product" in logger.errors()[-1]
    layer.op1 = trt.MatrixOperation.TRANSPOSE  # still wrong: 3 against 5
    with pytest.raises(trt.Error):
        layer.get_output(0).shape


def test_a_layer_cannot_read_its_own_result():
    _, network, _, _ = new_network()
    x = network.add_input("x", trt.float32, (2,))
    first = network.add_identity(x)
    second = network.add_identity(first.get_output(0))
    first.set_input(0, second.get_output(0))
    with pytest.raises(trt.Error, match="depends on the layer itself"):
        second.get_output(0).shape


@pytest.mark.parametrize(
    "call",
    [
        lambda n: n.add_input("", trt.float32, (1,)),
        lambda n: n.add_input("x", trt.fp4, (1,)),
        lambda n: n.add_input("x", trt.float32, (1,) * 9),
        lambda n: n.add_input("x", trt.float32, (-2,)),
        lambda n: n.add_input("x", trt.float32, 3),
        lambda n: n.add_constant((2, 2), np.zeros(3, np.float32)).get_output(0).shape,
        lambda n: n.add_constant((1,), np.zeros(1, np.complex64)),
        lambda n: trt.Dims4((1, 2)),
        lambda n: trt.Dims([1.5]),
    ],
)
def test_nonsense_is_refused(call):
    _, network, _, _ = new_network()
    with pytest.raises((trt.Error, TypeError)):
        call(network)


def test_types_are_enums_and_arrays():
    assert trt.nptype(trt.float16) is np.float16 and trt.volume((2, 3, 4)) == 24 and trt.volume(()) == 1
    with pytest.raises(TypeError):
        trt.nptype(trt.bfloat16)
    assert trt.float32.itemsize == 4 and trt.int4.itemsize == 0.5
    dims = trt.Dims([1, -1, 3])
    dims[1] = 2
    assert (
        dims == (1, 2, 3)
        and list(dims) == [1, 2, 3]
        and dims[1:] == (2, 3)
        and str(dims) == "(1, 2, 3)"
        and len(dims) == 3
    )
    weights = trt.Weights(np.arange(4, dtype=np.float16))
    assert weights.dtype is trt.float16 and weights.size == 4 and weights.nbytes == 8
    assert int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 1 and 1 << trt.BuilderFlag.INT8 == 2
    assert trt.DataType(1) is trt.float16 and "FLOAT" in trt.DataType.__members__
    with pytest.raises(trt.Error):
        trt.Weights(np.zeros(2, np.complex64))


def test_a_strongly_typed_network_refuses_precision_flags():
    logger = Collected()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    x = network.add_input("x", trt.float32, (2,))
    network.mark_output(network.add_identity(x).get_output(0))
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.FP16)
    assert builder.build_serialized_network(network, config) is None and "strongly typed" in logger.errors()[-1]
    config.clear_flag(trt.BuilderFlag.FP16)
    assert builder.build_serialized_network(network, config) is not None


def test_a_layer_quantises_to_fp8():
    builder, network, config = new_network()[:3]
    x = network.add_input("x", trt.float32, (2, 8))
    scale = network.add_constant((), np.array(0.5, np.float32)).get_output(0)
    quantised = network.add_quantize(x, scale, trt.fp8).get_output(0)
    assert quantised.dtype == trt.fp8
    y = network.add_dequantize(quantised, scale).get_output(0)
    y.name = "y"
    network.mark_output(y)
    config.set_flag(trt.BuilderFlag.FP8)
    assert builder.build_serialized_network(network, config) is not None


# --- Configuration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.set_flag(trt.BuilderFlag.FP4),
        lambda c: c.set_flag(trt.BuilderFlag.STRIP_PLAN),
        lambda c: setattr(c, "flags", 1 << int(trt.BuilderFlag.WEIGHT_STREAMING)),
        lambda c: setattr(c, "engine_capability", trt.EngineCapability.SAFETY),
        lambda c: setattr(c, "default_device_type", trt.DeviceType.DLA),
        lambda c: setattr(c, "algorithm_selector", trt.IAlgorithmSelector()),
        lambda c: setattr(c, "plugins_to_serialize", ["a.so"]),
    ],
)
def test_what_a_build_cannot_promise_is_refused(change):
    config = new_network()[2]
    with pytest.raises(trt.Error, match="not supported by Tenfold; use") as raised:
        change(config)
    assert raised.value.code == "unsupported"


def test_a_profile_must_be_ordered_and_name_inputs():
    builder, network, config, logger = parsed()
    profile = builder.create_optimization_profile()
    with pytest.raises(trt.Error, match="expected min <= opt <= max"):
        profile.set_shape("input", shape(4), shape(2), shape(8))
    with pytest.raises(trt.Error, match="different ranks"):
        profile.set_shape("input", (1,), shape(2), shape(8))
    profile.set_shape("pixels", shape(1), shape(2), shape(8))
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is None
    assert "names input 'pixels'" in logger.errors()[-1]


def test_a_dynamic_input_needs_a_profile():
    builder, network, config, logger = parsed()
    assert builder.build_serialized_network(network, config) is None
    assert "input" in logger.errors()[-1]


def test_a_workspace_that_is_too_small_is_an_error():
    builder, network, config, logger = parsed()
    with_profile(builder, config)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 64)
    assert builder.build_serialized_network(network, config) is None
    assert "workspace" in logger.errors()[-1]


def test_fp16_keeps_the_results_and_halves_the_weights():
    """Weights are rounded to 11 bits; the scores are below 1 and depend on them through three products."""
    x = images(4)
    exact, _ = classifier(lambda config: config.clear_flag(trt.BuilderFlag.FP16))
    half, _ = classifier(lambda config: config.set_flag(trt.BuilderFlag.FP16))
    full = run(exact, {"input": x})["scores"]
    rounded = run(half, {"input": x})["scores"]
    assert 0 < np.abs(full - rounded).max() < 2e-3


def test_fp16_makes_the_plan_half_as_large():
    def large(flag):
        builder, network, config, logger = new_network()
        x = network.add_input("x", trt.float32, (4, 512))
        w = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32) / 23
        layer = network.add_matrix_multiply(
            x, trt.MatrixOperation.NONE, network.add_constant(w.shape, w).get_output(0), trt.MatrixOperation.NONE
        )
        layer.name = "product"
        network.mark_output(layer.get_output(0))
        if flag == "pinned":
            layer.precision = trt.float32
        if flag:
            config.set_flag(trt.BuilderFlag.FP16)
        engine = build(builder, network, config, logger)
        values = np.random.default_rng(1).standard_normal((4, 512)).astype(np.float32)
        return len(bytes(engine.serialize())), run(engine, {"x": values})[layer.get_output(0).name]

    full, exact = large("")
    half, rounded = large("half")
    pinned, kept = large("pinned")
    assert half < 0.6 * full and pinned > 0.9 * full
    np.testing.assert_array_equal(exact, kept)
    # 512 terms of size 1/23, each off by at most 2^-11 of itself.
    np.testing.assert_allclose(rounded, exact, atol=8 * np.sqrt(512) / 23 * 2**-11)


def test_a_timing_cache_is_filled_combined_and_checked():
    builder, network, config, logger = parsed()
    with_profile(builder, config)
    config.builder_optimization_level = 3
    cache = config.create_timing_cache(b"")
    assert config.set_timing_cache(cache, ignore_mismatch=False)
    assert builder.build_serialized_network(network, config) is not None
    text = bytes(config.get_timing_cache().serialize())
    assert json.loads(text)["entries"]
    other = config.create_timing_cache(b"")
    assert other.combine(cache, ignore_mismatch=False) and json.loads(bytes(other.serialize())) == json.loads(text)
    with pytest.raises(trt.Error, match="no timing cache"):
        config.create_timing_cache(b"rubbish")
