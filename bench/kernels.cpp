// Times every CPU tactic on the layers of well-known networks, one by one, and prints the share of the measured peak.
//
// usage: bench_kernels [--threads N] [--filter TEXT] [--all] [--bf16 | --bf16-values | --int8]
//   --filter TEXT   only layers whose network or name contains TEXT
//   --all           every candidate, not only the best one of each tactic
//   --bf16          kernels that round factors to bfloat16 too
//   --bf16-values   the same, and inputs, residuals and results are stored as bfloat16
//   --int8          the same layers of 8-bit integers: scaled, with bias, to 8 bits again
// One thread is timed by the thread's processor time, which other processes disturb least; several by wall time.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "backend/cpu/cpu_tactic.hpp"
#include "backend/cpu/kernels/peak.hpp"
#include "backend/cpu/tier.hpp"
#include "graph/graph.hpp"
#include "ops/conv.hpp"
#include "ops/matmul.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

struct Layer {
  std::string network, name;
  int count = 1;
  OpPtr op;
  std::vector<Shape> inputs;  ///< an empty shape: omitted
  std::vector<bool> constant;
  std::vector<DType> dtypes{};  ///< missing: float32
};

Attributes epilogue(Attributes attributes, const std::string& program, int inputs) {
  if (!program.empty()) Epilogue{PointwiseProgram::parse(inputs, program)}.store(attributes);
  return attributes;
}

struct ConvLayer {
  int count;
  std::int64_t in, size, out, kernel, stride, group = 1;
  std::string program = "relu 0";
  bool adds = false;
};
Layer conv_layer(const std::string& network, const ConvLayer& c) {
  const std::int64_t pad = c.kernel / 2;
  const std::int64_t out_size = (c.size + 2 * pad - c.kernel) / c.stride + 1;
  Attributes attributes{{"layout", std::string("nhwc")},
                        {"strides", std::vector<std::int64_t>{c.stride, c.stride}},
                        {"pads", std::vector<std::int64_t>{pad, pad, pad, pad}},
                        {"group", c.group}};
  Layer layer{network, "", c.count, nullptr, {}, {false, true, true, false}};
  layer.name =
      fmt::format("{}x{}{} {}->{} @{}{}", c.kernel, c.kernel, c.stride == 1 ? "" : fmt::format(" s{}", c.stride), c.in,
                  c.out, c.size, c.group == 1 ? "" : " dw");
  layer.op = make_op("Conv", epilogue(attributes, c.program, c.adds ? 2 : 1));
  layer.inputs = {{1, c.size, c.size, c.in}, {c.out, c.in / c.group, c.kernel, c.kernel}, {c.out}};
  if (c.adds) layer.inputs.push_back({1, out_size, out_size, c.out});
  return layer;
}

struct Product {
  int count;
  std::string name;
  Shape a, b;
  bool constant = true, trans_b = false;
  std::string program = "";
};
Layer product_layer(const std::string& network, const Product& p) {
  Attributes attributes;
  if (p.trans_b) attributes.set("trans_b", std::int64_t{1});
  const bool bias = p.program.find("add 0 1") == 0;
  Layer layer{network,    p.name,
              p.count,    make_op("MatMul", epilogue(attributes, p.program, bias ? 2 : 1)),
              {p.a, p.b}, {false, p.constant, true}};
  if (bias) layer.inputs.push_back({p.trans_b ? p.b[p.b.size() - 2] : p.b.back()});
  return layer;
}

/// The layer between others whose values are bfloat16.
Layer in_bf16(Layer layer) {
  layer.dtypes.assign(layer.inputs.size(), DType::float32);
  if (layer.op->type() == "Conv" && layer.inputs[0].back() <= 4) {
    // A network's own input is no bfloat16.
    Attributes attributes = layer.op->attributes();
    attributes.set("to", std::string("bfloat16"));
    layer.op = make_op("Conv", attributes);
    return layer;
  }
  for (std::size_t i = 0; i < layer.inputs.size(); ++i) {
    const bool is_residual = layer.op->type() == "Conv" && i > 2;
    if (i < 2 || is_residual) layer.dtypes[i] = DType::bfloat16;
  }
  return layer;
}

/// The layer as a quantised model has it.
Layer in_bytes(Layer layer) {
  // Sums of so many products of bytes are of the order of 2^13 times the root of the number.
  const std::string program = "mul_imm 0 0x1p-12; add 2 1; relu 3; mul_imm 4 0x1p+2; round 5";
  Attributes attributes = layer.op->attributes();
  Epilogue{PointwiseProgram::parse(2, program), DType::uint8}.store(attributes);
  const bool is_conv = layer.op->type() == "Conv";
  const Shape& w = layer.inputs[1];
  const bool rows_first = is_conv || op_cast<MatMul>(layer.op)->trans_b();
  const std::int64_t columns = rows_first ? w[0] : w.back();
  layer.inputs.resize(2);
  layer.constant = {false, true, true, true};
  layer.dtypes = {DType::uint8, DType::int8};
  if (is_conv) layer.inputs.emplace_back();
  layer.inputs.push_back({columns});
  layer.op = make_op(layer.op->type(), attributes);
  return layer;
}

std::vector<Layer> all_layers() {
  std::vector<Layer> layers;
  const std::string add_relu = "add 0 1; relu 2", relu6 = "max_imm 0 0x0p0; min_imm 1 0x1.8p2";
  for (const ConvLayer& c : std::vector<ConvLayer>{{1, 3, 224, 64, 7, 2},
                                                   {1, 64, 56, 64, 1, 1},
                                                   {3, 64, 56, 64, 3, 1},
                                                   {3, 64, 56, 256, 1, 1, 1, add_relu, true},
                                                   {1, 64, 56, 256, 1, 1, 1, ""},
                                                   {2, 256, 56, 64, 1, 1},
                                                   {1, 256, 56, 128, 1, 1},
                                                   {1, 128, 56, 128, 3, 2},
                                                   {4, 128, 28, 512, 1, 1, 1, add_relu, true},
                                                   {1, 256, 56, 512, 1, 2, 1, ""},
                                                   {3, 512, 28, 128, 1, 1},
                                                   {3, 128, 28, 128, 3, 1},
                                                   {1, 512, 28, 256, 1, 1},
                                                   {1, 256, 28, 256, 3, 2},
                                                   {6, 256, 14, 1024, 1, 1, 1, add_relu, true},
                                                   {1, 512, 28, 1024, 1, 2, 1, ""},
                                                   {5, 1024, 14, 256, 1, 1},
                                                   {5, 256, 14, 256, 3, 1},
                                                   {1, 1024, 14, 512, 1, 1},
                                                   {1, 512, 14, 512, 3, 2},
                                                   {3, 512, 7, 2048, 1, 1, 1, add_relu, true},
                                                   {1, 1024, 14, 2048, 1, 2, 1, ""},
                                                   {2, 2048, 7, 512, 1, 1},
                                                   {2, 512, 7, 512, 3, 1}}) {
    layers.push_back(conv_layer("ResNet-50", c));
  }
  layers.push_back(product_layer("ResNet-50", {1, "fc 2048->1000", {1, 2048}, {2048, 1000}, true, false, "add 0 1"}));
  for (const ConvLayer& c : std::vector<ConvLayer>{{1, 3, 224, 32, 3, 2, 1, relu6},
                                                   {1, 32, 112, 32, 3, 1, 32, relu6},
                                                   {1, 32, 112, 16, 1, 1, 1, ""},
                                                   {1, 16, 112, 96, 1, 1, 1, relu6},
                                                   {1, 96, 112, 96, 3, 2, 96, relu6},
                                                   {1, 96, 56, 24, 1, 1, 1, ""},
                                                   {2, 24, 56, 144, 1, 1, 1, relu6},
                                                   {1, 144, 56, 144, 3, 1, 144, relu6},
                                                   {1, 144, 56, 24, 1, 1, 1, "add 0 1", true},
                                                   {1, 144, 56, 144, 3, 2, 144, relu6},
                                                   {1, 144, 28, 32, 1, 1, 1, ""},
                                                   {3, 32, 28, 192, 1, 1, 1, relu6},
                                                   {2, 192, 28, 192, 3, 1, 192, relu6},
                                                   {2, 192, 28, 32, 1, 1, 1, "add 0 1", true},
                                                   {1, 192, 28, 192, 3, 2, 192, relu6},
                                                   {1, 192, 14, 64, 1, 1, 1, ""},
                                                   {4, 64, 14, 384, 1, 1, 1, relu6},
                                                   {4, 384, 14, 384, 3, 1, 384, relu6},
                                                   {3, 384, 14, 64, 1, 1, 1, "add 0 1", true},
                                                   {1, 384, 14, 96, 1, 1, 1, ""},
                                                   {3, 96, 14, 576, 1, 1, 1, relu6},
                                                   {2, 576, 14, 576, 3, 1, 576, relu6},
                                                   {2, 576, 14, 96, 1, 1, 1, "add 0 1", true},
                                                   {1, 576, 14, 576, 3, 2, 576, relu6},
                                                   {1, 576, 7, 160, 1, 1, 1, ""},
                                                   {3, 160, 7, 960, 1, 1, 1, relu6},
                                                   {3, 960, 7, 960, 3, 1, 960, relu6},
                                                   {2, 960, 7, 160, 1, 1, 1, "add 0 1", true},
                                                   {1, 960, 7, 320, 1, 1, 1, ""},
                                                   {1, 320, 7, 1280, 1, 1, 1, relu6}}) {
    layers.push_back(conv_layer("MobileNetV2", c));
  }
  layers.push_back(product_layer("MobileNetV2", {1, "fc 1280->1000", {1, 1280}, {1280, 1000}, true, false, "add 0 1"}));
  for (const Product& p :
       std::vector<Product>{{6, "qkv", {1, 128, 384}, {384, 1152}, true, false, "add 0 1"},
                            {6, "attention scores", {1, 12, 128, 32}, {1, 12, 128, 32}, false, true},
                            {6, "attention values", {1, 12, 128, 128}, {1, 12, 128, 32}, false},
                            {6, "projection", {1, 128, 384}, {384, 384}, true, false, "add 0 1"},
                            {6, "ffn1 gelu", {1, 128, 384}, {384, 1536}, true, false, "add 0 1; gelu 2"},
                            {6, "ffn2", {1, 128, 1536}, {1536, 384}, true, false, "add 0 1"}}) {
    layers.push_back(product_layer("MiniLM-L6", p));
  }
  for (const Product& p :
       std::vector<Product>{{12, "128x768x2304 qkv", {1, 128, 768}, {768, 2304}, true, false, "add 0 1"},
                            {12, "128x768x768", {1, 128, 768}, {768, 768}, true, false, "add 0 1"},
                            {12, "128x768x3072 gelu", {1, 128, 768}, {768, 3072}, true, false, "add 0 1; gelu 2"},
                            {12, "128x3072x768", {1, 128, 3072}, {3072, 768}, true, false, "add 0 1"},
                            {0, "4096x768x3072", {32, 128, 768}, {768, 3072}, true, false, "add 0 1"}}) {
    layers.push_back(product_layer("BERT-base", p));
  }
  for (const ConvLayer& c : std::vector<ConvLayer>{{1, 3, 640, 16, 3, 2, 1, "silu 0"},
                                                   {1, 16, 320, 32, 3, 2, 1, "silu 0"},
                                                   {1, 32, 160, 32, 1, 1, 1, "silu 0"},
                                                   {2, 16, 160, 16, 3, 1, 1, "silu 0"},
                                                   {1, 48, 160, 32, 1, 1, 1, "silu 0"},
                                                   {1, 32, 160, 64, 3, 2, 1, "silu 0"},
                                                   {4, 32, 80, 32, 3, 1, 1, "silu 0"},
                                                   {2, 64, 40, 64, 3, 1, 1, "silu 0"},
                                                   {1, 64, 80, 64, 3, 1, 1, "silu 0"},
                                                   {1, 64, 80, 80, 3, 1, 1, "silu 0"},
                                                   {1, 80, 80, 80, 3, 1, 1, "silu 0"}}) {
    layers.push_back(conv_layer("YOLOv8n", c));
  }
  return layers;
}

double now_us(int threads) {
  timespec t{};
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) * 1e-3;
}

/// Floating-point operations in a microsecond on one core, at best.
double peak_per_us() {
  using namespace cpu;
  const PeakKernels& kernels = TENFOLD_FOR_TIER(kPeakKernels);
  double best = 0;
  for (int i = 0; i < 20; ++i) {
    const double begin = now_us(1);
    const std::int64_t flops = kernels.multiply_add(100000);
    best = std::max(best, static_cast<double>(flops) / (now_us(1) - begin));
  }
  return best;
}

/// The first quartile over some runs: the machine may be shared.
double time_us(const Kernel& kernel, const Launch& launch, int threads) {
  kernel.run(launch);
  std::vector<double> times;
  const double end = now_us(threads) + 20e3;
  while (times.size() < 7 || (now_us(threads) < end && times.size() < 200)) {
    const double begin = now_us(threads);
    kernel.run(launch);
    times.push_back(now_us(threads) - begin);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 4];
}

struct Options {
  int threads = 1;
  std::string filter;
  bool all = false;
  bool bf16 = false, bf16_values = false, int8 = false;
};

void run(const Options& options) {
  const Backend& backend = cpu_backend();
  const auto stream = backend.make_stream({.num_threads = options.threads});
  std::printf("%s, %s, %d thread(s)\n", backend.device_name().c_str(), backend.target().c_str(), options.threads);
  struct Sum {
    double us = 0, flops = 0;
  };
  std::map<std::string, Sum> sums;
  const double peak = peak_per_us() * options.threads;
  std::printf("peak %.1f GFLOP/s\n", peak * 1e-3);
  for (Layer& layer : all_layers()) {
    if (!options.filter.empty() && (layer.network + " " + layer.name).find(options.filter) == std::string::npos)
      continue;
    if (options.int8 && !layer.constant[1]) continue;
    if (options.int8) layer = in_bytes(std::move(layer));
    if (options.bf16_values && layer.constant[1]) layer = in_bf16(std::move(layer));
    Graph graph;
    std::vector<ValueId> ids;
    std::vector<Tensor> tensors;
    for (std::size_t i = 0; i < layer.inputs.size(); ++i) {
      if (layer.inputs[i].empty()) {
        ids.push_back(kNoValue);
        tensors.emplace_back();
        continue;
      }
      Tensor tensor(i < layer.dtypes.size() ? layer.dtypes[i] : DType::float32, layer.inputs[i]);
      std::uint32_t state = 1 + static_cast<std::uint32_t>(i);
      dispatch(tensor.dtype(), [&]<typename T>() {
        for (T& x : tensor.as_mutable<T>()) {
          state = state * 1664525U + 1013904223U;
          if constexpr (std::is_integral_v<T>) {
            x = static_cast<T>(state >> 24);
          } else {
            x = static_cast<T>(static_cast<float>(static_cast<double>(state >> 8) * 0x1p-23 - 1));
          }
        }
      });
      ids.push_back(layer.constant[i] ? graph.add_constant(fmt::format("c{}", i), tensor)
                                      : graph.add_input(fmt::format("x{}", i), tensor.type()));
      tensors.push_back(std::move(tensor));
    }
    const NodeId id = graph.add_node(layer.op, ids, 1, "node");
    graph.infer_types(id);
    Problem problem;
    problem.op = layer.op;
    problem.bf16 = options.bf16;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const bool exists = !tensors[i].empty();
      problem.inputs.push_back(exists ? tensors[i].type() : TensorType{});
      problem.input_shapes.push_back(exists ? tensors[i].shape() : Shape{});
      problem.constants.push_back(exists && layer.constant[i] ? &tensors[i] : nullptr);
    }
    const TensorType& type = graph.value(graph.node(id).outputs[0]).type;
    problem.outputs = {type};
    problem.output_shapes = {type.static_shape()};
    const double flops = layer.op->flops(problem.inputs, problem.outputs);

    Tensor output(type.dtype, problem.output_shapes[0]);
    std::vector<TensorView> inputs;
    for (const Tensor& tensor : tensors) inputs.push_back(tensor.empty() ? TensorView{} : view_of(tensor));
    TensorView result = view_of(output);
    std::map<std::string, std::pair<double, std::string>> best;
    for (const Candidate& candidate : backend.candidates(problem)) {
      if (!candidate.refusal.empty() || candidate.tactic == "reference") continue;
      const PackedWeights packed = backend.pack(problem, candidate);
      std::vector<Tensor> aligned;
      KernelSpec spec{problem.op, candidate.tactic, candidate.parameters, problem.inputs, problem.outputs, {}};
      for (const auto& blob : packed.blobs) {
        aligned.emplace_back(DType::uint8, Shape{static_cast<std::int64_t>(blob.size())});
        if (!blob.empty()) std::memcpy(aligned.back().mutable_data(), blob.data(), blob.size());
        spec.weights.emplace_back(aligned.back().data(), blob.size());
      }
      const auto kernel = backend.make_kernel(spec);
      const auto workspace = backend.allocate(kernel->workspace_bytes(inputs, {&result, 1}));
      const Launch launch{inputs,
                          {&result, 1},
                          {static_cast<std::byte*>(workspace->data()), workspace->size_bytes()},
                          stream.get(),
                          {}};
      const double us = time_us(*kernel, launch, options.threads);
      const std::string parameters = to_string(candidate.parameters);
      if (options.all) {
        std::printf("    %-22s %-20s %9.1f us %8.1f GFLOP/s %6.1f %%  guess %9.1f\n", candidate.tactic.c_str(),
                    parameters.c_str(), us, flops / us * 1e-3, 100 * flops / us / peak, candidate.estimated_us);
      }
      auto& entry = best.try_emplace(candidate.tactic, 1e30, "").first->second;
      if (us < entry.first) entry = {us, parameters};
    }
    std::vector<std::pair<double, std::string>> order;
    for (const auto& [tactic, entry] : best) order.emplace_back(entry.first, tactic + " " + entry.second);
    std::sort(order.begin(), order.end());
    if (order.empty()) continue;
    std::printf("%-12s %2d x %-22s %9.1f us %8.1f GFLOP/s %6.1f %%", layer.network.c_str(), layer.count,
                layer.name.c_str(), order[0].first, flops / order[0].first * 1e-3, 100 * flops / order[0].first / peak);
    for (const auto& [us, text] : order) std::printf("  | %s %.0f", text.c_str(), us);
    std::printf("\n");
    std::fflush(stdout);
    sums[layer.network].us += layer.count * order[0].first;
    sums[layer.network].flops += layer.count * flops;
  }
  for (const auto& [network, sum] : sums) {
    std::printf("%-12s %.3f GFLOP in %.2f ms: %.1f %% of peak\n", network.c_str(), sum.flops * 1e-9, sum.us * 1e-3,
                100 * sum.flops / sum.us / peak);
  }
}

}  // namespace
}  // namespace tenfold

int main(int argc, char** argv) {
  tenfold::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--threads" && i + 1 < argc) {
      options.threads = std::atoi(argv[++i]);
    } else if (arg == "--filter" && i + 1 < argc) {
      options.filter = argv[++i];
    } else if (arg == "--all") {
      options.all = true;
    } else if (arg == "--bf16") {
      options.bf16 = true;
    } else if (arg == "--bf16-values") {
      options.bf16 = options.bf16_values = true;
    } else if (arg == "--int8") {
      options.int8 = true;
    } else {
      std::fprintf(stderr,
                   "usage: bench_kernels [--threads N] [--filter TEXT] [--all] [--bf16 | --bf16-values | --int8]\n");
      return 2;
    }
  }
  try {
    tenfold::run(options);
  } catch (const tenfold::Error& error) {
    std::fprintf(stderr, "bench_kernels: %s\n", error.what());
    return 1;
  }
  return 0;
}
