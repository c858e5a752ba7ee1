// What can be said of the CUDA backend without a GPU: its door, its tactics, refusals, and who may trust its code.
#include "backend/cuda/cuda_backend.hpp"

#include <array>
#include <set>

#include <gtest/gtest.h>

#include "base/machine_key.hpp"
#include "build/builder.hpp"
#include "engine/engine_file.hpp"
#include "ops/registry.hpp"
#include "support/failure.hpp"

namespace tenfold {
namespace {

using test::failure;

TEST(CudaBackend, DevicesAreNamedAndUnknownOnesRefused) {
  EXPECT_EQ(&find_backend("cpu"), &cpu_backend());
  EXPECT_NE(failure(Code::invalid_argument, [] { find_backend("tpu"); }).find("'tpu'"), std::string::npos);
  EXPECT_NE(failure(Code::invalid_argument, [] { find_backend("cuda:"); }).find("number"), std::string::npos);
  EXPECT_NE(failure(Code::invalid_argument, [] { find_backend("cuda:12345"); }).find("number"), std::string::npos);
  EXPECT_NE(failure(Code::invalid_argument, [] { find_backend("cuda:h999"); }).find("h100"), std::string::npos);
}

TEST(CudaBackend, ALibraryOfItsOwnSaysWhatItWouldRun) {
  const Backend& backend = find_backend("cuda:h100");
  EXPECT_EQ(backend.name(), "cuda");
  EXPECT_EQ(backend.target(), "sm_90");
  EXPECT_FALSE(backend.is_host());
  EXPECT_FALSE(backend.refuses_target("sm_90").has_value());
  EXPECT_NE(backend.refuses_target("sm_80").value_or("").find("sm_80"), std::string::npos);
  EXPECT_NE(failure(Code::device_failure, [&] { backend.make_stream({}); }).find("no device"), std::string::npos);
  EXPECT_NE(failure(Code::device_failure, [&] { backend.allocate(64); }).find("no device"), std::string::npos);
}

TEST(CudaBackend, TacticsOfAnOperatorHaveDifferentNames) {
  std::set<std::pair<std::string_view, std::string_view>> names;
  for (const cuda::CudaTactic* tactic : cuda::all_tactics()) {
    EXPECT_TRUE(names.emplace(tactic->op_type, tactic->name).second) << tactic->op_type << " " << tactic->name;
    EXPECT_NE(find_op(tactic->op_type), nullptr) << tactic->op_type;
  }
}

TEST(CudaBackend, StepsWithoutAKernelAreListedWithTheirNames) {
  const Graph graph = parse_graph(R"(
    graph g(%x: float32[2, 8]) {
      %a = Relu(%x)
      return %a
    })");
  EXPECT_TRUE(missing_kernels(graph, find_backend("cuda:h100"), {}).empty());
  const Graph other = parse_graph(R"(
    graph g(%x: float32[3, 4, 4]) {
      %determinant = Det(%x)
      return %determinant
    })");
  const std::vector<MissingKernel> missing = missing_kernels(other, find_backend("cuda:h100"), {});
  ASSERT_EQ(missing.size(), 1U);
  EXPECT_EQ(missing[0].node, "determinant");
  EXPECT_NE(missing[0].reason.find("Det has no kernel for cuda"), std::string::npos);
}

TEST(MachineKey, ASealFitsTheBytesThatWereSealedOnly) {
  const std::array first{std::byte{1}, std::byte{2}};
  const std::array second{std::byte{3}};
  const std::array other{std::byte{1}, std::byte{3}};
  const std::array parts{std::span<const std::byte>(first), std::span<const std::byte>(second)};
  const Seal seal = seal_here(parts);
  if (seal == Seal{}) GTEST_SKIP() << "no key can be kept here (HOME)";
  EXPECT_TRUE(is_sealed_here(parts, seal));
  EXPECT_FALSE(is_sealed_here(std::array{std::span<const std::byte>(other), std::span<const std::byte>(second)}, seal));
  // The border between parts counts.
  EXPECT_FALSE(is_sealed_here(std::array{std::span<const std::byte>(second), std::span<const std::byte>(first)}, seal));
  Seal changed = seal;
  changed[0] ^= std::byte{1};
  EXPECT_FALSE(is_sealed_here(parts, changed));
  EXPECT_FALSE(is_sealed_here(parts, Seal{}));
}

Plan small_plan() {
  const Graph graph = parse_graph("graph g(%x: float32[4]) { %y = Relu(%x) return %y }");
  BuildOptions options;
  options.opt_level = 0;
  return build(graph, cpu_backend(), options).plan;
}

TEST(EngineCode, CodeIsTrustedWhereItWasSealed) {
  const Plan plan = small_plan();
  const std::array<std::byte, 100> code{std::byte{7}};
  const std::vector<std::byte> file = serialize_engine(plan, {}, {.code = code});
  const EngineFile read = read_engine(file);
  ASSERT_EQ(read.code.size, code.size());
  EXPECT_EQ(read.code.data[0], std::byte{7});
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(read.code.data) % 64, 0U);
  EXPECT_EQ(read.code_is_trusted, seal_here(std::array{std::span<const std::byte>(code)}) != Seal{});
  EXPECT_TRUE(read_engine(file, {.trust_code = true}).code_is_trusted);
}

TEST(EngineCode, AStepCannotReferToCodeThatIsNotThere) {
  Plan plan = small_plan();
  ASSERT_FALSE(plan.steps.empty());
  plan.steps[0].choices[0].code = {64, 64};
  const std::array<std::byte, 100> code{};
  const std::vector<std::byte> file = serialize_engine(plan, {}, {.code = code});
  EXPECT_NE(failure(Code::incompatible_engine, [&] { read_engine(file); }).find("machine code"), std::string::npos);
}

TEST(EngineCode, StepsOnTheHostBelongToEnginesOfADevice) {
  Plan plan = small_plan();
  plan.steps[0].choices[0].on_host = true;
  const std::vector<std::byte> file = serialize_engine(plan, {});
  EXPECT_NE(failure(Code::incompatible_engine, [&] { read_engine(file); }).find("host"), std::string::npos);
}

}  // namespace
}  // namespace tenfold
