// Times the tensor-core kernels on layers of ResNet-50, BERT-base and the Stable Diffusion 1.5 UNet, beside the limit
// of the device, and checks sampled results against sums in double. Prints one Markdown table row per layer.
//
//   bench_gpu_kernels [filter] [--all]        --all: every candidate, not only the best
//   bench_gpu_kernels [filter] --libraries    our best kernel beside the best of cuBLASLt and cuDNN
//
// A time is that of one launch in a replayed CUDA graph of many, over rotated operands and weights, so that nothing is
// found in the second-level cache that would not be there in a network.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>

#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/cuda_tactic.hpp"
#include "ops/attention.hpp"
#include "ops/conv.hpp"
#include "ops/matmul.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

struct Layer {
  std::string name;
  int count = 1;  ///< in the network
  std::string op;
  Attributes attributes;
  std::vector<Shape> inputs;  ///< empty: omitted
  std::vector<bool> constant;
  Shape output;
  double flops = 0;
  std::vector<DType> types{};  ///< of the inputs; empty: all float16, as the output
  DType output_type = DType::float16;
  bool tf32 = false;
  std::string offers_of{};  ///< preset of an older device, whose kernels are timed here; empty: this device
  DType type(std::size_t input) const { return types.empty() ? DType::float16 : types[input]; }
};

constexpr double kPeakBytes = 3.35e12;  // H100 SXM data sheet
double peak_flops(const Layer& layer) {
  if (size_of(layer.type(0)) == 1) return 1979e12;
  if (layer.output_type != DType::float32) return 989e12;
  return layer.tf32 ? 495e12 : 67e12;
}

std::int64_t count(const Shape& shape) { return shape.empty() ? 0 : num_elements(shape); }

Layer conv(std::string name, int times, std::int64_t n, std::int64_t hw, std::int64_t c, std::int64_t k, std::int64_t r,
           std::int64_t stride, bool residual, bool image_channels = false) {
  const std::int64_t out = (hw + 2 * (r / 2) - r) / stride + 1;
  Layer layer{.name = std::move(name), .count = times, .op = "Conv"};
  const std::vector<std::int64_t> pads(4, r / 2);
  layer.attributes = {
      {"strides", std::vector<std::int64_t>{stride, stride}}, {"pads", pads}, {"layout", std::string("nhwc")}};
  layer.inputs = {{n, hw, hw, c}, {k, c, r, r}, {k}};
  layer.constant = {false, true, true};
  layer.output = {n, out, out, k};
  if (residual || image_channels) {
    layer.attributes.set("epilogue_inputs", std::int64_t{1});
    layer.attributes.set("epilogue", std::string(residual ? "add 0 1; relu 2" : "add 0 1"));
    layer.inputs.push_back(residual ? layer.output : Shape{n, 1, 1, k});
  } else {
    layer.attributes.set("epilogue", std::string("relu 0"));
  }
  layer.flops = 2.0 * static_cast<double>(count(layer.output) * c * r * r);
  return layer;
}
/// The same with images and weights of int8 or float8, and a scale per channel.
Layer quantised_conv(Layer layer, DType dtype) {
  const bool residual = layer.inputs.size() > 3;
  layer.inputs.insert(layer.inputs.begin() + 3, Shape{layer.output.back()});
  layer.attributes.set("epilogue_inputs", std::int64_t{residual ? 2 : 1});
  layer.attributes.set("epilogue", std::string(residual ? "fma 0 1 2; relu 3" : "mul 0 1; relu 2"));
  layer.types = {dtype, dtype, DType::float32, DType::float32, dtype};
  layer.output_type = dtype;
  return layer;
}
Layer gemm(std::string name, int times, std::int64_t m, std::int64_t k, std::int64_t n, const std::string& program,
           bool residual) {
  Layer layer{.name = std::move(name), .count = times, .op = "MatMul"};
  layer.inputs = {{m, k}, {k, n}, {n}};
  layer.constant = {false, true, false};
  layer.output = {m, n};
  if (residual) layer.inputs.push_back({m, n});
  layer.attributes.set("epilogue", program);
  layer.attributes.set("epilogue_inputs", std::int64_t{residual ? 2 : 1});
  layer.flops = 2.0 * static_cast<double>(m * k * n);
  return layer;
}
Layer quantised_gemm(std::string name, std::int64_t m, std::int64_t k, std::int64_t n, DType dtype, DType output) {
  Layer layer = gemm(std::move(name), 1, m, k, n, "mul 0 1", false);
  layer.types = {dtype, dtype, DType::float32};
  layer.output_type = output;
  return layer;
}
Layer attention(std::string name, int times, std::int64_t b, std::int64_t l, std::int64_t s, std::int64_t h,
                std::int64_t d, bool causal = false) {
  Layer layer{.name = std::move(name), .count = times, .op = "FusedAttention"};
  layer.attributes = {{"layout", std::string("blhd")}, {"causal", std::int64_t{causal}}};
  layer.inputs = {{b, l, h, d}, {b, s, h, d}, {b, s, h, d}};
  layer.constant = {false, false, false};
  layer.output = {b, l, h, d};
  layer.flops = 4.0 * static_cast<double>(b * l * s * h * d) * (causal ? 0.5 : 1.0);
  return layer;
}

/// The same in float32, exact or by tf32.
Layer float32(Layer layer, bool tf32) {
  layer.name = (tf32 ? "tf32 " : "fp32 ") + layer.name;
  layer.types.assign(layer.inputs.size(), DType::float32);
  layer.output_type = DType::float32;
  layer.tf32 = tf32;
  return layer;
}
/// The same by the kernels of older devices.
Layer tiles(Layer layer) {
  layer.name = "tiles " + layer.name;
  layer.offers_of = "a100";
  return layer;
}
Layer grouped(Layer layer, std::int64_t groups) {
  layer.attributes.set("group", groups);
  layer.inputs[1][1] /= groups;
  layer.flops /= static_cast<double>(groups);
  return layer;
}

std::vector<Layer> layers() {
  std::vector<Layer> all;
  const auto resnet = [&](const std::string& name, std::int64_t n, DType dtype) {
    const auto add = [&](int times, const char* what, std::int64_t hw, std::int64_t c, std::int64_t k, std::int64_t r,
                         std::int64_t stride, bool residual) {
      Layer layer = conv(name + " " + what, times, n, hw, c, k, r, stride, residual);
      all.push_back(size_of(dtype) == 1 ? quantised_conv(std::move(layer), dtype) : std::move(layer));
    };
    add(1, "stem 7x7 3>64 s2 @224", 224, 3, 64, 7, 2, false);
    add(1, "res2 1x1 64>64", 56, 64, 64, 1, 1, false);
    add(1, "res2 1x1 64>256", 56, 64, 256, 1, 1, false);
    add(3, "res2 3x3 64>64", 56, 64, 64, 3, 1, false);
    add(3, "res2 1x1 64>256 +res", 56, 64, 256, 1, 1, true);
    add(2, "res2 1x1 256>64", 56, 256, 64, 1, 1, false);
    add(1, "res3 1x1 256>512 s2", 56, 256, 512, 1, 2, false);
    add(1, "res3 1x1 256>128", 56, 256, 128, 1, 1, false);
    add(1, "res3 3x3 128>128 s2", 56, 128, 128, 3, 2, false);
    add(4, "res3 1x1 128>512 +res", 28, 128, 512, 1, 1, true);
    add(3, "res3 1x1 512>128", 28, 512, 128, 1, 1, false);
    add(3, "res3 3x3 128>128", 28, 128, 128, 3, 1, false);
    add(1, "res4 1x1 512>1024 s2", 28, 512, 1024, 1, 2, false);
    add(1, "res4 1x1 512>256", 28, 512, 256, 1, 1, false);
    add(1, "res4 3x3 256>256 s2", 28, 256, 256, 3, 2, false);
    add(6, "res4 1x1 256>1024 +res", 14, 256, 1024, 1, 1, true);
    add(5, "res4 1x1 1024>256", 14, 1024, 256, 1, 1, false);
    add(5, "res4 3x3 256>256", 14, 256, 256, 3, 1, false);
    add(1, "res5 1x1 1024>2048 s2", 14, 1024, 2048, 1, 2, false);
    add(1, "res5 1x1 1024>512", 14, 1024, 512, 1, 1, false);
    add(1, "res5 3x3 512>512 s2", 14, 512, 512, 3, 2, false);
    add(3, "res5 1x1 512>2048 +res", 7, 512, 2048, 1, 1, true);
    add(2, "res5 1x1 2048>512", 7, 2048, 512, 1, 1, false);
    add(2, "res5 3x3 512>512", 7, 512, 512, 3, 1, false);
  };
  resnet("rn50-b128", 128, DType::float16);
  resnet("rn50-b1", 1, DType::float16);
  resnet("rn50-int8-b256", 256, DType::int8);
  resnet("rn50-fp8-b256", 256, DType::float8e4m3);
  for (const std::int64_t b : {1, 32}) {
    const std::string name = "bert-b" + std::to_string(b);
    const std::int64_t m = 128 * b;
    all.push_back(gemm(name + " 768>768", 36, m, 768, 768, "add 0 1", false));
    all.push_back(gemm(name + " 768>768 +res", 12, m, 768, 768, "add 0 1; add 3 2", true));
    all.push_back(gemm(name + " 768>3072 gelu", 12, m, 768, 3072, "add 0 1; gelu 2", false));
    all.push_back(gemm(name + " 3072>768 +res", 12, m, 3072, 768, "add 0 1; add 3 2", true));
    all.push_back(attention(name + " attention", 12, b, 128, 128, 12, 64));
  }
  for (const std::int64_t b : {2, 8}) {
    const std::string name = "unet-b" + std::to_string(b) + " ";
    all.push_back(conv(name + "3x3 320>320 @64", 7, b, 64, 320, 320, 3, 1, true));
    all.push_back(conv(name + "3x3 640>320 @64", 2, b, 64, 640, 320, 3, 1, false, true));
    all.push_back(conv(name + "3x3 960>320 @64", 1, b, 64, 960, 320, 3, 1, false, true));
    all.push_back(conv(name + "3x3 640>640 @32", 6, b, 32, 640, 640, 3, 1, true));
    all.push_back(conv(name + "3x3 1280>640 @32", 1, b, 32, 1280, 640, 3, 1, false, true));
    all.push_back(conv(name + "3x3 640>640 @64", 1, b, 64, 640, 640, 3, 1, false));
    all.push_back(conv(name + "3x3 1280>1280 @16", 6, b, 16, 1280, 1280, 3, 1, true));
    all.push_back(conv(name + "3x3 2560>1280 @16", 2, b, 16, 2560, 1280, 3, 1, false, true));
    all.push_back(conv(name + "3x3 1280>1280 @8", 11, b, 8, 1280, 1280, 3, 1, true));
    all.push_back(conv(name + "3x3 2560>1280 @8", 3, b, 8, 2560, 1280, 3, 1, false, true));
    all.push_back(conv(name + "3x3 1280>1280 @32", 1, b, 32, 1280, 1280, 3, 1, false));
    all.push_back(conv(name + "3x3 320>4 @64", 1, b, 64, 320, 4, 3, 1, false));
    all.push_back(gemm(name + "320>320 @64 +res", 20, b * 4096, 320, 320, "add 0 1; add 3 2", true));
    all.push_back(gemm(name + "320>2560 @64", 5, b * 4096, 320, 2560, "add 0 1", false));
    all.push_back(gemm(name + "1280>320 @64 +res", 5, b * 4096, 1280, 320, "add 0 1; add 3 2", true));
    all.push_back(gemm(name + "640>640 @32 +res", 20, b * 1024, 640, 640, "add 0 1; add 3 2", true));
    all.push_back(gemm(name + "640>5120 @32", 5, b * 1024, 640, 5120, "add 0 1", false));
    all.push_back(gemm(name + "1280>1280 @16 +res", 20, b * 256, 1280, 1280, "add 0 1; add 3 2", true));
    all.push_back(gemm(name + "1280>10240 @16", 5, b * 256, 1280, 10240, "add 0 1", false));
    all.push_back(gemm(name + "5120>1280 @16 +res", 5, b * 256, 5120, 1280, "add 0 1; add 3 2", true));
    all.push_back(gemm(name + "768>320 text", 10, b * 77, 768, 320, "add 0 1", false));
    all.push_back(attention(name + "attention @64", 5, b, 4096, 4096, 8, 40));
    all.push_back(attention(name + "attention @32", 5, b, 1024, 1024, 8, 80));
    all.push_back(attention(name + "attention @16", 5, b, 256, 256, 8, 160));
    all.push_back(attention(name + "attention @64 text", 5, b, 4096, 77, 8, 40));
    all.push_back(attention(name + "attention @32 text", 5, b, 1024, 77, 8, 80));
    all.push_back(attention(name + "attention @16 text", 5, b, 256, 77, 8, 160));
  }
  for (const auto& layer :
       {conv("stem 7x7 3>64 s2 @224 b32", 1, 32, 224, 3, 64, 7, 2, false), conv("res2 3x3 64>64 b32", 1, 32, 56, 64, 64, 3, 1, false),
        conv("res4 3x3 256>256 b32", 1, 32, 14, 256, 256, 3, 1, false),
        conv("res4 1x1 256>1024 +res b32", 1, 32, 14, 256, 1024, 1, 1, true),
        conv("res5 3x3 512>512 b1", 1, 1, 7, 512, 512, 3, 1, false), gemm("4096^3", 1, 4096, 4096, 4096, "add 0 1", false),
        gemm("128x768x3072", 1, 128, 768, 3072, "add 0 1; gelu 2", false)}) {
    all.push_back(float32(layer, false));
    all.push_back(float32(layer, true));
    all.push_back(tiles(layer));
    all.push_back(tiles(float32(layer, true)));
  }
  all.push_back(
      tiles(quantised_conv(conv("int8 res4 3x3 256>256 b32", 1, 32, 14, 256, 256, 3, 1, false), DType::int8)));
  all.push_back(conv("odd 3x3 70>70 b32", 1, 32, 28, 70, 70, 3, 1, false));
  all.push_back(conv("odd 3x3 33>33 b32", 1, 32, 28, 33, 33, 3, 1, false));
  all.push_back(grouped(conv("resnext 3x3 128>128 g32 b32", 1, 32, 56, 128, 128, 3, 1, false), 32));
  all.push_back(grouped(conv("resnext 3x3 512>512 g32 b32", 1, 32, 14, 512, 512, 3, 1, false), 32));
  all.push_back(gemm("gemm 8192^3", 1, 8192, 8192, 8192, "add 0 1", false));
  for (const std::int64_t n : {8192, 4096}) {
    const std::string name = "gemm " + std::to_string(n) + "^3 ";
    all.push_back(quantised_gemm(name + "fp8>fp8", n, n, n, DType::float8e4m3, DType::float8e4m3));
    all.push_back(quantised_gemm(name + "fp8>fp16", n, n, n, DType::float8e4m3, DType::float16));
    all.push_back(quantised_gemm(name + "int8>int8", n, n, n, DType::int8, DType::int8));
  }
  all.push_back(gemm("gemm 4096^3", 1, 4096, 4096, 4096, "add 0 1", false));
  all.push_back(attention("attention 16x1024 h16 d128", 1, 16, 1024, 1024, 16, 128));
  all.push_back(attention("attention 4x4096 h16 d64", 1, 4, 4096, 4096, 16, 64));
  all.push_back(attention("attention 4x4096 h16 d64 causal", 1, 4, 4096, 4096, 16, 64, true));
  return all;
}

/// Normal numbers of this deviation (whole ones for int8); a block of a million that repeats, because only its values
/// matter.
Tensor random_tensor(DType dtype, const Shape& shape, double deviation, unsigned seed) {
  Tensor tensor(dtype, shape);
  dispatch(dtype, [&]<typename T>() {
    auto values = tensor.as_mutable<T>();
    std::minstd_rand engine(seed + 1);
    std::normal_distribution<float> normal(0, static_cast<float>(deviation));
    constexpr std::size_t kBlock = 1000003;
    for (std::size_t i = 0; i < std::min(kBlock, values.size()); ++i) {
      if constexpr (std::is_integral_v<T>)
        values[i] = static_cast<T>(std::clamp(std::round(normal(engine)), -127.0F, 127.0F));
      else
        values[i] = static_cast<T>(normal(engine));
    }
    for (std::size_t i = kBlock; i < values.size(); ++i) values[i] = values[i - kBlock];
  });
  return tensor;
}

struct Operands {
  std::vector<std::unique_ptr<Buffer>> buffers;
  std::vector<TensorView> inputs, outputs;
  std::unique_ptr<Kernel> kernel;
  std::unique_ptr<Buffer> workspace;
};

class Bench {
 public:
  Bench() : backend_(cuda::make_cuda_backend(0)), stream_(backend_->make_stream({})) {}

  void run(const Layer& layer, bool all) {
    const Prepared prepared = prepare(layer);
    std::string refusals;
    std::vector<Candidate> candidates = most_promising(
        layer.offers_of.empty()
            ? backend_->candidates(prepared.problem)
            : cuda::make_offline_backend(cuda::preset_traits(layer.offers_of))->candidates(prepared.problem),
        refusals);
    const double bytes = prepared.bytes;
    const double limit_us = 1e6 * std::max(layer.flops / peak_flops(layer), bytes / kPeakBytes);
    if (candidates.empty()) {
      std::printf("| %s | %d | - | | | %.2f | | no kernel: %s |\n", layer.name.c_str(), layer.count, limit_us,
                  refusals.c_str());
      return;
    }
    const std::vector<Timed> timed = time_all(layer, prepared, std::move(candidates));
    const auto row = [&](const Timed& kernel, const char* mark) {
      std::printf("| %s%s | %d | %.2f | %.0f | %.0f | %.2f | %.0f%% | %s est %.1f %s|\n", mark, layer.name.c_str(),
                  layer.count, kernel.us, layer.flops / kernel.us * 1e-6, bytes / kernel.us * 1e-3, limit_us,
                  100 * limit_us / kernel.us, describe(kernel.candidate).c_str(), kernel.candidate.estimated_us,
                  kernel.verdict.c_str());
    };
    row(timed.front(), "");
    for (std::size_t i = 0; all && i < timed.size(); ++i) row(timed[i], "- ");
    for (std::size_t i = 1; i < timed.size(); ++i) {
      if (!timed[i].verdict.empty()) row(timed[i], "WRONG ");
    }
    std::fflush(stdout);
    const std::string network = layer.name.substr(0, layer.name.find(' '));
    totals_[network] += timed.front().us * layer.count;
    limits_[network] += limit_us * layer.count;
  }
  void print_totals() const {
    for (const auto& [name, total] : totals_)
      std::printf("sum %s: %.1f us, limit %.1f us\n", name.c_str(), total, limits_.at(name));
  }

  /// One row: our best, the libraries' best. Where they have no such epilogue, their bare product stands for them,
  /// which is less work than ours.
  void compare_libraries(const Layer& layer) {
    const bool is_conv = layer.op == "Conv";
    if ((!is_conv && layer.op != "MatMul") || !layer.offers_of.empty()) return;
    std::string our_refusals, refusals, bare_refusals;
    const Prepared prepared = prepare(layer);
    std::vector<Candidate> ours = most_promising(backend_->candidates(prepared.problem), our_refusals);
    Prepared theirs = prepare(layer);
    std::vector<Candidate> library = library_candidates(theirs, is_conv, refusals);
    Layer library_layer = layer;
    const bool is_bare = library.empty();
    if (is_bare) {
      library_layer = bare(layer);
      theirs = prepare(library_layer);
      library = library_candidates(theirs, is_conv, bare_refusals);
    }
    if (ours.empty()) throw Error(Code::internal, fmt::format("{}: no kernel of ours: {}", layer.name, our_refusals));
    if (library.empty()) {
      std::fprintf(stderr, "%s: no kernel of a library: %s\n", layer.name.c_str(), refusals.c_str());
      return;
    }
    Timed our_best = time_all(layer, prepared, std::move(ours)).front();
    Timed library_best = time_all(library_layer, theirs, std::move(library)).front();
    // Again in turns: between the first measurements of the two lay seconds.
    constexpr int kTurns = 2;
    for (int turn = 0; turn < kTurns; ++turn) {
      our_best.us = std::min(our_best.us, time_all(layer, prepared, {our_best.candidate}).front().us);
      library_best.us = std::min(library_best.us, time_all(library_layer, theirs, {library_best.candidate}).front().us);
    }
    std::printf("| %s | %d | %.2f | %.2f%s | %.2f | %s%s | %s%s |\n", layer.name.c_str(), layer.count, our_best.us,
                library_best.us, is_bare ? " (bare)" : "", our_best.us / library_best.us,
                describe(our_best.candidate).c_str(), our_best.verdict.c_str(), library_best.candidate.tactic.c_str(),
                library_best.verdict.c_str());
    std::fflush(stdout);
  }

 private:
  /// A layer's problem with random operands.
  struct Prepared {
    Problem problem;
    std::vector<Tensor> tensors;
    double bytes = 0;  ///< of operands and result
  };
  struct Timed {
    Candidate candidate;
    double us = 0;
    std::string verdict;  ///< empty: the sampled results are right
  };

  static Prepared prepare(const Layer& layer) {
    Prepared prepared;
    Problem& problem = prepared.problem;
    problem.op = make_op(layer.op, layer.attributes);
    problem.tf32 = layer.tf32;
    std::vector<Tensor>& tensors = prepared.tensors;
    tensors.reserve(layer.inputs.size());
    // Quantised operands have a size of 40 steps, or of 8, and their scale brings results to 20.
    const bool is_quantised = size_of(layer.type(0)) == 1;
    const double step = layer.type(0) == DType::int8 ? 40 : 8;
    const std::size_t scale_at = layer.op == "Conv" ? 3 : 2;
    const auto output_size = static_cast<double>(size_of(layer.output_type));
    double bytes = static_cast<double>(count(layer.output)) * output_size;
    for (std::size_t i = 0; i < layer.inputs.size(); ++i) {
      const Shape& shape = layer.inputs[i];
      const double k = layer.flops / 2 / static_cast<double>(count(layer.output));
      double deviation = layer.op != "FusedAttention" && i == 1 ? 1 / std::sqrt(k) : 1;
      if (is_quantised) deviation = i == scale_at ? 20 / (step * step * std::sqrt(k)) : i == 2 ? 20 * step : step;
      tensors.push_back(random_tensor(layer.type(i), shape, deviation, static_cast<unsigned>(i)));
      problem.inputs.push_back(tensors.back().type());
      problem.input_shapes.push_back(shape);
      bytes += static_cast<double>(tensors.back().size_bytes());
    }
    for (std::size_t i = 0; i < tensors.size(); ++i)
      problem.constants.push_back(i < layer.constant.size() && layer.constant[i] ? &tensors[i] : nullptr);
    problem.outputs.push_back({layer.output_type, std::vector<Dim>(layer.output.begin(), layer.output.end())});
    problem.output_shapes.push_back(layer.output);

    prepared.bytes = bytes;
    return prepared;
  }
  /// The same product without what follows it, which every library has.
  static Layer bare(Layer layer) {
    const bool is_conv = layer.op == "Conv", is_int8 = layer.type(0) == DType::int8;
    const std::size_t operands = is_conv ? 3 : 2;
    layer.inputs.resize(operands);
    if (!layer.types.empty()) layer.types.resize(operands);
    Attributes attributes;
    for (const char* name : {"strides", "pads", "layout", "group"}) {
      if (const AttributeValue* value = layer.attributes.find(name)) attributes.set(name, *value);
    }
    // Sums of int8 become int8 by a factor: operands have a size of 40, results of about 20.
    if (is_int8) {
      const double k = layer.flops / 2 / static_cast<double>(count(layer.output));
      PointwiseProgram scale;
      scale.append(PointwiseCode::mul_imm, 0, 0, 0, static_cast<float>(20 / (40 * 40 * std::sqrt(k))));
      attributes.set("epilogue", scale.to_string());
    }
    if (layer.type(0) == DType::float8e4m3) layer.output_type = DType::float16;
    layer.attributes = attributes;
    return layer;
  }
  /// The first of those that do not refuse, by estimate.
  static std::vector<Candidate> most_promising(std::vector<Candidate> offered, std::string& refusals) {
    constexpr std::size_t kTimed = 8;
    std::vector<Candidate> candidates;
    for (Candidate& candidate : offered) {
      if (candidate.refusal.empty())
        candidates.push_back(std::move(candidate));
      else
        refusals += candidate.tactic + ": " + candidate.refusal + "; ";
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.estimated_us < b.estimated_us; });
    if (candidates.size() > kTimed) candidates.resize(kTimed);
    return candidates;
  }
  /// Throws Error(unsupported) if the library is not here.
  std::vector<Candidate> library_candidates(Prepared& prepared, bool is_conv, std::string& refusals) const {
    prepared.problem.libraries = {.cublas_lt = !is_conv, .cudnn = is_conv};
    std::vector<Candidate> offered;
    for (Candidate& candidate : backend_->candidates(prepared.problem)) {
      if (candidate.tactic == "gemm.cublaslt" || candidate.tactic == "conv.cudnn")
        offered.push_back(std::move(candidate));
    }
    return most_promising(std::move(offered), refusals);
  }
  static std::string describe(const Candidate& candidate) {
    std::string text = candidate.tactic + " [";
    for (const std::int64_t p : candidate.parameters) text += std::to_string(p) + " ";
    return text + "]";
  }
  /// Fastest first.
  std::vector<Timed> time_all(const Layer& layer, const Prepared& prepared, std::vector<Candidate> candidates) {
    std::vector<KernelSpec> specs;
    std::vector<PackedWeights> packs;
    for (const Candidate& candidate : candidates) {
      specs.push_back(spec_of(prepared.problem, candidate));
      packs.push_back(backend_->pack(prepared.problem, candidate));
    }
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      for (const auto& blob : packs[i].blobs) specs[i].weights.emplace_back(blob);
    }
    backend_->prepare(specs);
    std::vector<Timed> timed;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      Timed& kernel = timed.emplace_back();
      kernel.candidate = std::move(candidates[i]);
      kernel.us = time(layer, prepared.problem, prepared.tensors, specs[i], packs[i], prepared.bytes, kernel.verdict);
    }
    std::stable_sort(timed.begin(), timed.end(), [](const Timed& a, const Timed& b) { return a.us < b.us; });
    return timed;
  }
  static KernelSpec spec_of(const Problem& problem, const Candidate& candidate) {
    KernelSpec spec;
    spec.op = problem.op;
    spec.tactic = candidate.tactic;
    spec.parameters = candidate.parameters;
    spec.inputs = problem.inputs;
    spec.outputs = problem.outputs;
    return spec;
  }
  std::unique_ptr<Buffer> upload(std::span<const std::byte> data) {
    auto buffer = backend_->allocate(data.size());
    backend_->copy_to_device(buffer->data(), data.data(), data.size(), *stream_);
    stream_->synchronize();
    return buffer;
  }

  double time(const Layer& layer, const Problem& problem, const std::vector<Tensor>& tensors, KernelSpec spec,
              const PackedWeights& packed, double bytes, std::string& verdict) {
    const int num_sets = static_cast<int>(std::clamp(130e6 / bytes + 1, 1.0, 6.0));
    std::vector<Operands> sets(static_cast<std::size_t>(num_sets));
    for (Operands& set : sets) {
      spec.device_weights.clear();
      for (const auto& blob : packed.blobs) {
        set.buffers.push_back(upload(blob));
        spec.device_weights.push_back(set.buffers.back()->data());
      }
      set.kernel = backend_->make_kernel(spec);
      for (std::size_t i = 0; i < tensors.size(); ++i) {
        const bool consumed = std::find(packed.consumed_inputs.begin(), packed.consumed_inputs.end(),
                                        static_cast<int>(i)) != packed.consumed_inputs.end();
        if (consumed) {
          set.inputs.emplace_back();
          continue;
        }
        set.buffers.push_back(upload({tensors[i].data(), tensors[i].size_bytes()}));
        set.inputs.push_back(
            {set.buffers.back()->data(), layer.type(i), problem.input_shapes[i], problem.input_shapes[i].back()});
      }
      const auto output_bytes = static_cast<std::size_t>(count(layer.output)) * size_of(layer.output_type);
      set.buffers.push_back(backend_->allocate(output_bytes));
      static_cast<cuda::CudaStream&>(*stream_).fill(set.buffers.back()->data(), 0xff, output_bytes);
      set.outputs.push_back(
          {set.buffers.back()->data(), layer.output_type, problem.output_shapes[0], problem.output_shapes[0].back()});
      set.workspace =
          backend_->allocate(std::max<std::size_t>(1, set.kernel->workspace_bytes(set.inputs, set.outputs)));
    }
    const auto run = [&](Operands& set) {
      Launch launch;
      launch.inputs = set.inputs;
      launch.outputs = set.outputs;
      launch.workspace = {static_cast<std::byte*>(set.workspace->data()), set.workspace->size_bytes()};
      launch.stream = stream_.get();
      set.kernel->run(launch);
    };
    run(sets[0]);
    stream_->synchronize();
    verdict = check(layer, problem, tensors, sets[0]);
    constexpr int kLaunches = 24, kRepeats = 7;
    const auto graph = backend_->capture(*stream_, [&] {
      for (int i = 0; i < kLaunches; ++i) run(sets[static_cast<std::size_t>(i % num_sets)]);
    });
    graph->replay_timed(*stream_);
    std::vector<double> times;
    for (int i = 0; i < kRepeats; ++i) times.push_back(graph->replay_timed(*stream_) / kLaunches);
    std::nth_element(times.begin(), times.begin() + kRepeats / 2, times.end());
    return times[kRepeats / 2];
  }

  static double element(const Tensor& tensor, std::int64_t index) {
    const auto i = static_cast<std::size_t>(index);
    if (tensor.dtype() == DType::int8) return tensor.as<std::int8_t>()[i];
    if (tensor.dtype() == DType::float8e4m3) return static_cast<double>(tensor.as<Float8E4M3>()[i]);
    if (tensor.dtype() == DType::float32) return tensor.as<float>()[i];
    return static_cast<double>(static_cast<float>(tensor.as<Float16>()[i]));
  }

  /// Some results against sums in double; empty if they agree.
  std::string check(const Layer& layer, const Problem& problem, const std::vector<Tensor>& tensors, Operands& set) {
    Tensor got(layer.output_type, layer.output);
    backend_->copy_to_host(got.mutable_data(), set.outputs[0].data, got.size_bytes(), *stream_);
    stream_->synchronize();
    const auto y = [&](std::int64_t i) { return element(got, i); };
    const auto at = [&](std::size_t i, std::int64_t index) { return element(tensors[i], index); };
    std::mt19937_64 engine(1);
    for (int sample = 0; sample < 200; ++sample) {
      const std::int64_t index = static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(got.num_elements()));
      double wanted = 0;
      const std::int64_t n = layer.output.back(), column = index % n, row = index / n;
      PointwiseProgram program;
      std::size_t first = 0;
      if (const auto* conv = op_cast<Conv>(problem.op)) {
        const Shape& x = layer.inputs[0];
        const Shape& w = layer.inputs[1];
        const std::int64_t q = row % layer.output[2], p = row / layer.output[2] % layer.output[1],
                           image = row / layer.output[2] / layer.output[1];
        for (std::int64_t r = 0; r < w[2]; ++r) {
          for (std::int64_t s = 0; s < w[3]; ++s) {
            const std::int64_t h = p * conv->window().strides[0] - conv->window().pads[0] + r,
                               v = q * conv->window().strides[1] - conv->window().pads[1] + s;
            if (h < 0 || h >= x[1] || v < 0 || v >= x[2]) continue;
            const std::int64_t first_channel = column / (n / conv->group()) * w[1];
            for (std::int64_t c = 0; c < w[1]; ++c)
              wanted += at(0, ((image * x[1] + h) * x[2] + v) * x[3] + first_channel + c) *
                        at(1, ((column * w[1] + c) * w[2] + r) * w[3] + s);
          }
        }
        wanted += at(2, column);
        program = conv->epilogue().program;
        first = 3;
      } else if (const auto* matmul = op_cast<MatMul>(problem.op)) {
        const std::int64_t depth = layer.inputs[0].back();
        for (std::int64_t k = 0; k < depth; ++k) wanted += at(0, row * depth + k) * at(1, k * n + column);
        program = matmul->epilogue().program;
        first = 2;
      } else {
        return sampled_attention(layer, tensors, y);
      }
      std::vector<double> registers{wanted};
      for (std::size_t i = first; i < tensors.size(); ++i) {
        const Shape& shape = layer.inputs[i];
        std::int64_t place = column;
        if (shape == layer.output)
          place = index;
        else if (shape.size() == 4)
          place = row / layer.output[2] / layer.output[1] * n + column;
        registers.push_back(at(i, place));
      }
      for (const PointwiseInstruction& instruction : program.instructions)
        registers.push_back(
            evaluate(instruction, registers[instruction.a], registers[instruction.b], registers[instruction.c]));
      if (got.dtype() == DType::int8) registers.back() = std::clamp(registers.back(), -128.0, 127.0);
      if (got.dtype() == DType::float8e4m3) registers.back() = std::clamp(registers.back(), -448.0, 448.0);
      // float16 keeps 11 bits, and functions of the epilogue lose one more; an integer is the nearest one.
      double tolerance = got.dtype() == DType::int8 ? 0.51 : 4e-3 * (1 + std::abs(registers.back()));
      // Sums of float8 keep about 14 bits in every step; results have 4.
      if (layer.type(0) == DType::float8e4m3) tolerance = 0.5 + 0.07 * std::abs(registers.back());
      const double difference = std::abs(registers.back() - y(index));
      if (!(difference <= tolerance)) {
        return fmt::format("WRONG at {}: {} instead of {} ", index, y(index), registers.back());
      }
    }
    return "";
  }
  static std::string sampled_attention(const Layer& layer, const std::vector<Tensor>& tensors,
                                       const std::function<double(std::int64_t)>& y) {
    const Shape& q = layer.inputs[0];
    const std::int64_t keys = layer.inputs[1][1], heads = q[2], size = q[3];
    const auto at = [&](std::size_t i, std::int64_t index) { return element(tensors[i], index); };
    const bool causal = layer.attributes.get_int("causal", 0) == 1;
    std::mt19937_64 engine(1);
    for (int sample = 0; sample < 6; ++sample) {
      const std::int64_t b = static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(q[0])),
                         l = static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(q[1])),
                         h = static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(heads));
      const std::int64_t visible = causal ? std::min(keys, l + 1 + keys - q[1]) : keys;
      std::vector<double> p(static_cast<std::size_t>(visible));
      double sum = 0;
      for (std::int64_t s = 0; s < visible; ++s) {
        double score = 0;
        for (std::int64_t d = 0; d < size; ++d)
          score += at(0, ((b * q[1] + l) * heads + h) * size + d) * at(1, ((b * keys + s) * heads + h) * size + d);
        sum += p[static_cast<std::size_t>(s)] = std::exp(score / std::sqrt(static_cast<double>(size)));
      }
      for (std::int64_t d = 0; d < size; ++d) {
        double wanted = 0;
        for (std::int64_t s = 0; s < visible; ++s)
          wanted += p[static_cast<std::size_t>(s)] / sum * at(2, ((b * keys + s) * heads + h) * size + d);
        const auto got = y(((b * q[1] + l) * heads + h) * size + d);
        if (!(std::abs(got - wanted) <= 4e-3))
          return fmt::format("WRONG at [{}, {}, {}, {}]: {} instead of {} ", b, l, h, d, got, wanted);
      }
    }
    return "";
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Stream> stream_;
  std::map<std::string, double> totals_, limits_;
};

}  // namespace
}  // namespace tenfold

int main(int argc, char** argv) {
  using namespace tenfold;
  std::string filter;
  bool all = false, libraries = false;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--all")
      all = true;
    else if (std::string(argv[i]) == "--libraries")
      libraries = true;
    else
      filter = argv[i];
  }
  try {
    Bench bench;
    if (libraries) {
      std::printf(
          "| layer | times | ours us | library us | ours / library | our kernel | library's |\n"
          "|---|---|---|---|---|---|---|\n");
      for (const Layer& layer : layers()) {
        if (layer.name.find(filter) != std::string::npos) bench.compare_libraries(layer);
      }
      return 0;
    }
    std::printf(
        "| layer | times | us | TFLOP/s | GB/s | limit us | of limit | kernel |\n|---|---|---|---|---|---|---|---|\n");
    for (const Layer& layer : layers()) {
      if (layer.name.find(filter) != std::string::npos) bench.run(layer, all);
    }
    bench.print_totals();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
