// The assembler's log, as NVRTC 13 and ptxas 12 print it.
#include <gtest/gtest.h>

#include "backend/cuda/ptxas_log.hpp"

namespace tenfold::cuda {
namespace {

TEST(PtxasLog, EveryEntryIsReadWithWhatItSpills) {
  const PtxasReport report = read_ptxas_log(R"(ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'second' for 'sm_80'
ptxas info    : Function properties for second
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 28 registers, used 1 barriers, 128 bytes smem, 364 bytes cmem[0]
ptxas info    : Compile time = 3.526 ms
ptxas info    : Compiling entry function 'spills' for 'sm_80'
ptxas info    : Function properties for spills
ptxas         .     272 bytes stack frame, 536 bytes spill stores, 560 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers, 272 bytes cumulative stack size, 372 bytes cmem[0]
ptxas info    : Compile time = 18.773 ms
)");
  ASSERT_EQ(report.entries.size(), 2U);
  EXPECT_EQ(report.entries[0].entry, "second");
  EXPECT_EQ(report.entries[0].registers, 28);
  EXPECT_EQ(report.entries[0].shared_bytes, 128);
  EXPECT_EQ(report.entries[0].stack_bytes, 0);
  EXPECT_EQ(report.entries[0].spill_store_bytes, 0);
  EXPECT_EQ(report.entries[1].entry, "spills");
  EXPECT_EQ(report.entries[1].registers, 32);
  EXPECT_EQ(report.entries[1].shared_bytes, 0);
  EXPECT_EQ(report.entries[1].stack_bytes, 272);
  EXPECT_EQ(report.entries[1].spill_store_bytes, 536);
  EXPECT_EQ(report.entries[1].spill_load_bytes, 560);
  EXPECT_TRUE(report.serialised.empty());
}

TEST(PtxasLog, TheOlderFormHasNoDotBeforeTheNumbers) {
  const PtxasReport report = read_ptxas_log(
      "ptxas info    : Compiling entry function 'k' for 'sm_90a'\n"
      "ptxas info    : Function properties for k\n"
      "    16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads\n"
      "ptxas info    : Used 255 registers, used 3 barriers, 400 bytes cmem[0]");
  ASSERT_EQ(report.entries.size(), 1U);
  EXPECT_EQ(report.entries[0].registers, 255);
  EXPECT_EQ(report.entries[0].stack_bytes, 16);
  EXPECT_EQ(report.entries[0].spill_store_bytes, 4);
  EXPECT_EQ(report.entries[0].spill_load_bytes, 8);
}

TEST(PtxasLog, SerialisedProductsAndFunctionsThatWereNotInlinedAreNoticed) {
  const PtxasReport report = read_ptxas_log(
      R"(ptxas info    : (C7517) wgmma.wait_group is injected in around line 249 by compiler to allow use of registers defined by GMMA in function 'serial'
ptxas info    : (C7511) Potential Performance Loss: wgmma.mma_async instructions are serialized due to insufficient register resources for the wgmma pipeline in the function 'serial' in line 294
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'serial' for 'sm_90a'
ptxas info    : Function properties for serial
ptxas         .     160 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 58 registers, used 1 barriers, 160 bytes cumulative stack size, 256 bytes smem
ptxas info    : Compile time = 8.839 ms
ptxas info    : Function properties for _Z5otherPKfi
ptxas         .     8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
)");
  ASSERT_EQ(report.serialised.size(), 2U);
  EXPECT_NE(report.serialised[1].find("serialized"), std::string::npos);
  ASSERT_EQ(report.entries.size(), 1U);
  EXPECT_EQ(report.entries[0].registers, 58);
  EXPECT_EQ(report.entries[0].stack_bytes, 168);
  EXPECT_EQ(report.entries[0].spill_store_bytes, 4);
}

TEST(PtxasLog, AnythingElseIsPassedOver) {
  EXPECT_TRUE(read_ptxas_log("").entries.empty());
  EXPECT_TRUE(read_ptxas_log("nvcc warning : something\n\n registers\n12 registers, bytes smem").entries.empty());
  const PtxasReport report = read_ptxas_log("Compiling entry function 'cut\n bytes stack frame\nUsed many registers\n");
  ASSERT_EQ(report.entries.size(), 1U);
  EXPECT_EQ(report.entries[0].entry, "");
  EXPECT_EQ(report.entries[0].registers, 0);
}

}  // namespace
}  // namespace tenfold::cuda
