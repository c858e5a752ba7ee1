// Kernels of cuBLASLt and cuDNN among our own: every candidate against the reference, shapes that change under one
// kernel, recording and replaying, many threads, and kernels of ours before and behind that start early. Skipped, with
// the reason, without a GPU or without the library.
#include <atomic>
#include <thread>

#include "backend/cuda/vendor_library.hpp"
#include "build/builder.hpp"
#include "gpu/product_case.hpp"
#include "graph/text.hpp"
#include "ops/pointwise_form.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

using cuda::VendorLibrary;

/// "" if the library is here, else why not.
std::string why_missing(VendorLibrary library) {
  try {
    cuda::vendor_version(library);
    return "";
  } catch (const Error& error) {
    return error.message();
  }
}
#define TENFOLD_NEEDS_LIBRARY(library) \
  TENFOLD_NEEDS_GPU();                 \
  if (const std::string reason = why_missing(library); !reason.empty()) GTEST_SKIP() << reason

std::vector<Candidate> with_libraries(const Problem& problem) {
  Problem asked = problem;
  asked.libraries = {.cublas_lt = why_missing(VendorLibrary::cublas_lt).empty(),
                     .cudnn = why_missing(VendorLibrary::cudnn).empty()};
  return TestDevice::instance().backend().candidates(asked);
}

// --- Products

struct Product {
  Shape a, b;
  bool trans_a = false, trans_b = false, is_constant = true;
  std::string program = {};
  std::vector<Shape> operands = {};
};
KernelCase product_case(const Product& product) {
  KernelCase c{"MatMul",
               {{"trans_a", std::int64_t{product.trans_a}}, {"trans_b", std::int64_t{product.trans_b}}},
               {floats(product.a, 1), floats(product.b, 2)},
               {false, product.is_constant}};
  add_epilogue(c, product.program, product.operands);
  return c;
}
std::int64_t sums_of(const Product& product) { return product.a[product.a.size() - (product.trans_a ? 2 : 1)]; }
void check_product(const Product& product, DType dtype, bool tf32 = false) {
  const Offers offers = with_libraries;
  const std::int64_t k = sums_of(product);
  check_device_tactic(product_case(product), "gemm.cublaslt", tf32 ? tf32_tolerance(k) : tolerance_for(k, dtype), dtype,
                      tf32 ? as_tf32(offers) : offers);
}

TEST(GpuCublasLt, ProductsOfEveryTypeAndShape) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  for (const DType dtype : {DType::float16, DType::bfloat16, DType::float32}) {
    check_product({{128, 128}, {128, 128}}, dtype);
    check_product({{1, 1024}, {1024, 1000}}, dtype);
    check_product({{300, 200}, {200, 136}}, dtype);
    check_product({{130, 77}, {77, 65}}, dtype);
    check_product({{7, 33}, {33, 1}}, dtype);
    check_product({{520, 2048}, {640, 2048}, false, true}, dtype);
    check_product({{2, 3, 65, 36}, {36, 333}}, dtype);
  }
  check_product({{2048, 2048}, {2048, 2048}}, DType::float16);
}

TEST(GpuCublasLt, ComputedOperandsInEveryOrientation) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  for (const DType dtype : {DType::float16, DType::float32}) {
    check_product({{2, 3, 130, 64}, {2, 3, 64, 72}, false, false, false}, dtype);
    check_product({{2, 3, 130, 64}, {2, 3, 77, 64}, false, true, false}, dtype);
    check_product({{2, 3, 64, 130}, {2, 3, 64, 72}, true, false, false}, dtype);
    check_product({{2, 3, 64, 130}, {2, 3, 72, 64}, true, true, false}, dtype);
    check_product({{3, 50, 40}, {40, 48}, false, false, false}, dtype);
    check_product({{1, 128, 40}, {3, 40, 64}, false, false, false}, dtype);
    check_product({{3, 40, 50}, {40, 48}, true, false, false}, dtype);
  }
}

TEST(GpuCublasLt, EveryEpilogueThatItHas) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  const Shape a{260, 256}, b{256, 320}, bias{320}, whole{260, 320};
  for (const DType dtype : {DType::float16, DType::bfloat16, DType::float32}) {
    check_product({a, b, false, false, true, "relu 0"}, dtype);
    check_product({a, b, false, false, true, "mul_imm 0 0x1p-1"}, dtype);
    check_product({a, b, false, false, true, "add 0 1", {bias}}, dtype);
    check_product({a, b, false, false, true, "add 0 1; relu 2", {bias}}, dtype);
    check_product({a, b, false, false, true, "add 0 1", {whole}}, dtype);
    check_product({a, b, false, false, true, "add 0 1; relu 2", {whole}}, dtype);
    check_product({a, b, false, false, true, "add 0 1; add 3 2; relu 4", {bias, whole}}, dtype);
    check_product({a, b, false, false, true, "mul_imm 0 0x1p-1; add 3 1; add 4 2", {bias, whole}}, dtype);
  }
  check_product({{3, 65, 64}, {3, 64, 72}, false, false, false, "add 0 1; add 3 2; relu 4", {{72}, {3, 65, 72}}},
                DType::float16);
}

TEST(GpuCublasLt, ItsGeluIsTheOneByTanh) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  PointwiseProgram gelu;
  append_gelu_tanh(gelu);
  // Functions by the special-function unit have an error of 2^-11, which half of an operand of 8 makes 2^-9.
  const Tolerance tolerance{0x1p-8, 0x1p-9};
  check_device_tactic(product_case({{260, 256}, {256, 320}, false, false, true, gelu.to_string()}), "gemm.cublaslt",
                      tolerance, DType::float16, with_libraries);
}

TEST(GpuCublasLt, Tf32KeepsElevenBits) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  check_product({{300, 200}, {200, 136}}, DType::float32, true);
  check_product({{2, 3, 130, 64}, {2, 3, 77, 64}, false, true, false}, DType::float32, true);
}

TEST(GpuCublasLt, HalvesGiveFloat32) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  for (const DType dtype : {DType::float16, DType::bfloat16}) {
    const KernelCase c = product_case({{300, 200}, {200, 136}, false, false, true, "add 0 1", {{136}}});
    // Sums have a size of sqrt(200) / 3, and tensor cores cut off what is below 2^-22 of a sum.
    check_device_tactic(c, "gemm.cublaslt", {200 * 0x1p-22 * 6, 0x1p-20}, {dtype, dtype, DType::float32},
                        DType::float32, with_libraries);
  }
}

/// Whole numbers of 8 bits, with both orders of b. Not every version adds a bias to them.
TEST(GpuCublasLt, IntegersAreScaledAndRoundedToTheNearest) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  for (const bool trans_b : {false, true}) {
    constexpr std::int64_t kM = 72, kK = 256, kN = 96;
    const auto integers = [](const Shape& shape, std::uint32_t seed) {
      Tensor tensor = random_tensor(DType::float32, shape, seed, -127, 128);
      for (float& v : tensor.as_mutable<float>()) v = std::floor(v);
      return tensor;
    };
    KernelCase c{"MatMul",
                 {{"trans_b", std::int64_t{trans_b}}},
                 {integers({kM, kK}, 1), integers(trans_b ? Shape{kN, kK} : Shape{kK, kN}, 2)},
                 {false, true}};
    // Sums have a size of 127 * 127 / 3 * sqrt(k), about 2^16.4: results of about 50.
    c.attributes.set("epilogue", std::string("mul_imm 0 0x1p-11"));
    // A result halfway between two integers may become either.
    const Tolerance tolerance{0.501, 0};
    const std::vector<DType> types{DType::int8, DType::int8, DType::float32};
    check_device_tactic(c, "gemm.cublaslt", tolerance, types, DType::int8, with_libraries);
    c.attributes.set("epilogue", std::string("mul_imm 0 0x1p-11; add 2 1; relu 3"));
    c.attributes.set("epilogue_inputs", std::int64_t{1});
    c.inputs.push_back(floats({kN}, 3, 20));
    const bool is_offered = [&] {
      for (const Candidate& candidate : with_libraries(device_case(c, types, DType::int8)->problem)) {
        if (candidate.tactic == "gemm.cublaslt") return candidate.refusal.empty();
      }
      return false;
    }();
    if (is_offered) check_device_tactic(c, "gemm.cublaslt", tolerance, types, DType::int8, with_libraries);
  }
}

TEST(GpuCublasLt, Float8GivesHalves) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  if (!TestDevice::instance().backend().abilities().float8_products) GTEST_SKIP() << "no float8 on this device";
  // Fast accumulation keeps about 14 bits of the sums in every step.
  const Tolerance tolerance{0x1p-6 * 16, 0x1p-7};
  for (const bool trans_b : {false, true}) {
    const KernelCase c = product_case({{200, 256}, trans_b ? Shape{320, 256} : Shape{256, 320}, false, trans_b});
    check_device_tactic(c, "gemm.cublaslt", tolerance, std::vector<DType>(2, DType::float8e4m3), DType::float16,
                        with_libraries);
  }
}

// --- One kernel, many shapes and places

/// Operands of one run on the device.
struct Operands {
  std::vector<std::unique_ptr<DeviceOperand>> memory;
  std::vector<TensorView> inputs, outputs;
  std::unique_ptr<Buffer> workspace;

  Operands(const DeviceCase& test, const DeviceKernel& made) {
    const std::vector<int>& consumed = made.packed.consumed_inputs;
    for (std::size_t i = 0; i < test.inputs.size(); ++i) {
      const Tensor& tensor = test.inputs[i];
      if (tensor.empty() || std::find(consumed.begin(), consumed.end(), static_cast<int>(i)) != consumed.end()) {
        inputs.emplace_back();
        continue;
      }
      memory.push_back(std::make_unique<DeviceOperand>(tensor.dtype(), tensor.shape(), 0));
      memory.back()->fill_from(tensor);
      inputs.push_back(memory.back()->view());
    }
    memory.push_back(std::make_unique<DeviceOperand>(test.problem.outputs[0].dtype, test.problem.output_shapes[0], 0));
    outputs.push_back(memory.back()->view());
    workspace = TestDevice::instance().backend().allocate(
        std::max<std::size_t>(1, made.kernel->workspace_bytes(inputs, outputs)));
  }
  void run(const Kernel& kernel, Stream& stream) const {
    Launch launch;
    launch.inputs = inputs;
    launch.outputs = outputs;
    launch.workspace = {static_cast<std::byte*>(workspace->data()), workspace->size_bytes()};
    launch.stream = &stream;
    kernel.run(launch);
  }
  Tensor result() { return memory.back()->download(); }
};

Tensor reference_of(const DeviceCase& test) {
  const PreparedCase reference = prepare(test.reference);
  KernelSpec spec;
  spec.op = reference.problem.op;
  spec.tactic = "reference";
  spec.inputs = reference.problem.inputs;
  spec.outputs = reference.problem.outputs;
  return run_kernel(reference, *cpu_backend().make_kernel(spec), {}, {})[0];
}

std::vector<Candidate> candidates_of(const std::string& tactic, const Problem& problem) {
  std::vector<Candidate> found;
  for (Candidate& candidate : with_libraries(problem)) {
    if (candidate.tactic == tactic && candidate.refusal.empty()) found.push_back(std::move(candidate));
  }
  EXPECT_FALSE(found.empty()) << tactic << " offers nothing";
  return found;
}

std::shared_ptr<DeviceCase> halves(const KernelCase& c) {
  return device_case(c, std::vector<DType>(c.inputs.size(), DType::float16), DType::float16);
}
Product rows(std::int64_t m) { return {{m, 256}, {256, 320}, false, false, true, "add 0 1; relu 2", {{320}}}; }

TEST(GpuCublasLt, OneKernelServesEveryNumberOfRows) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  TestDevice& device = TestDevice::instance();
  const auto at_optimum = halves(product_case(rows(512)));
  for (const Candidate& candidate : candidates_of("gemm.cublaslt", at_optimum->problem)) {
    Problem open = at_optimum->problem;
    open.inputs[0].dims[0] = open.outputs[0].dims[0] = Dim::symbol("rows");
    const DeviceKernel made = make_device_kernel(open, candidate);
    for (const std::int64_t m : {1, 7, 64, 511, 512, 1000, 8192}) {
      const auto test = halves(product_case(rows(m)));
      Operands operands(*test, made);
      operands.run(*made.kernel, device.stream());
      device.stream().synchronize();
      EXPECT_EQ(device_difference(operands.result(), reference_of(*test), tolerance_for(256, DType::float16)), "")
          << m << " rows";
    }
  }
}

/// A kernel's answer recorded and replayed, and in several threads at once, is the same bit for bit.
void check_recorded_and_threaded(const KernelCase& c, const std::string& tactic) {
  TestDevice& device = TestDevice::instance();
  const Backend& backend = device.backend();
  const auto test = halves(c);
  for (const Candidate& candidate : candidates_of(tactic, test->problem)) {
    const DeviceKernel made = make_device_kernel(test->problem, candidate);
    Operands once(*test, made);
    once.run(*made.kernel, device.stream());
    device.stream().synchronize();
    const Tensor wanted = once.result();

    Operands recorded(*test, made);
    const auto graph = backend.capture(device.stream(), [&] {
      for (int i = 0; i < 3; ++i) recorded.run(*made.kernel, device.stream());
    });
    for (int i = 0; i < 3; ++i) graph->replay(device.stream());
    device.stream().synchronize();
    EXPECT_TRUE(recorded.result().equals(wanted)) << tactic << ": replayed, it is another result";

    constexpr int kThreads = 6, kRuns = 50;
    std::vector<std::unique_ptr<Operands>> places;
    std::vector<std::unique_ptr<Stream>> streams;
    for (int t = 0; t < kThreads; ++t) {
      places.push_back(std::make_unique<Operands>(*test, made));
      streams.push_back(backend.make_stream({}));
    }
    std::atomic<int> failures = 0;
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        try {
          for (int i = 0; i < kRuns; ++i) places[t]->run(*made.kernel, *streams[t]);
          streams[t]->synchronize();
        } catch (const Error&) {
          ++failures;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(failures, 0);
    for (const auto& place : places) {
      EXPECT_TRUE(place->result().equals(wanted)) << tactic << ": another result beside other threads";
    }
  }
}
TEST(GpuCublasLt, RecordedAndInManyThreads) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  check_recorded_and_threaded(product_case(rows(300)), "gemm.cublaslt");
}

/// Ours, the library's, ours, each on the result of the one before, without waiting in between: a kernel that starts
/// early must not read what the library has not written yet, nor write what it still reads.
TEST(GpuCublasLt, KernelsThatStartEarlyWaitForIt) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  TestDevice& device = TestDevice::instance();
  const auto test = halves(product_case({{1024, 512}, {512, 512}, false, false, true, "mul_imm 0 0x1p-4"}));
  const auto find_own = [&] {
    for (const char* tactic : {"gemm.wgmma", "gemm.tiles"}) {
      for (const Candidate& candidate : with_libraries(test->problem)) {
        if (candidate.tactic == tactic && candidate.refusal.empty()) return candidate;
      }
    }
    return Candidate{};
  };
  const DeviceKernel own = make_device_kernel(test->problem, find_own());
  const DeviceKernel library = make_device_kernel(test->problem, candidates_of("gemm.cublaslt", test->problem)[0]);
  Operands first(*test, own), second(*test, library);
  // x -> y by `first`, y -> x by `second`, again and again. A product makes numbers sqrt(512 / 3) / 16 times as large.
  constexpr int kSteps = 10;
  second.inputs[0] = first.outputs[0];
  second.outputs[0] = first.inputs[0];
  const auto run = [&](bool waits) {
    first.memory[0]->fill_from(test->inputs[0]);
    for (int i = 0; i < kSteps; ++i) {
      first.run(*own.kernel, device.stream());
      if (waits) device.stream().synchronize();
      second.run(*library.kernel, device.stream());
      if (waits) device.stream().synchronize();
    }
    device.stream().synchronize();
    return first.memory[0]->download();
  };
  const Tensor wanted = run(true);
  for (int repeat = 0; repeat < 20; ++repeat) EXPECT_TRUE(run(false).equals(wanted)) << "repeat " << repeat;
}

// --- Convolutions

/// Winograd's transforms lose a few bits, so exact kernels are asked for.
Offers strictly(const Offers& offers) {
  return [offers](const Problem& problem) {
    Problem strict = problem;
    strict.strict = true;
    return offers(strict);
  };
}

void check_conv(const Image& x, const Filter& f, DType dtype, const std::string& program = "",
                const std::vector<Shape>& operands = {}, bool tf32 = false) {
  const std::int64_t k = x.c / f.group * f.h * f.w;
  const Offers offers = strictly(with_libraries);
  check_device_tactic(conv_case(x, f, program, operands), "conv.cudnn",
                      tf32 ? tf32_tolerance(k) : tolerance_for(k, dtype), dtype, tf32 ? as_tf32(offers) : offers);
}

TEST(GpuCudnn, WindowsOfAllKinds) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cudnn);
  for (const DType dtype : {DType::float16, DType::bfloat16}) {
    check_conv({2, 14, 14, 64}, {128, 1, 1}, dtype, "relu 0");
    check_conv({2, 14, 14, 64}, {64, 3, 3, 1, 1}, dtype, "relu 0");
    check_conv({2, 15, 17, 64}, {64, 3, 3, 2, 1}, dtype);
    check_conv({2, 14, 14, 128}, {256, 1, 1, 2, 0}, dtype, "relu 0");
    check_conv({2, 19, 23, 32}, {40, 5, 5, 1, 2}, dtype, "relu 0");
    check_conv({2, 19, 23, 32}, {40, 3, 3, 1, 2, 2}, dtype);
  }
}
TEST(GpuCudnn, BiasResidualAndRelu) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cudnn);
  const Image x{2, 14, 14, 64};
  const Filter f{64, 3, 3, 1, 1};
  for (const DType dtype : {DType::float16, DType::bfloat16}) {
    check_conv(x, f, dtype);
    check_conv(x, f, dtype, "relu 0");
    check_conv(x, f, dtype, "add 0 1", {{2, 14, 14, 64}});
    check_conv(x, f, dtype, "add 0 1; relu 2", {{2, 14, 14, 64}});
  }
  // Without a bias of its own; what follows wants one of zeros.
  for (const std::string program : {"", "relu 0", "add 0 1; relu 2"}) {
    KernelCase c = conv_case(x, f, program,
                             program.starts_with("add") ? std::vector<Shape>{{2, 14, 14, 64}} : std::vector<Shape>{});
    c.inputs[2] = Tensor();
    check_device_tactic(c, "conv.cudnn", tolerance_for(64 * 9, DType::float16), DType::float16,
                        strictly(with_libraries));
  }
}
TEST(GpuCudnn, Groups) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cudnn);
  check_conv({2, 12, 13, 128}, {128, 3, 3, 1, 1, 1, 2}, DType::float16, "relu 0");
  check_conv({2, 12, 13, 128}, {128, 3, 3, 1, 1, 1, 8}, DType::float16, "add 0 1; relu 2", {{2, 12, 13, 128}});
}
TEST(GpuCudnn, Float32WithAndWithoutTf32) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cudnn);
  const Image x{2, 14, 14, 64};
  const Filter f{64, 3, 3, 1, 1};
  check_conv(x, f, DType::float32, "relu 0");
  check_conv(x, f, DType::float32, "relu 0", {}, true);
}
TEST(GpuCudnn, RecordedAndInManyThreads) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cudnn);
  check_recorded_and_threaded(conv_case({2, 14, 14, 64}, {64, 3, 3, 1, 1}, "add 0 1; relu 2", {{2, 14, 14, 64}}),
                              "conv.cudnn");
}

// --- A whole build

TEST(GpuLibraries, ABuildTimesTheirKernelsBesideOurs) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cudnn);
  const Graph graph = parse_graph(R"(
    graph g(%x: float32[4, 64, 28, 28]) {
      %w = constant float32[64, 64, 3, 3] random(1)
      %v = constant float32[64, 256] random(2)
      %a = Conv(%x, %w) {strides=[1, 1], pads=[1, 1, 1, 1]}
      %b = Relu(%a)
      %c = ReduceMean(%b) {axes=[2, 3], keepdims=0}
      %d = MatMul(%c, %v)
      return %d
    })");
  BuildOptions options;
  options.fp16 = true;
  options.libraries = {.cublas_lt = true, .cudnn = true};
  const BuildResult result = build(graph, TestDevice::instance().backend(), options);
  for (const std::string tactic : {"gemm.cublaslt", "conv.cudnn"}) {
    int timed = 0;
    std::string refusals;
    for (const PlanCandidate& line : result.plan.report) {
      if (line.tactic != tactic) continue;
      timed += line.time_us > 0 ? 1 : 0;
      refusals += "\n" + line.refusal;
    }
    EXPECT_GT(timed, 0) << tactic << refusals;
  }
}

}  // namespace
}  // namespace tenfold
