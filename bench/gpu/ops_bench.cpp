// How near the memory-bound CUDA kernels come to the speed of device memory: each case is captured as a graph of
// launches over rotating buffers larger than the second-level cache, replayed, and the median taken. Prints a table in
// Markdown.
//
//   bench_gpu_ops [part of a case's name]
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "backend/cuda/cuda_backend.hpp"
#include "graph/graph.hpp"
#include "ops/registry.hpp"

namespace tenfold::cuda {
namespace {

using Ints = std::vector<std::int64_t>;

struct Case {
  std::string what;
  std::string op;
  Attributes attributes;
  std::vector<TensorType> inputs;
  std::string tactic;
  std::vector<bool> constant = {};
  int num_outputs = 1;
  Ints integers = {};  ///< contents of a constant int64 input
};

TensorType type_of(DType dtype, const Shape& shape) { return {dtype, {shape.begin(), shape.end()}}; }

std::size_t bytes_of(const TensorType& type) {
  return static_cast<std::size_t>(num_elements(type.static_shape())) * size_of(type.dtype);
}

/// Ordinary numbers of every type.
std::vector<std::byte> filled(const TensorType& type, std::uint64_t seed) {
  std::vector<std::byte> bytes(bytes_of(type));
  std::uint64_t state = seed * 0x9E3779B97F4A7C15ULL + 1;
  dispatch(type.dtype, [&]<typename T>() {
    // A million of them, again and again: drawing more would take longer than measuring.
    constexpr std::size_t kDrawn = std::size_t{1} << 20;
    const std::size_t count = bytes.size() / sizeof(T);
    for (std::size_t i = 0; i < std::min(count, kDrawn); ++i) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      const double x = static_cast<double>(state >> 40) * 0x1p-23 - 1;
      T value{};
      if constexpr (std::is_same_v<T, bool>) {
        value = x > 0;
      } else if constexpr (std::is_integral_v<T>) {
        value = static_cast<T>(sizeof(T) >= 4 ? std::abs(x) * 30000 : x * 100);
      } else {
        value = static_cast<T>(static_cast<float>(x));
      }
      std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
    }
    for (std::size_t i = kDrawn; i < count; i += kDrawn) {
      std::memcpy(bytes.data() + i * sizeof(T), bytes.data(), std::min(kDrawn, count - i) * sizeof(T));
    }
  });
  return bytes;
}

class Bench {
 public:
  explicit Bench(const Backend& backend) : backend_(backend), stream_(backend.make_stream({})) {
    // The yardstick: the driver's own copy of half a gigabyte.
    constexpr std::size_t kCopy = std::size_t{512} << 20;
    constexpr int kCopies = 4;
    const auto from = backend.allocate(kCopy), to = backend.allocate(kCopy);
    const auto copies = backend.capture(*stream_, [&] {
      for (int i = 0; i < kCopies; ++i) backend.copy_on_device(to->data(), from->data(), kCopy, *stream_);
    });
    copy_gb_s_ = 2.0 * kCopy * kCopies / median_us(*copies) * 1e-3;
    fmt::print("{}: device-to-device copy {:.0f} GB/s\n\n", backend.device_name(), copy_gb_s_);
    fmt::print("| case | tactic | MB, at least | us | GB/s | of the copy |\n|---|---|---:|---:|---:|---:|\n");
  }

  void measure(const Case& c) {
    Graph graph;
    std::vector<ValueId> ids;
    std::vector<Tensor> constants(c.inputs.size());
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      const std::string name = fmt::format("x{}", i);
      if (i >= c.constant.size() || !c.constant[i]) {
        ids.push_back(graph.add_input(name, c.inputs[i]));
        continue;
      }
      constants[i] = Tensor(c.inputs[i].dtype, c.inputs[i].static_shape());
      const std::vector<std::byte> contents = filled(c.inputs[i], i + 1);
      std::copy(contents.begin(), contents.end(), constants[i].mutable_data());
      if (c.inputs[i].dtype == DType::int64) constants[i] = Tensor::of_int64(constants[i].shape(), c.integers);
      ids.push_back(graph.add_constant(name, constants[i]));
    }
    const NodeId id = graph.add_node(make_op(c.op, c.attributes), ids, c.num_outputs, "node");
    graph.infer_types(id);
    Problem problem;
    problem.op = graph.node(id).op;
    problem.inputs = c.inputs;
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      problem.input_shapes.push_back(c.inputs[i].static_shape());
      problem.constants.push_back(constants[i].empty() ? nullptr : &constants[i]);
      // An embedding reads the rows that it writes, not the whole table.
      if (c.op != "Gather" || i > 0) bytes += bytes_of(c.inputs[i]);
    }
    for (const ValueId output : graph.node(id).outputs) {
      problem.outputs.push_back(graph.value(output).type);
      problem.output_shapes.push_back(problem.outputs.back().static_shape());
      bytes += bytes_of(problem.outputs.back()) * (c.op == "Gather" ? 2 : 1);
    }
    for (const Candidate& candidate : backend_.candidates(problem)) {
      if (candidate.tactic == c.tactic) measure(c.what, problem, candidate, bytes);
    }
  }

 private:
  void measure(const std::string& what, const Problem& problem, const Candidate& candidate, std::size_t bytes) {
    if (!candidate.refusal.empty()) {
      fmt::print("| {} | refused: {} |\n", what, candidate.refusal);
      return;
    }
    std::vector<std::unique_ptr<Buffer>> buffers;
    const auto upload = [&](std::span<const std::byte> contents) {
      buffers.push_back(backend_.allocate(contents.size()));
      backend_.copy_to_device(buffers.back()->data(), contents.data(), contents.size(), *stream_);
      stream_->synchronize();
      return buffers.back()->data();
    };
    const PackedWeights packed = backend_.pack(problem, candidate);
    KernelSpec spec;
    spec.op = problem.op;
    spec.tactic = candidate.tactic;
    spec.parameters = candidate.parameters;
    spec.inputs = problem.inputs;
    spec.outputs = problem.outputs;
    for (const auto& blob : packed.blobs) {
      spec.weights.emplace_back(blob);
      spec.device_weights.push_back(upload(blob));
    }
    const auto kernel = backend_.make_kernel(spec);
    // So many sets of operands that none is in the second-level cache when its turn comes again.
    constexpr std::size_t kBeyondCache = std::size_t{256} << 20, kMostSets = 64, kLeastLaunches = 20;
    const std::size_t sets = std::clamp<std::size_t>(kBeyondCache / bytes, 2, kMostSets);
    std::vector<std::vector<TensorView>> inputs(sets), outputs(sets);
    const auto view = [](void* data, const TensorType& type, const Shape& shape) {
      return TensorView{data, type.dtype, shape, shape.empty() ? 1 : shape.back()};
    };
    for (std::size_t s = 0; s < sets; ++s) {
      for (std::size_t i = 0; i < problem.inputs.size(); ++i) {
        inputs[s].push_back(
            view(upload(filled(problem.inputs[i], s + i + 1)), problem.inputs[i], problem.input_shapes[i]));
      }
      for (std::size_t i = 0; i < problem.outputs.size(); ++i) {
        buffers.push_back(backend_.allocate(bytes_of(problem.outputs[i])));
        outputs[s].push_back(view(buffers.back()->data(), problem.outputs[i], problem.output_shapes[i]));
      }
    }
    const std::size_t workspace_bytes = kernel->workspace_bytes(inputs[0], outputs[0]);
    const auto workspace = backend_.allocate(std::max<std::size_t>(workspace_bytes, 1));
    const std::size_t launches = std::max(sets, kLeastLaunches);
    const auto replayed = backend_.capture(*stream_, [&] {
      for (std::size_t l = 0; l < launches; ++l) {
        Launch launch;
        launch.inputs = inputs[l % sets];
        launch.outputs = outputs[l % sets];
        launch.workspace = {static_cast<std::byte*>(workspace->data()), workspace_bytes};
        launch.stream = stream_.get();
        kernel->run(launch);
      }
    });
    const double us = median_us(*replayed) / static_cast<double>(launches);
    const double gb_s = static_cast<double>(bytes) / us * 1e-3;
    const std::string parameters = fmt::format("{}", fmt::join(candidate.parameters, ","));
    fmt::print("| {} | {}{} | {:.1f} | {:.2f} | {:.0f} | {:.0f} % |\n", what, candidate.tactic,
               parameters.empty() ? "" : " " + parameters, static_cast<double>(bytes) * 1e-6, us, gb_s,
               100 * gb_s / copy_gb_s_);
    std::fflush(stdout);
  }

  double median_us(CapturedGraph& graph) {
    constexpr std::size_t kRuns = 11;
    std::vector<double> times;
    for (int i = 0; i < 2; ++i) graph.replay_timed(*stream_);
    for (std::size_t i = 0; i < kRuns; ++i) times.push_back(graph.replay_timed(*stream_));
    std::nth_element(times.begin(), times.begin() + kRuns / 2, times.end());
    return times[kRuns / 2];
  }

  const Backend& backend_;
  std::unique_ptr<Stream> stream_;
  double copy_gb_s_ = 1;
};

Attributes nhwc(Attributes attributes) {
  attributes.set("layout", std::string("nhwc"));
  return attributes;
}
Attributes program(int inputs, const char* text, DType dtype) {
  Attributes attributes{{"num_inputs", std::int64_t{inputs}}, {"program", std::string(text)}};
  if (dtype != DType::float32) attributes.set("to", std::string(to_string(dtype)));
  return attributes;
}

std::vector<Case> cases() {
  using enum DType;
  std::vector<Case> all;
  const auto half = [](const Shape& shape) { return type_of(float16, shape); };
  const auto single = [](const Shape& shape) { return type_of(float32, shape); };

  const Shape residual{256, 56, 56, 256}, hidden{4096, 3072};
  const std::string elementwise = "elementwise.vectors";
  all.push_back({"add, relu: fp16 [256, 56, 56, 256]",
                 "Pointwise",
                 program(2, "add 0 1; relu 2", float16),
                 {half(residual), half(residual)},
                 elementwise});
  all.push_back({"silu: fp16 [8, 64, 64, 320]",
                 "Pointwise",
                 program(1, "silu 0", float16),
                 {half({8, 64, 64, 320})},
                 elementwise});
  all.push_back({"bias, gelu: fp16 [4096, 3072]",
                 "Pointwise",
                 program(2, "add 0 1; gelu 2", float16),
                 {half(hidden), half({3072})},
                 elementwise});
  all.push_back({"gelu: fp32 [4096, 3072]", "Pointwise", program(1, "gelu 0", float32), {single(hidden)}, elementwise});
  all.push_back({"add: fp32 [4096, 3072]",
                 "Pointwise",
                 program(2, "add 0 1", float32),
                 {single(hidden), single(hidden)},
                 elementwise});
  all.push_back({"cast: fp32 to fp16 [64, 224, 224, 3]",
                 "Cast",
                 {{"to", std::string("float16")}},
                 {single({64, 224, 224, 3})},
                 elementwise});
  all.push_back({"quantise: fp32 to int8 [64, 56, 56, 256]",
                 "QuantizeLinear",
                 {},
                 {single({64, 56, 56, 256}), single({}), type_of(int8, {})},
                 elementwise});

  const std::string copy = "copy.strided";
  const Attributes to_nhwc{{"perm", Ints{0, 2, 3, 1}}};
  all.push_back({"NCHW to NHWC: fp16 [32, 256, 56, 56]", "Transpose", to_nhwc, {half({32, 256, 56, 56})}, copy});
  all.push_back({"NCHW to NHWC: fp32 [32, 256, 56, 56]", "Transpose", to_nhwc, {single({32, 256, 56, 56})}, copy});
  all.push_back({"NCHW to NHWC: fp16 [256, 3, 224, 224]", "Transpose", to_nhwc, {half({256, 3, 224, 224})}, copy});
  all.push_back(
      {"heads: fp16 [32, 512, 12, 64]", "Transpose", {{"perm", Ints{0, 2, 1, 3}}}, {half({32, 512, 12, 64})}, copy});
  all.push_back(
      {"transpose: int8 [8192, 8192]", "Transpose", {{"perm", Ints{1, 0}}}, {type_of(int8, {8192, 8192})}, copy});
  all.push_back({"concat of channels: fp16 [8, 64, 64, 640 + 320]",
                 "Concat",
                 {{"axis", std::int64_t{3}}},
                 {half({8, 64, 64, 640}), half({8, 64, 64, 320})},
                 copy});

  const Attributes pool3 = nhwc({{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}});
  const Attributes pool5 = nhwc({{"kernel_shape", Ints{5, 5}}, {"strides", Ints{1, 1}}, {"pads", Ints{2, 2, 2, 2}}});
  const Shape stem{256, 112, 112, 64};
  all.push_back({"max-pool 3x3/2: fp16 [256, 112, 112, 64]", "MaxPool", pool3, {half(stem)}, "images.pool"});
  all.push_back({"max-pool 3x3/2: int8 [256, 112, 112, 64]", "MaxPool", pool3, {type_of(int8, stem)}, "images.pool"});
  all.push_back({"max-pool 5x5: fp16 [8, 20, 20, 128]", "MaxPool", pool5, {half({8, 20, 20, 128})}, "images.pool"});

  all.push_back({"global mean: fp16 [256, 7, 7, 2048]",
                 "ReduceMean",
                 {{"axes", Ints{1, 2}}, {"keepdims", std::int64_t{1}}},
                 {half({256, 7, 7, 2048})},
                 "reduce.sums"});
  all.push_back({"sum of rows: fp32 [8192, 4096]",
                 "ReduceSum",
                 {{"axes", Ints{1}}, {"keepdims", std::int64_t{1}}},
                 {single({8192, 4096})},
                 "reduce.sums"});
  for (const auto& [rows, length] : {std::pair(4096, 768), std::pair(128, 768), std::pair(16384, 4096)}) {
    all.push_back({fmt::format("layer norm: fp16 [{}, {}]", rows, length),
                   "LayerNormalization",
                   {},
                   {half({rows, length}), single({length}), single({length})},
                   "rows.normalize"});
  }
  all.push_back({"softmax: fp16 [98304, 512]", "Softmax", {}, {half({98304, 512})}, "rows.softmax"});
  all.push_back({"softmax: fp32 [8192, 4096]", "Softmax", {}, {single({8192, 4096})}, "rows.softmax"});
  for (const Shape& shape : {Shape{2, 64, 64, 320}, Shape{2, 64, 64, 960}, Shape{2, 32, 32, 640},
                             Shape{2, 16, 16, 1280}, Shape{2, 8, 8, 1280}, Shape{16, 64, 64, 640}}) {
    for (const char* tactic : {"images.normalize", "groups.normalize", "images.normalize_cluster"}) {
      all.push_back({fmt::format("group norm, silu: fp16 {}", to_string(shape)),
                     "GroupNormalization",
                     nhwc({{"num_groups", std::int64_t{32}}, {"epilogue", std::string("silu 0")}}),
                     {half(shape), single({shape.back()}), single({shape.back()})},
                     tactic});
    }
  }

  for (const auto& [size, channels, stride] : {std::tuple(56, 144, 1), std::tuple(112, 96, 2)}) {
    all.push_back({fmt::format("depthwise 3x3/{}: fp16 [128, {}, {}, {}]", stride, size, size, channels),
                   "Conv",
                   nhwc({{"strides", Ints{stride, stride}},
                         {"pads", Ints{1, 1, 1, 1}},
                         {"group", std::int64_t{channels}},
                         {"epilogue", std::string("max_imm 0 0x0p+0; min_imm 1 0x1.8p+2")}}),
                   {half({128, size, size, channels}), half({channels, 1, 3, 3}), single({channels})},
                   "conv.depthwise",
                   {false, true, false}});
  }
  all.push_back(
      {"resize nearest 2x: fp16 [8, 32, 32, 640]",
       "Resize",
       {{"coordinate_transformation_mode", std::string("asymmetric")}, {"scales", std::vector<double>{1, 2, 2, 1}}},
       {half({8, 32, 32, 640})},
       "resize.grid"});
  all.push_back({"resize linear 2x: fp16 [8, 64, 64, 320]",
                 "Resize",
                 {{"mode", std::string("linear")}, {"scales", std::vector<double>{1, 2, 2, 1}}},
                 {half({8, 64, 64, 320})},
                 "resize.grid"});
  all.push_back({"embedding: fp16 [30522, 768], 16384 rows",
                 "Gather",
                 {},
                 {half({30522, 768}), type_of(int64, {16384})},
                 "gather.rows"});
  all.push_back({"pad 3: fp16 [32, 224, 224, 4]",
                 "Pad",
                 {{"mode", std::string("constant")}, {"pads", Ints{0, 3, 3, 0, 0, 3, 3, 0}}, {"value", 0.0}},
                 {half({32, 224, 224, 4})},
                 "pad.elements"});
  all.push_back({"top 300 of 8400: fp16, 64 rows",
                 "TopK",
                 {},
                 {half({64, 8400}), type_of(int64, {1})},
                 "top_k.select",
                 {false, true},
                 2,
                 {300}});
  all.push_back(
      {"argmax: fp16 [8192, 6625]", "ArgMax", {{"axis", std::int64_t{1}}}, {half({8192, 6625})}, "reduce.position"});
  all.push_back({"softmax of 16 along axis 1: fp16 [64, 16, 33600]",
                 "Softmax",
                 {{"axis", std::int64_t{1}}},
                 {half({64, 16, 33600})},
                 "columns.softmax"});
  all.push_back({"running sum: fp32 [4096, 3072]",
                 "CumSum",
                 {},
                 {type_of(DType::float32, {4096, 3072}), type_of(int64, {1})},
                 "scan.columns",
                 {false, true},
                 1,
                 {1}});
  all.push_back({"lstm of 256: fp32, 160 steps of 1",
                 "LSTM",
                 {},
                 {type_of(DType::float32, {160, 1, 256}), type_of(DType::float32, {1, 1024, 256}),
                  type_of(DType::float32, {1, 1024, 256})},
                 "recurrent.steps"});
  return all;
}

}  // namespace
}  // namespace tenfold::cuda

/// The argument, if there is one, is a part of the names of the cases to measure.
int main(int argc, char** argv) {
  try {
    const auto backend = tenfold::cuda::make_cuda_backend(0);
    tenfold::cuda::Bench bench(*backend);
    for (const auto& c : tenfold::cuda::cases()) {
      if (argc > 1 && std::string_view(c.what).find(argv[1]) == std::string_view::npos) continue;
      try {
        bench.measure(c);
      } catch (const tenfold::Error& error) {
        fmt::print("| {} | failed: {} |\n", c.what, error.what());
      }
    }
  } catch (const tenfold::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
