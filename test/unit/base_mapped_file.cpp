#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/mapped_file.hpp"

namespace tenfold {
namespace {

class MappedFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "tenfold_mapped_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string path(const char* name) const { return directory_ / name; }
  std::filesystem::path directory_;
};

Code code_of(const std::string& path, std::uint64_t max_bytes = 1000) {
  try {
    (void)MappedFile::open(path, max_bytes);
    return Code::ok;
  } catch (const Error& error) {
    EXPECT_NE(error.message().find(path), std::string::npos) << error.message();
    return error.code();
  }
}

TEST_F(MappedFileTest, GivesTheBytesOfAFile) {
  std::ofstream(path("a")) << "tenfold";
  const auto file = MappedFile::open(path("a"));
  ASSERT_EQ(file->bytes().size(), 7U);
  EXPECT_EQ(std::memcmp(file->bytes().data(), "tenfold", 7), 0);
}

TEST_F(MappedFileTest, AnEmptyFileHasNoBytes) {
  std::ofstream(path("empty")).flush();
  EXPECT_TRUE(MappedFile::open(path("empty"))->bytes().empty());
}

TEST_F(MappedFileTest, RefusesWhatIsNoReadableRegularFile) {
  EXPECT_EQ(code_of(path("missing")), Code::io_failure);
  EXPECT_EQ(code_of(directory_), Code::io_failure);
  EXPECT_EQ(code_of("/dev/null"), Code::io_failure);
}

TEST_F(MappedFileTest, RefusesAFileAboveTheLimit) {
  std::ofstream(path("big")) << std::string(11, 'x');
  EXPECT_EQ(code_of(path("big"), 10), Code::invalid_argument);
  EXPECT_EQ(code_of(path("big"), 11), Code::ok);
}

TEST(Hash128, OfNothingIsTheKnownValue) { EXPECT_EQ(hash128({}).to_string(), "99aa06d3014798d86001c324468d497f"); }

TEST(Hash128, OfManyBytesIsTheHashOfTheHashesOfTheirPieces) {
  std::vector<std::byte> bytes(2 * kHashedPiece + 5);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 2654435761U >> 24);
  const std::span<const std::byte> all = bytes;
  EXPECT_EQ(hash128_of_pieces(all.first(kHashedPiece)), hash128(all.first(kHashedPiece)));

  std::vector<std::uint64_t> hashes;
  for (const std::span<const std::byte> piece :
       {all.first(kHashedPiece), all.subspan(kHashedPiece, kHashedPiece), all.subspan(2 * kHashedPiece)}) {
    hashes.push_back(hash128(piece).low);
    hashes.push_back(hash128(piece).high);
  }
  const Hash128 expected = hash128(std::as_bytes(std::span(hashes)));
  EXPECT_EQ(hash128_of_pieces(all), expected);
  for (const std::size_t changed : {std::size_t{0}, kHashedPiece, bytes.size() - 1}) {
    bytes[changed] ^= std::byte{1};
    EXPECT_NE(hash128_of_pieces(all), expected) << "byte " << changed;
    bytes[changed] ^= std::byte{1};
  }
}

}  // namespace
}  // namespace tenfold
