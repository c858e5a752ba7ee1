#include "formats/run_engine.hpp"

#include "build/builder.hpp"
#include "ops/control_flow.hpp"
#include "passes/pass.hpp"
#include "passes/samples.hpp"

namespace tenfold::test {
namespace {

/// Engines out of the mutator may ask for anything; what is larger than this is not run.
constexpr std::uint64_t kMaxBytes = std::uint64_t{64} << 20;

template <typename T>
void fill(std::vector<std::byte>& bytes, T (*element)(std::size_t)) {
  for (std::size_t i = 0; i < bytes.size() / sizeof(T); ++i) {
    const T value = element(i);
    std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof value);
  }
}

/// Floats around 0, small integers, alternating truths.
void fill(std::vector<std::byte>& bytes, DType dtype) {
  dispatch(dtype, [&]<typename T>() {
    if constexpr (std::is_same_v<T, bool>) {
      fill<bool>(bytes, [](std::size_t i) { return i % 2 == 0; });
    } else if constexpr (std::is_integral_v<T>) {
      fill<T>(bytes, [](std::size_t i) { return static_cast<T>(3 + i % 2); });
    } else {
      fill<T>(bytes, [](std::size_t i) { return T(0.125F * static_cast<float>(i % 17) - 1.0F); });
    }
  });
}

std::uint64_t bytes_of(const Shape& shape, DType dtype) {
  std::uint64_t bytes = size_of(dtype);
  for (const std::int64_t dim : shape) {
    if (dim == 0) return 0;
    bytes *= static_cast<std::uint64_t>(dim);
    if (bytes > kMaxBytes) return UINT64_MAX;
  }
  return bytes;
}

void append(std::vector<std::byte>& to, const void* data, std::size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  to.insert(to.end(), bytes, bytes + size);
}

void run(const Engine& engine, Context& context, const std::vector<Shape>& shapes, std::vector<std::byte>& answer) {
  const std::vector<TensorInfo> inputs = engine.inputs();
  std::vector<std::vector<std::byte>> data(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const std::uint64_t bytes = bytes_of(shapes[i], inputs[i].dtype);
    if (bytes > kMaxBytes) return;
    data[i].resize(bytes);
    fill(data[i], inputs[i].dtype);
    context.set_input(inputs[i].name, shapes[i], data[i].data());
  }
  context.run();
  for (const TensorInfo& info : engine.outputs()) {
    const OutputView output = context.output(info.name);
    append(answer, output.dims.data(), output.dims.size() * sizeof(std::int64_t));
    append(answer, output.data, output.size_bytes);
  }
}

SmallEngine loop_engine() {
  PlanMaker maker;
  const Dim rows = Dim::symbol("loop#0");
  const std::int32_t x = maker.input("x", f32({4}));
  const std::int32_t trips = maker.constant<std::int64_t>("trips", DType::int64, {}, {3});
  const std::int32_t iteration = maker.arena("iteration", {DType::int64, {}}, 8);
  const std::int32_t go_on = maker.arena("go_on", {DType::boolean, {}}, 1);
  const std::int32_t sum = maker.arena("sum", f32({4}), 16);
  const std::int32_t next = maker.arena("next", f32({4}), 16);
  const std::int32_t last = maker.output("last", f32({4}));
  const std::int32_t all = maker.output("all", f32({rows, 4}));
  PlanStep loop = maker.step("Loop", {trips, -1, x, x}, {last, all}, {{"num_carried", std::int64_t{1}}});
  loop.bindings = {{"loop#0", all, 0}};
  loop.blocks.push_back({.inputs = {iteration, go_on, sum},
                         .outputs = {go_on, next, next},
                         .bindings = {},
                         .steps = {maker.step("Add", {sum, x}, {next})}});
  maker.add(std::move(loop));
  maker.profile({{{4}, {4}, {4}}});
  return maker.finish();
}

/// Carried values that grow, and that change places.
SmallEngine growing_loop_engine() {
  PlanMaker maker;
  const Dim size = Dim::symbol("body/a#0"), end = Dim::symbol("end#0");
  const std::int32_t x = maker.input("x", f32({2}));
  const std::int32_t trips = maker.input("trips", {DType::int64, {}});
  const std::int32_t iteration = maker.arena("iteration", {DType::int64, {}}, 8);
  const std::int32_t go_on = maker.arena("go_on", {DType::boolean, {}}, 1);
  const std::int32_t grown = maker.value("grown", f32({size}), Storage::growable);
  const std::int32_t longer = maker.value("longer", f32({size + Dim(2)}), Storage::growable);
  const std::int32_t left = maker.arena("left", f32({2}), 8);
  const std::int32_t right = maker.arena("right", f32({2}), 8);
  const std::int32_t doubled = maker.arena("doubled", f32({2}), 8);
  const std::int32_t result = maker.output("result", f32({end}));
  const std::int32_t a = maker.output("a", f32({2}));
  const std::int32_t b = maker.output("b", f32({2}));
  PlanStep loop = maker.step("Loop", {trips, -1, x, x, x, x}, {result, a, b}, {{"num_carried", std::int64_t{3}}});
  loop.bindings = {{"end#0", result, 0}};
  loop.blocks.push_back({.inputs = {iteration, go_on, grown, left, right},
                         .outputs = {go_on, longer, right, doubled},
                         .bindings = {{"body/a#0", grown, 0}},
                         .steps = {maker.step("Concat", {grown, x}, {longer}, {{"axis", std::int64_t{0}}}),
                                   maker.step("Add", {left, left}, {doubled})}});
  maker.add(std::move(loop));
  maker.profile({{{2}, {2}, {2}}, {{}, {}, {}}});
  return maker.finish();
}

SmallEngine if_engine() {
  PlanMaker maker;
  const std::int32_t condition = maker.input("condition", {DType::boolean, {}});
  const std::int32_t x = maker.input("x", f32({4}));
  const std::int32_t sum = maker.arena("sum", f32({4}), 16);
  const std::int32_t product = maker.arena("product", f32({4}), 16);
  const std::int32_t y = maker.output("y", f32({4}));
  PlanStep branch = maker.step("If", {condition, x}, {y});
  branch.blocks.push_back({.outputs = {sum}, .steps = {maker.step("Add", {x, x}, {sum})}});
  branch.blocks.push_back({.outputs = {product}, .steps = {maker.step("Mul", {x, x}, {product})}});
  maker.add(std::move(branch));
  maker.profile({{{}, {}, {}}, {{4}, {4}, {4}}});
  return maker.finish();
}

SmallEngine scan_engine() {
  PlanMaker maker;
  const std::int32_t x = maker.input("x", f32({5, 3}));
  const std::int32_t start = maker.constant<float>("start", DType::float32, {3}, {1, 2, 3});
  const std::int32_t sum = maker.arena("sum", f32({3}), 12);
  const std::int32_t row = maker.arena("row", f32({3}), 12);
  const std::int32_t next = maker.arena("next", f32({3}), 12);
  const std::int32_t last = maker.output("last", f32({3}));
  const std::int32_t all = maker.output("all", f32({3, 5}));
  Scan::Spec spec;
  spec.num_carried = 1;
  spec.input_axes = {0};
  spec.input_directions = {1};
  spec.output_axes = {1};
  spec.output_directions = {0};
  PlanStep scan = maker.step("Scan", {start, x}, {last, all}, Scan(spec).attributes());
  scan.blocks.push_back(
      {.inputs = {sum, row}, .outputs = {next, next}, .steps = {maker.step("Add", {sum, row}, {next})}});
  maker.add(std::move(scan));
  maker.profile({{{5, 3}, {5, 3}, {5, 3}}});
  return maker.finish();
}

/// Sizes that only a run knows: NonZero's, and a Range up to an input.
SmallEngine data_engine() {
  PlanMaker maker;
  const Dim rows = Dim::symbol("rows"), found = Dim::symbol("nonzero#1"), length = Dim::symbol("range#0");
  const std::int32_t x = maker.input("x", f32({rows, 3}));
  const std::int32_t limit = maker.input("limit", {DType::int64, {}});
  const std::int32_t zero = maker.constant<std::int64_t>("zero", DType::int64, {}, {0});
  const std::int32_t one = maker.constant<std::int64_t>("one", DType::int64, {}, {1});
  const std::int32_t places = maker.value("places", {DType::int64, {2, found}}, Storage::growable);
  const std::int32_t flat = maker.view("flat", {DType::int64, {Dim(2) * found}}, places);
  const std::int32_t numbers = maker.arena("numbers", {DType::int64, {length}}, 16 * 8);
  const std::int32_t squares = maker.output("squares", {DType::int64, {Dim(2) * found}});
  const std::int32_t doubled = maker.output("doubled", {DType::int64, {length}});
  const std::int32_t size = maker.output("size", {DType::int64, {2}});
  PlanStep nonzero = maker.step("NonZero", {x}, {places});
  nonzero.bindings = {{"nonzero#1", places, 1}};
  maker.add(std::move(nonzero));
  maker.add(maker.step("Mul", {flat, flat}, {squares}));
  PlanStep range = maker.step("Range", {zero, limit, one}, {numbers});
  range.bindings = {{"range#0", numbers, 0}};
  range.infer_at_run_time = true;
  maker.add(std::move(range));
  maker.add(maker.step("Add", {numbers, numbers}, {doubled}));
  maker.add(maker.step("DimValues", {}, {size},
                       {{"elements", std::vector<std::string>{"rows", "3*rows"}},
                        {"shape", std::vector<std::int64_t>{2}},
                        {"dtype", std::string("int64")}}));
  maker.profile({{{1, 3}, {2, 3}, {4, 3}}, {{}, {}, {}}});
  return maker.finish();
}

/// Two results that are made side by side in one place.
SmallEngine view_engine() {
  PlanMaker maker;
  const Dim rows = Dim::symbol("rows");
  const std::int32_t x = maker.input("x", f32({rows, 4}));
  const std::int32_t whole = maker.arena("whole", f32({Dim(2) * rows, 4}), 2 * 3 * 16);
  const std::int32_t upper = maker.view("upper", f32({rows, 4}), whole);
  const std::int32_t lower = maker.view("lower", f32({rows, 4}), whole, Dim(4) * rows);
  const std::int32_t y = maker.output("y", f32({Dim(2) * rows, 4}));
  maker.add(maker.step("Add", {x, x}, {upper}));
  maker.add(maker.step("Mul", {x, x}, {lower}));
  maker.add(maker.step("Softmax", {whole}, {y}, {{"axis", std::int64_t{1}}}));
  maker.profile({{{1, 4}, {2, 4}, {3, 4}}});
  return maker.finish();
}

SmallEngine built(Graph network, const std::vector<ProfileSpec>& profiles) {
  BuildOptions options;
  options.profiles = profiles;
  options.opt_level = 0;
  options.num_threads = 1;
  BuildResult result = build(std::move(network), cpu_backend(), options);
  return {std::move(result.plan), std::move(result.weights)};
}
SmallEngine built(std::string_view network, const std::vector<ProfileSpec>& profiles) {
  return built(parse_graph(network), profiles);
}
/// The largest section that there is, whether it pays or not.
Graph sample_by_sample(std::string_view network) {
  Graph graph = parse_graph(network);
  run_pipeline(graph);
  ensure(make_section(graph, per_sample_nodes(graph)) > 0, "nothing runs sample by sample");
  return graph;
}

}  // namespace

std::vector<std::byte> run_all_profiles(const Engine& engine) {
  std::vector<std::byte> answer;
  for (int p = 0; p < engine.num_profiles(); ++p) {
    if (engine.arena_bytes(p) > kMaxBytes) continue;
    Context context = engine.make_context(p);
    std::vector<Shape> least, most;
    for (const ShapeRange& range : engine.profile(p)) {
      least.push_back(range.min);
      most.push_back(range.max);
    }
    for (const std::vector<Shape>& shapes : {least, most, least}) run(engine, context, shapes, answer);
  }
  return answer;
}

std::vector<std::pair<std::string, SmallEngine>> control_flow_engines() {
  return {{"loop", loop_engine()},      {"growing loop", growing_loop_engine()}, {"if", if_engine()},
          {"scan", scan_engine()},      {"data-dependent", data_engine()},       {"views", view_engine()},
          {"samples", sample_section()}};
}

std::vector<std::pair<std::string, SmallEngine>> built_engines() {
  constexpr std::string_view kConvolutions = R"(graph convolutions(%x: float32[1, 3, height, 8]) {
    %w1 = constant float32[16, 3, 3, 3] random(1)
    %b1 = constant float32[16] random(2)
    %c1 = Conv(%x, %w1, %b1) {kernel_shape=[3, 3], strides=[1, 1], dilations=[1, 1], pads=[1, 1, 1, 1]}
    %r1 = Relu(%c1)
    %w2 = constant float32[16, 1, 3, 3] random(3)
    %c2 = Conv(%r1, %w2, _) {kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=16, strides=[2, 2], dilations=[1, 1]}
    %p = MaxPool(%c2) {kernel_shape=[2, 2], strides=[2, 2], dilations=[1, 1], pads=[0, 0, 0, 0]}
    %m = ReduceMean(%p) {axes=[2, 3], keepdims=0}
    %w3 = constant float32[16, 10] random(4)
    %f = MatMul(%m, %w3)
    %y = Softmax(%f) {axis=1}
    return %y
  })";
  constexpr std::string_view kBlock = R"(graph block(%x: float32[batch, 6, 16]) {
    %w = constant float32[16, 48] random(1)
    %qkv = MatMul(%x, %w)
    %q, %k, %v = Split(%qkv) {axis=2, sizes=[16, 16, 16]}
    %t = Transpose(%k) {perm=[0, 2, 1]}
    %s = MatMul(%q, %t)
    %p = Softmax(%s) {axis=2}
    %o = MatMul(%p, %v)
    %r = Add(%o, %x)
    %c = Concat(%r, %x) {axis=2}
    %e = Exp(%c)
    return %e
  })";
  constexpr std::string_view kQuantised = R"(graph quantised(%x: float32[1, 16, height, 8]) {
    %s = constant float32[] full(0.0625)
    %zero = constant uint8[] full(7)
    %sw = constant float32[] full(0.01)
    %q = QuantizeLinear(%x, %s, %zero)
    %d = DequantizeLinear(%q, %s, %zero)
    %w1 = constant int8[16, 16, 3, 3] random(1)
    %f1 = DequantizeLinear(%w1, %sw)
    %c1 = Conv(%d, %f1, _) {kernel_shape=[3, 3], strides=[1, 1], dilations=[1, 1], pads=[1, 1, 1, 1]}
    %q1 = QuantizeLinear(%c1, %s, %zero)
    %d1 = DequantizeLinear(%q1, %s, %zero)
    %a = Add(%d1, %d)
    %r = Relu(%a)
    %qa = QuantizeLinear(%r, %s, %zero)
    %da = DequantizeLinear(%qa, %s, %zero)
    %w2 = constant int8[16, 1, 3, 3] random(3)
    %f2 = DequantizeLinear(%w2, %sw)
    %c2 = Conv(%da, %f2, _) {kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=16, strides=[2, 2], dilations=[1, 1]}
    %q2 = QuantizeLinear(%c2, %s, %zero)
    %d2 = DequantizeLinear(%q2, %s, %zero)
    %w3 = constant int8[5, 16, 1, 1] random(4)
    %f3 = DequantizeLinear(%w3, %sw)
    %c3 = Conv(%d2, %f3, _) {kernel_shape=[1, 1], pads=[0, 0, 0, 0], strides=[1, 1], dilations=[1, 1]}
    %y = Sigmoid(%c3)
    return %y
  })";
  std::vector<std::pair<std::string, SmallEngine>> engines;
  engines.emplace_back("quantised", built(kQuantised, {{{"x", {{1, 16, 8, 8}, {1, 16, 8, 8}, {1, 16, 12, 8}}}}}));
  engines.emplace_back("convolutions", built(kConvolutions, {{{"x", {{1, 3, 8, 8}, {1, 3, 8, 8}, {1, 3, 12, 8}}}}}));
  engines.emplace_back("attention", built(kBlock, {{{"x", {{1, 6, 16}, {2, 6, 16}, {3, 6, 16}}}}}));
  engines.emplace_back("samples", built(sample_by_sample(kBlock), {{{"x", {{1, 6, 16}, {2, 6, 16}, {3, 6, 16}}}}}));
  return engines;
}

}  // namespace tenfold::test
