// A build on a machine that has the code of some kernels, and no compiler for the others.
#include <cstring>

#include <gtest/gtest.h>

#include "backend/cpu/tier.hpp"
#include "build/builder.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

/// A device whose memory is the host's and whose kernels are the CPU's, as far as there is code for them.
class DeviceWithoutCompiler final : public Backend {
 public:
  explicit DeviceWithoutCompiler(std::string only) : only_(std::move(only)) {}
  std::string_view name() const override { return "test"; }
  std::string target() const override { return "test"; }
  std::optional<std::string> refuses_target(std::string_view) const override { return std::nullopt; }
  std::string device_name() const override { return "test"; }
  bool is_host() const override { return false; }
  std::unique_ptr<Stream> make_stream(const StreamOptions& options) const override {
    return cpu_backend().make_stream(options);
  }
  std::unique_ptr<Buffer> allocate(std::size_t bytes) const override { return cpu_backend().allocate(bytes); }
  void copy_to_device(void* device, const void* host, std::size_t bytes, Stream&) const override {
    std::memcpy(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes, Stream&) const override {
    std::memcpy(host, device, bytes);
  }
  std::vector<Candidate> candidates(const Problem& problem) const override { return cpu_backend().candidates(problem); }
  PackedWeights pack(const Problem& problem, const Candidate& candidate) const override {
    return cpu_backend().pack(problem, candidate);
  }
  std::vector<std::byte> device_code(const KernelSpec& spec) const override {
    need_code(spec);
    return {};
  }
  std::unique_ptr<Kernel> make_kernel(const KernelSpec& spec) const override {
    need_code(spec);
    return cpu_backend().make_kernel(spec);
  }

 private:
  void need_code(const KernelSpec& spec) const {
    if (spec.tactic != only_) throw Error(Code::unsupported, "install a compiler");
  }
  std::string only_;
};

Graph product() {
  return parse_graph(R"(
    graph g(%x: float32[8, 64]) {
      %w = constant float32[64, 32] random(1)
      %y = MatMul(%x, %w)
      return %y
    })");
}

TEST(MissingCode, CandidatesWithoutCodeAreLeftOutWithAWarningThatCountsThem) {
  if (cpu::tier() == cpu::Tier::none) GTEST_SKIP() << "no kernels";
  BuildOptions options;
  options.opt_level = 0;
  const BuildResult result = build(product(), DeviceWithoutCompiler("reference"), options);
  ASSERT_EQ(result.warnings.size(), 1U);
  EXPECT_NE(result.warnings[0].find("could not be tried and were left out: install a compiler"), std::string::npos)
      << result.warnings[0];
  int without_code = 0;
  for (const PlanCandidate& line : result.plan.report) {
    without_code += line.refusal == "install a compiler" ? 1 : 0;
    if (line.chosen) {
      EXPECT_EQ(line.tactic, "reference");
    }
  }
  EXPECT_GT(without_code, 0);
  EXPECT_TRUE(result.warnings[0].starts_with(std::to_string(without_code) + " kernels")) << result.warnings[0];
}

TEST(MissingCode, ANodeForWhichNoneIsLeftIsAnError) {
  BuildOptions options;
  options.opt_level = 0;
  try {
    (void)build(product(), DeviceWithoutCompiler("none"), options);
    FAIL() << "built without a kernel";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::unsupported);
    EXPECT_NE(error.message().find("MatMul"), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("install a compiler"), std::string::npos) << error.message();
  }
}

TEST(MissingCode, WhatABuildWouldLackIsSaidBeforehand) {
  BuildOptions options;
  options.opt_level = 0;
  const KernelExamination found =
      examine_kernels(product(), DeviceWithoutCompiler("none"), options, KernelQuestion::code);
  ASSERT_FALSE(found.kernels.empty());
  for (const ExaminedKernel& kernel : found.kernels) EXPECT_EQ(kernel.problem, "install a compiler");
  EXPECT_EQ(found.num_steps, 1);
}

TEST(MissingCode, CancellingEndsAnExamination) {
  BuildOptions options;
  options.is_cancelled = [] { return true; };
  EXPECT_THROW(examine_kernels(product(), DeviceWithoutCompiler("none"), options, KernelQuestion::code), Error);
}

}  // namespace
}  // namespace tenfold
