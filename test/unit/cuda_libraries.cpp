// What can be said of cuBLASLt's and cuDNN's kernels without a GPU: which programs they compute, what is refused and
// why, what an engine file may ask for. What needs a library that is not here is skipped.
#include <cstdlib>

#include <gtest/gtest.h>

#include "backend/cuda/cublaslt_api.hpp"
#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/cudnn_api.hpp"
#include "backend/cuda/vendor_epilogue.hpp"
#include "backend/cuda/vendor_library.hpp"
#include "kernel_case.hpp"
#include "ops/pointwise_form.hpp"
#include "support/failure.hpp"

namespace tenfold::cuda {
namespace {

using Kind = EpilogueSpec::Kind;
using test::failure;

/// "" if the library is here, else why not.
std::string why_missing(VendorLibrary library) {
  try {
    vendor_version(library);
    return "";
  } catch (const Error& error) {
    return error.message();
  }
}
#define TENFOLD_NEEDS_LIBRARY(library) \
  if (const std::string reason = why_missing(library); !reason.empty()) GTEST_SKIP() << reason

bool has_gpu() {
  try {
    driver();
    return true;
  } catch (const Error&) {
    return false;
  }
}

// --- Programs

std::optional<VendorEpilogue> parse(const std::string& program, const std::vector<Kind>& kinds, std::string& refusal) {
  std::vector<EpilogueSpec::Operand> operands;
  for (const Kind kind : kinds) operands.push_back({.kind = kind});
  const auto parsed =
      program.empty() ? PointwiseProgram{} : PointwiseProgram::parse(1 + static_cast<int>(kinds.size()), program);
  return vendor_epilogue(parsed, operands, refusal);
}
VendorEpilogue accepted(const std::string& program, const std::vector<Kind>& kinds) {
  std::string refusal;
  const auto epilogue = parse(program, kinds, refusal);
  EXPECT_TRUE(epilogue.has_value()) << program << ": " << refusal;
  return epilogue.value_or(VendorEpilogue{});
}
std::string refused(const std::string& program, const std::vector<Kind>& kinds) {
  std::string refusal;
  EXPECT_FALSE(parse(program, kinds, refusal).has_value()) << program;
  return refusal;
}

TEST(VendorEpilogue, KnowsWhatTheLibrariesDoBehindAProduct) {
  using Activation = VendorEpilogue::Activation;
  EXPECT_EQ(accepted("", {}).activation, Activation::none);
  EXPECT_EQ(accepted("relu 0", {}).activation, Activation::relu);
  EXPECT_EQ(accepted("max_imm 0 0x0p+0", {}).activation, Activation::relu);
  EXPECT_EQ(accepted("add 0 1", {Kind::column}).bias, 0);
  EXPECT_EQ(accepted("add 1 0", {Kind::whole}).residual, 0);
  const VendorEpilogue all = accepted("mul_imm 0 0x1p-1; add 3 1; add 2 4; relu 5", {Kind::whole, Kind::column});
  EXPECT_EQ(all.alpha, 0.5F);
  EXPECT_EQ(all.bias, 1);
  EXPECT_EQ(all.residual, 0);
  EXPECT_EQ(all.activation, Activation::relu);
}

TEST(VendorEpilogue, GeluIsTheOneByTanhInTheFormThatFusionGivesIt) {
  PointwiseProgram gelu;
  gelu.num_inputs = 2;
  const int sum = gelu.append(PointwiseCode::add, 0, 1);
  // The same instructions as append_gelu_tanh, on register `sum`.
  PointwiseProgram plain;
  append_gelu_tanh(plain);
  for (PointwiseInstruction instruction : plain.instructions) {
    const auto moved = [&](std::uint8_t r) { return static_cast<std::uint8_t>(r == 0 ? sum : r - 1 + sum + 1); };
    if (num_operands(instruction.code) > 0) instruction.a = moved(instruction.a);
    if (num_operands(instruction.code) > 1) instruction.b = moved(instruction.b);
    gelu.instructions.push_back(instruction);
  }
  const std::vector<EpilogueSpec::Operand> operands{{.kind = Kind::column}};
  std::string refusal;
  const auto epilogue = vendor_epilogue(gelu, operands, refusal);
  ASSERT_TRUE(epilogue.has_value()) << refusal;
  EXPECT_EQ(epilogue->activation, VendorEpilogue::Activation::gelu_tanh);
  EXPECT_EQ(epilogue->bias, 0);

  gelu.instructions.back().b = 0;
  EXPECT_FALSE(vendor_epilogue(gelu, operands, refusal).has_value());
  EXPECT_NE(refused("add 0 1; gelu 2", {Kind::column}).find("by erf"), std::string::npos);
}

TEST(VendorEpilogue, RefusesWhatTheLibrariesHaveNot) {
  EXPECT_NE(refused("silu 0", {}).find("'silu'"), std::string::npos);
  EXPECT_NE(refused("mul 0 1", {Kind::column}).find("'mul'"), std::string::npos);
  EXPECT_NE(refused("relu 0; add 2 1", {Kind::whole}).find("behind an activation"), std::string::npos);
  EXPECT_NE(refused("add 0 1; mul_imm 2 0x1p-1", {Kind::column}).find("multiplies the sums"), std::string::npos);
  EXPECT_NE(refused("add 0 1", {Kind::scalar}).find("for each column"), std::string::npos);
  EXPECT_NE(refused("add 0 1", {Kind::broadcast}).find("for each column"), std::string::npos);
  EXPECT_NE(refused("add 0 1; add 3 2", {Kind::column, Kind::column}).find("one bias"), std::string::npos);
  EXPECT_NE(refused("mul_imm 1 0x1p-1; add 0 2", {Kind::whole}).find("multiplies the sums"), std::string::npos);
  EXPECT_NE(refused("add 0 0", {}).find("as they are"), std::string::npos);
}

// --- Problems

Tensor floats(const Shape& shape, DType dtype = DType::float32) { return random_tensor(dtype, shape, 1, -1, 1); }

/// A node whose operands are of `dtype`.
PreparedCase problem_of(KernelCase c, DType dtype, DType output) {
  PreparedCase prepared = prepare(c);
  for (TensorType& type : prepared.problem.inputs) {
    if (type.dtype == DType::float32) type.dtype = dtype;
  }
  prepared.problem.outputs[0].dtype = output;
  prepared.problem.libraries = {.cublas_lt = true, .cudnn = true};
  return prepared;
}
PreparedCase product(const Shape& a, const Shape& b, DType dtype, bool trans_b = false, const std::string& program = "",
                     const std::vector<Shape>& operands = {}, bool is_constant = true,
                     DType output = DType::undefined) {
  KernelCase c{"MatMul", {{"trans_b", std::int64_t{trans_b}}}, {floats(a), floats(b)}, {false, is_constant}};
  if (!program.empty()) c.attributes.set("epilogue", program);
  if (!operands.empty()) c.attributes.set("epilogue_inputs", static_cast<std::int64_t>(operands.size()));
  for (const Shape& shape : operands) c.inputs.push_back(floats(shape));
  return problem_of(c, dtype, output == DType::undefined ? dtype : output);
}
PreparedCase convolution(const Shape& x, const Shape& w, DType dtype, const std::string& program = "relu 0") {
  KernelCase c{"Conv",
               {{"strides", std::vector<std::int64_t>{1, 1}},
                {"pads", std::vector<std::int64_t>{1, 1, 1, 1}},
                {"group", x[3] / w[1]},
                {"layout", std::string("nhwc")}},
               {floats(x), floats(w), floats({w[0]})},
               {false, true, true}};
  if (!program.empty()) c.attributes.set("epilogue", program);
  return problem_of(c, dtype, dtype);
}

const CudaTactic& tactic(std::string_view name, std::string_view op) {
  const CudaTactic* found = find_tactic(name, op);
  EXPECT_NE(found, nullptr) << name;
  return *found;
}
/// What the tactic itself says; "" if it had asked the device next.
std::string refusal_of(std::string_view name, const Problem& problem) {
  std::vector<Candidate> offered;
  try {
    tactic(name, problem.op->type()).candidates(problem, preset_traits("h100"), offered);
  } catch (const Error& error) {
    EXPECT_EQ(error.message().find("cuBLASLt,"), std::string::npos) << error.message();
    EXPECT_EQ(error.message().find("cuDNN,"), std::string::npos) << error.message();
    return "";
  }
  if (offered.empty()) return "nothing offered";
  return offered[0].refusal;
}

TEST(LibraryTactics, AreOfferedToThoseWhoAskOnly) {
  const auto offline = make_offline_backend(preset_traits("h100"));
  PreparedCase prepared = product({64, 64}, {64, 64}, DType::float16);
  const auto lines_of = [&](std::string_view name) {
    std::vector<Candidate> lines;
    for (Candidate& candidate : offline->candidates(prepared.problem)) {
      if (candidate.tactic == name) lines.push_back(std::move(candidate));
    }
    return lines;
  };
  ASSERT_EQ(lines_of("gemm.cublaslt").size(), 1U);
  EXPECT_NE(lines_of("gemm.cublaslt")[0].refusal.find("on a device only"), std::string::npos);
  prepared.problem.libraries = {.cudnn = true};
  EXPECT_TRUE(lines_of("gemm.cublaslt").empty());
  prepared.problem.libraries = {};
  EXPECT_TRUE(lines_of("gemm.cublaslt").empty());
  EXPECT_FALSE(lines_of("gemm.wgmma").empty());
}

TEST(LibraryTactics, ProductsThatCublasLtDoesNotComputeAreRefusedWithTheReason) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  const auto refusal = [](const PreparedCase& prepared) { return refusal_of("gemm.cublaslt", prepared.problem); };
  EXPECT_NE(refusal(product({64}, {64, 64}, DType::float16)).find("vector"), std::string::npos);
  EXPECT_NE(refusal(product({8, 64}, {64, 64}, DType::uint8)).find("not uint8"), std::string::npos);
  EXPECT_NE(refusal(product({8, 64}, {64, 64}, DType::float16, false, "", {}, true, DType::bfloat16)).find("stores no"),
            std::string::npos);
  EXPECT_NE(refusal(product({2, 3, 8, 64}, {3, 64, 64}, DType::float16, false, "", {}, false)).find("broadcast"),
            std::string::npos);
  EXPECT_NE(refusal(product({8, 64}, {64, 64}, DType::float16, false, "tanh 0")).find("'tanh'"), std::string::npos);
  EXPECT_NE(refusal(product({8, 60}, {60, 64}, DType::int8)).find("multiples of 16"), std::string::npos);
  EXPECT_NE(
      refusal(product({8, 64}, {64, 64}, DType::int8, false, "", {}, false)).find("rows are the result's columns"),
      std::string::npos);
  PreparedCase mixed = product({8, 64}, {64, 64}, DType::float16, false, "add 0 1", {{64}});
  mixed.problem.inputs[2].dtype = DType::float32;
  EXPECT_NE(refusal(mixed).find("float16 bias"), std::string::npos);
}

TEST(LibraryTactics, TheLibraryUnderstandsTheDescriptionOfEveryProduct) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  if (has_gpu()) GTEST_SKIP() << "test_gpu runs them";
  const auto refusal = [](const PreparedCase& prepared) { return refusal_of("gemm.cublaslt", prepared.problem); };
  for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
    EXPECT_EQ(refusal(product({8, 64}, {64, 48}, dtype)), "");
    EXPECT_EQ(refusal(product({2, 8, 64}, {48, 64}, dtype, true, "add 0 1; relu 2", {{48}})), "");
    EXPECT_EQ(refusal(product({2, 8, 64}, {2, 64, 48}, dtype, false, "add 0 1; add 3 2", {{48}, {2, 8, 48}}, false)),
              "");
  }
  EXPECT_EQ(refusal(product({8, 64}, {64, 48}, DType::float16, false, "", {}, true, DType::float32)), "");
  EXPECT_EQ(refusal(product({8, 64}, {64, 48}, DType::int8, false, "mul_imm 0 0x1p-8; relu 1")), "");
  EXPECT_EQ(refusal(product({8, 64}, {48, 64}, DType::float8e4m3, true, "", {}, true, DType::float16)), "");
}

TEST(LibraryTactics, ConvolutionsThatCudnnDoesNotComputeAreRefusedWithTheReason) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cudnn);
  const auto refusal = [](const PreparedCase& prepared) { return refusal_of("conv.cudnn", prepared.problem); };
  EXPECT_NE(refusal(convolution({1, 8, 8, 16}, {16, 16, 3, 3}, DType::float8e4m3)).find("not float8"),
            std::string::npos);
  EXPECT_NE(refusal(convolution({1, 8, 8, 16}, {16, 16, 3, 3}, DType::float16, "silu 0")).find("'silu'"),
            std::string::npos);
  PreparedCase open = convolution({1, 8, 8, 16}, {16, 16, 3, 3}, DType::float16);
  open.problem.inputs[0].dims[0] = Dim::symbol("batch");
  open.problem.outputs[0].dims[0] = Dim::symbol("batch");
  EXPECT_NE(refusal(open).find("one shape"), std::string::npos);
  if (!has_gpu()) {
    EXPECT_EQ(refusal(convolution({1, 8, 8, 16}, {16, 16, 3, 3}, DType::float16)), "");
  }
}

// --- What is known to go wrong

TEST(LibraryTactics, ConvolutionsOf8BitIntegersByCudnnAreQuarantined) {
  const PreparedCase integers = convolution({1, 8, 8, 16}, {16, 16, 3, 3}, DType::int8);
  const PreparedCase halves = convolution({1, 8, 8, 16}, {16, 16, 3, 3}, DType::float16);
  const auto verdict = [](VendorLibrary library, const PreparedCase& prepared) {
    return refuses_quarantined(library, 91900,
                               {*prepared.problem.op, prepared.problem.inputs, prepared.problem.outputs});
  };
  const Refusal reason = verdict(VendorLibrary::cudnn, integers);
  ASSERT_TRUE(reason.has_value());
  EXPECT_NE(reason->find("cuDNN 9.19.0"), std::string::npos) << *reason;
  EXPECT_NE(reason->find("issues/422"), std::string::npos) << *reason;
  EXPECT_FALSE(verdict(VendorLibrary::cudnn, halves).has_value());
  EXPECT_FALSE(verdict(VendorLibrary::cublas_lt, integers).has_value());
}

// --- Engine files

class NoModule final : public LoadedModule {
 public:
  Function function(std::string_view) const override { throw Error(Code::internal, "no module"); }
  const void* weight(std::size_t) const override { return nullptr; }
  const DeviceTraits& traits() const override { return traits_; }

 private:
  DeviceTraits traits_ = preset_traits("h100");
};

std::string make_failure(std::string_view name, const Problem& problem, std::vector<std::int64_t> parameters,
                         const std::vector<std::vector<std::byte>>& weights = {}) {
  KernelSpec spec;
  spec.op = problem.op;
  spec.tactic = name;
  spec.parameters = std::move(parameters);
  spec.inputs = problem.inputs;
  spec.outputs = problem.outputs;
  for (const auto& blob : weights) spec.weights.emplace_back(blob);
  return failure(Code::incompatible_engine, [&] { tactic(name, problem.op->type()).make(spec, NoModule()); });
}

TEST(LibraryTactics, AnEngineNeedsTheVersionItWasBuiltWith) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  std::vector<std::int64_t> parameters(12, 0);
  parameters[0] = 120304;
  const PreparedCase prepared = product({8, 64}, {64, 48}, DType::float16);
  const std::string message = make_failure("gemm.cublaslt", prepared.problem, parameters);
  EXPECT_NE(message.find("chosen with cuBLASLt 12.3.4, but "), std::string::npos) << message;
  EXPECT_NE(message.find("build the engine anew"), std::string::npos) << message;
}

TEST(LibraryTactics, AnEngineIsNotBelieved) {
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cublas_lt);
  TENFOLD_NEEDS_LIBRARY(VendorLibrary::cudnn);
  const PreparedCase halves = product({8, 64}, {64, 48}, DType::float16);
  const auto here = [](VendorLibrary library) { return static_cast<std::int64_t>(vendor_version(library)); };
  std::vector<std::int64_t> good(12, 0);
  good[0] = here(VendorLibrary::cublas_lt);
  good[1] = cublaslt::kComputeFloat32;
  const auto with = [&](std::size_t index, std::int64_t value) {
    std::vector<std::int64_t> changed = good;
    changed[index] = value;
    return make_failure("gemm.cublaslt", halves.problem, changed);
  };
  EXPECT_NE(make_failure("gemm.cublaslt", halves.problem, {1, 2, 3}).find("parameters"), std::string::npos);
  EXPECT_NE(with(1, cublaslt::kComputeTf32).find("do not fit"), std::string::npos);
  EXPECT_NE(with(1, cublaslt::kComputeInt32).find("do not fit"), std::string::npos);
  EXPECT_NE(with(2, 1).find("do not fit"), std::string::npos);
  EXPECT_NE(with(3, -1).find("do not fit"), std::string::npos);
  EXPECT_NE(with(3, std::int64_t{1} << 40).find("do not fit"), std::string::npos);
  EXPECT_NE(make_failure("gemm.cublaslt", halves.problem, good, {std::vector<std::byte>(8)}).find("packed matrix"),
            std::string::npos);
  const PreparedCase silu = product({8, 64}, {64, 48}, DType::float16, false, "silu 0");
  EXPECT_NE(make_failure("gemm.cublaslt", silu.problem, good).find("cannot run this product"), std::string::npos);

  const std::int64_t version = here(VendorLibrary::cudnn);
  const PreparedCase conv = convolution({1, 8, 8, 16}, {16, 16, 3, 3}, DType::float16);
  EXPECT_NE(make_failure("conv.cudnn", conv.problem, {version}).find("parameters"), std::string::npos);
  EXPECT_NE(make_failure("conv.cudnn", conv.problem, {version, 0, 1, 2}).find("parameters"), std::string::npos);
  EXPECT_NE(make_failure("conv.cudnn", conv.problem, {version, 4, 1}).find("name no kernel"), std::string::npos);
  EXPECT_NE(make_failure("conv.cudnn", conv.problem, {version, 0, -1}).find("name no kernel"), std::string::npos);
  EXPECT_NE(make_failure("conv.cudnn", conv.problem, {version, 0, 1, 99, 0}).find("name no kernel"), std::string::npos);
  EXPECT_NE(make_failure("conv.cudnn", conv.problem, {version, 0, 1}).find("expects a filter"), std::string::npos);
  const PreparedCase integers = convolution({1, 8, 8, 16}, {16, 16, 3, 3}, DType::int8);
  EXPECT_NE(make_failure("conv.cudnn", integers.problem, {version, 0, 1}).find("issues/422"), std::string::npos);
}

TEST(LibraryTactics, AMissingLibraryIsOneSentenceThatSaysHowToGetIt) {
  const auto with_variable = [](const char* name, const char* value, VendorLibrary library) {
    setenv(name, value, 1);
    const std::string message = failure(Code::unsupported, [&] { open_vendor_library(library); });
    unsetenv(name);
    return message;
  };
  EXPECT_NE(
      with_variable("TENFOLD_CUBLASLT", "/nowhere/libcublasLt.so", VendorLibrary::cublas_lt).find("TENFOLD_CUBLASLT"),
      std::string::npos);
  EXPECT_NE(with_variable("TENFOLD_CUDNN", "/nowhere/libcudnn.so", VendorLibrary::cudnn).find("/nowhere/libcudnn.so"),
            std::string::npos);
  for (const VendorLibrary library : {VendorLibrary::cublas_lt, VendorLibrary::cudnn}) {
    const std::string reason = why_missing(library);
    if (!reason.empty()) {
      EXPECT_NE(reason.find("pip: nvidia-"), std::string::npos) << reason;
    }
    EXPECT_NE(failure(Code::unsupported, [&] { check_vendor_version(library, 80907); }).find("8.9.7 is here, but "),
              std::string::npos);
  }
}

}  // namespace
}  // namespace tenfold::cuda
