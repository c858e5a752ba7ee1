// Archives of kernels compiled ahead of time: what was written is found, what is damaged is not used.
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "backend/cuda/cubin_archive.hpp"
#include "base/error.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kAnyCompiler = std::numeric_limits<int>::max();
constexpr std::size_t kHeaderBytes = 64, kEntryBytes = 64;

using Bytes = std::vector<std::byte>;

std::string scratch_file(const std::string& name) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "tenfold_cubin_archive_test";
  std::filesystem::create_directories(folder);
  std::filesystem::remove(folder / name);
  return (folder / name).string();
}
Bytes content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}
/// Code that compresses, different for every number.
KeyedCode numbered(int number, std::size_t bytes = 1000) {
  KeyedCode code{
      {.high = 7919U * static_cast<unsigned>(number) % 101, .low = static_cast<unsigned>(number)}, 13050, {}};
  for (std::size_t i = 0; i < bytes; ++i) code.code.push_back(static_cast<std::byte>(i / 50 + number));
  return code;
}
std::vector<KeyedCode> numbered_codes(int count) {
  std::vector<KeyedCode> codes;
  for (int i = 0; i < count; ++i) codes.push_back(numbered(i, static_cast<std::size_t>(100 + 37 * i)));
  return codes;
}
std::string refusal(const Bytes& bytes) {
  try {
    (void)CubinArchive::parse(bytes, "kernels");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    return error.message();
  }
  return "";
}
template <typename T>
void overwrite(Bytes& bytes, std::size_t offset, const T& value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}
/// Computes the hashes of header and table anew, as somebody hostile would.
void reseal(Bytes& bytes) {
  if (bytes.size() < kHeaderBytes) return;
  std::uint64_t count = 0;
  std::memcpy(&count, bytes.data() + 24, sizeof count);
  overwrite<std::uint64_t>(bytes, 16, bytes.size());
  if (count <= (bytes.size() - kHeaderBytes) / kEntryBytes) {
    const Hash128 table = hash128(std::span(bytes).subspan(kHeaderBytes, count * kEntryBytes));
    overwrite(bytes, 32, table.low);
    overwrite(bytes, 40, table.high);
  }
  overwrite(bytes, 60, static_cast<std::uint32_t>(hash128(std::span(bytes).first(60)).low));
}

TEST(CubinArchive, WhatWasWrittenIsFound) {
  const std::string path = scratch_file("whole");
  const std::vector<KeyedCode> codes = numbered_codes(20);
  const CodeArchiveSummary summary = merge_into_archive(path, codes);
  EXPECT_EQ(summary.num_kernels, 20U);
  EXPECT_EQ(summary.num_new, 20U);
  EXPECT_EQ(summary.file_bytes, std::filesystem::file_size(path));
  const CubinArchive archive = CubinArchive::open(path);
  ASSERT_EQ(archive.size(), 20U);
  for (const KeyedCode& code : codes) {
    const auto found = archive.find(code.key, kAnyCompiler);
    ASSERT_TRUE(found.has_value()) << code.key.to_string();
    EXPECT_EQ(found->code, code.code);
    EXPECT_EQ(found->compiler, 13050);
    EXPECT_FALSE(archive.find({.high = code.key.high, .low = code.key.low + 1000}, kAnyCompiler).has_value());
  }
}

TEST(CubinArchive, CodeOfACompilerThatIsTooNewForTheDriverDoesNotCount) {
  const std::string path = scratch_file("newer");
  merge_into_archive(path, numbered_codes(1));
  const CubinArchive archive = CubinArchive::open(path);
  EXPECT_TRUE(archive.find(numbered(0).key, 13999).has_value());
  EXPECT_FALSE(archive.find(numbered(0).key, 12999).has_value());
  EXPECT_EQ(archive.oldest_compiler(), 13050);
}

TEST(CubinArchive, MergingKeepsTheOldAndReplacesTheSame) {
  const std::string path = scratch_file("merged");
  merge_into_archive(path, numbered_codes(3));
  KeyedCode again = numbered(1, 5000);
  const CodeArchiveSummary summary = merge_into_archive(path, std::vector{again, numbered(7)});
  EXPECT_EQ(summary.num_kernels, 4U);
  EXPECT_EQ(summary.num_new, 1U);
  const CubinArchive archive = CubinArchive::open(path);
  EXPECT_EQ(archive.find(again.key, kAnyCompiler)->code, again.code);
  EXPECT_EQ(archive.find(numbered(7).key, kAnyCompiler)->code, numbered(7).code);
  EXPECT_EQ(archive.find(numbered(2).key, kAnyCompiler)->code, numbered_codes(3)[2].code);
}

TEST(CubinArchive, AnEmptyOneIsOne) {
  const std::string path = scratch_file("empty");
  EXPECT_EQ(merge_into_archive(path, {}).num_kernels, 0U);
  EXPECT_FALSE(CubinArchive::open(path).find(numbered(0).key, kAnyCompiler).has_value());
  EXPECT_EQ(CubinArchive::open(path).oldest_compiler(), 0);
}

TEST(CubinArchive, OtherFilesAndVersionsAreRefusedWithAReason) {
  const std::string path = scratch_file("refused");
  merge_into_archive(path, numbered_codes(3));
  const Bytes good = content_of(path);
  EXPECT_EQ(refusal(good), "");
  EXPECT_NE(refusal({}).find("too short"), std::string::npos);
  Bytes bytes = good;
  bytes[1] = std::byte{'X'};
  EXPECT_NE(refusal(bytes).find("no archive"), std::string::npos);
  bytes = good;
  overwrite<std::uint32_t>(bytes, 8, 2);
  EXPECT_NE(refusal(bytes).find("of version 2"), std::string::npos);
  bytes = good;
  bytes.pop_back();
  EXPECT_NE(refusal(bytes).find("cut off"), std::string::npos);
  bytes = good;
  bytes[kHeaderBytes + 40] ^= std::byte{1};
  EXPECT_NE(refusal(bytes).find("table is damaged"), std::string::npos);
  std::ofstream(path) << "something else, of a user";
  EXPECT_THROW(merge_into_archive(path, numbered_codes(1)), Error);
  EXPECT_EQ(content_of(path).size(), 25U);
}

TEST(CubinArchive, ADamagedKernelIsNotFoundAndGoesWhenTheFileIsWrittenAnew) {
  const std::string path = scratch_file("damaged");
  const std::vector<KeyedCode> codes = numbered_codes(3);
  merge_into_archive(path, codes);
  Bytes bytes = content_of(path);
  bytes.back() ^= std::byte{0x10};
  const CubinArchive archive = CubinArchive::parse(bytes, "kernels");
  int found = 0;
  for (const KeyedCode& code : codes) found += archive.find(code.key, kAnyCompiler).has_value() ? 1 : 0;
  EXPECT_EQ(found, 2);
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
  EXPECT_EQ(merge_into_archive(path, {}).num_kernels, 2U);
}

TEST(CubinArchive, NoChangedFileGivesOtherCodeOrReadsOutside) {
  const std::string path = scratch_file("mutants");
  const std::vector<KeyedCode> codes = numbered_codes(6);
  merge_into_archive(path, codes);
  const Bytes good = content_of(path);
  constexpr int kMutants = 20000;
  constexpr std::uint64_t kSeed = 11;
  std::mt19937_64 random(kSeed);
  const auto below = [&](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
  constexpr std::array<std::uint64_t, 6> kNumbers{0, 1, UINT64_MAX, 1ULL << 40, 0x7fffffff, 64};
  int refused = 0;
  for (int mutant = 0; mutant < kMutants; ++mutant) {
    Bytes bytes = good;
    for (std::size_t change = 0; change <= below(3); ++change) {
      const std::size_t end = below(2) == 0 ? kHeaderBytes + codes.size() * kEntryBytes : bytes.size();
      if (below(8) == 0) {
        bytes.resize(below(bytes.size()) + 1);
      } else if (below(2) == 0 && bytes.size() >= 16) {
        overwrite(bytes, below(std::min(end, bytes.size()) / 8) * 8, kNumbers[below(kNumbers.size())]);
      } else {
        bytes[below(std::min(end, bytes.size()))] ^= static_cast<std::byte>(1U << below(8));
      }
    }
    if (mutant % 4 != 0) reseal(bytes);
    // An allocation of its own, so that a sanitizer sees what is read behind the end.
    const Bytes exact(bytes.begin(), bytes.end());
    try {
      const CubinArchive archive = CubinArchive::parse(exact, "mutant");
      for (const KeyedCode& code : codes) {
        const auto found = archive.find(code.key, kAnyCompiler);
        // Keys and hashes of content can be exchanged by whoever computes hashes; what is found is one of the codes.
        if (!found) continue;
        EXPECT_TRUE(std::any_of(codes.begin(), codes.end(), [&](const KeyedCode& c) { return c.code == found->code; }))
            << "mutant " << mutant << " of seed " << kSeed;
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::invalid_argument) << error.message();
      ++refused;
    }
  }
  EXPECT_GT(refused, kMutants / 4);
}

}  // namespace
}  // namespace tenfold::cuda
