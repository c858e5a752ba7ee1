#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/atomic_file.hpp"
#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/log.hpp"

namespace tenfold {
namespace {

namespace fs = std::filesystem;

class AtomicFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "tenfold_atomic_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string path(const char* name) const { return folder_ / name; }
  int num_files() const {
    return static_cast<int>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  fs::path folder_;
};

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}
void write_text(const std::string& path, std::string_view text) {
  write_file_atomically(path, std::as_bytes(std::span(text)));
}
std::string error_of(const std::string& path, std::string_view text) {
  try {
    write_text(path, text);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::io_failure);
    return error.message();
  }
}

TEST_F(AtomicFileTest, ReplacesAFileAndLeavesNothingElse) {
  write_text(path("a"), "old");
  write_text(path("a"), "new content");
  EXPECT_EQ(read_all(path("a")), "new content");
  EXPECT_EQ(num_files(), 1);
}

TEST_F(AtomicFileTest, ALinkStaysAndTheFileItNamesIsReplaced) {
  write_text(path("a"), "old");
  fs::create_symlink("a", path("link"));
  write_text(path("link"), "new");
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_EQ(read_all(path("a")), "new");
}

TEST_F(AtomicFileTest, RefusesFoldersDevicesAndMissingFolders) {
  EXPECT_NE(error_of(folder_, "x").find("is a folder"), std::string::npos);
  EXPECT_NE(error_of("/dev/null", "x").find("device"), std::string::npos);
  EXPECT_NE(error_of(path("missing/a"), "x").find("No such file"), std::string::npos);
}

TEST_F(AtomicFileTest, RemovesWhatADeadWriterLeft) {
  std::ofstream(path(".a.0123456789abcdef.tmp")) << "half";
  std::ofstream(path(".b.0123456789abcdef.tmp")) << "of another file";
  std::ofstream(path(".a.mine.tmp")) << "no temporary file of ours";
  write_text(path("a"), "whole");
  EXPECT_FALSE(fs::exists(path(".a.0123456789abcdef.tmp")));
  EXPECT_EQ(num_files(), 3);
}

TEST_F(AtomicFileTest, AKilledWriterLeavesTheOldFileOrTheWholeNewOne) {
  constexpr std::size_t kSize = std::size_t{1} << 20;
  write_text(path("a"), std::string(kSize, '0'));
  for (int round = 0; round < 40; ++round) {
    const pid_t writer = ::fork();
    ASSERT_GE(writer, 0);
    if (writer == 0) {
      const std::string content(kSize, static_cast<char>('a' + round % 26));
      for (;;) write_text(path("a"), content);
    }
    ::usleep(static_cast<useconds_t>(500 + 700 * round));
    ::kill(writer, SIGKILL);
    ::waitpid(writer, nullptr, 0);
    const std::string content = read_all(path("a"));
    ASSERT_EQ(content.size(), kSize);
    ASSERT_EQ(content.find_first_not_of(content[0]), std::string::npos);
  }
  write_text(path("a"), "end");
  EXPECT_EQ(num_files(), 1);
}

TEST_F(AtomicFileTest, AFullDiskSaysWhatWasNeededAndChangesNothing) {
  if (::mount("tmpfs", folder_.c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "mounting a small tmpfs is not permitted here: " << std::strerror(errno);
  }
  write_text(path("a"), "old");
  const std::string message = error_of(path("a"), std::string(std::size_t{2} << 20, 'x'));
  EXPECT_NE(message.find("needs 2097152 bytes, but the disk is full"), std::string::npos) << message;
  EXPECT_EQ(read_all(path("a")), "old");
  EXPECT_EQ(num_files(), 1);
  ::umount(folder_.c_str());
}

TEST(Sha256, OfAbcIsTheValueOfTheStandard) {
  // FIPS 180-4 example "abc".
  constexpr std::string_view kText = "abc";
  EXPECT_EQ(to_string(sha256(std::as_bytes(std::span(kText)))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Log, ReachesTheSinkFromItsLevelOn) {
  std::string seen;
  set_log_sink([&](LogLevel, std::string_view message) { seen += std::string(message) + ";"; }, LogLevel::info);
  log(LogLevel::debug, "not {}", 1);
  log(LogLevel::warning, "this {}", 2);
  set_log_sink({});
  log(LogLevel::warning, "nor that");
  EXPECT_EQ(seen, "this 2;");
}

}  // namespace
}  // namespace tenfold
