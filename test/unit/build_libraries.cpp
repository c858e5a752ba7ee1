// Names of the libraries whose kernels may stand beside our own.
#include <gtest/gtest.h>

#include "build/builder.hpp"
#include "build/libraries.hpp"
#include "graph/text.hpp"
#include "ops/registry.hpp"
#include "tenfold/types.hpp"

namespace tenfold {
namespace {

std::string read(std::string_view list) {
  LibraryTactics libraries;
  read_tactic_sources(list, libraries);
  return to_string(libraries);
}

TEST(TacticSources, AreNamesOrTrtexecsSpellingOfThem) {
  EXPECT_EQ(read(""), "");
  EXPECT_EQ(read("cublas_lt"), "cublas_lt");
  EXPECT_EQ(read("cudnn,cublas_lt"), "cublas_lt,cudnn");
  EXPECT_EQ(read("+CUDNN,+CUBLAS_LT,-CUDNN"), "cublas_lt");
  EXPECT_EQ(read("-CUDNN"), "");
  EXPECT_EQ(read("+CUBLAS,-EDGE_MASK_CONVOLUTIONS,+JIT_CONVOLUTIONS"), "cublas_lt");
}

TEST(TacticSources, LaterListsChangeEarlierOnes) {
  const std::vector<std::string> lists{"cublas_lt", "cudnn,-cublas_lt"};
  EXPECT_EQ(to_string(read_tactic_sources(lists)), "cudnn");
}

TEST(TacticSources, UnknownOnesAreRefusedWithTheKnownOnes) {
  try {
    read("+CUFFT");
    FAIL() << "CUFFT is no tactic source";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    EXPECT_EQ(error.message(), "there is no tactic source 'CUFFT'; known are cublas_lt and cudnn");
  }
}

TEST(TacticSources, ACpuEngineHasNoneAndSaysSo) {
  const Graph graph = parse_graph(R"(
    graph g(%x: float32[2, 8]) {
      %a = Relu(%x)
      return %a
    })");
  BuildOptions options;
  options.opt_level = 0;
  options.libraries.cudnn = true;
  const BuildResult result = build(graph, cpu_backend(), options);
  ASSERT_EQ(result.warnings.size(), 1U);
  EXPECT_EQ(result.warnings[0], "cudnn: libraries of GPUs, of which an engine for a CPU uses none");
}

}  // namespace
}  // namespace tenfold
