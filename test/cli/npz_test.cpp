// NumPy files: what is written is read back, and what is broken is refused.
#include "npz.hpp"

#include <filesystem>
#include <fstream>
#include <unistd.h>

#include <gtest/gtest.h>

namespace tenfold::cli {
namespace {

class NpzFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "/npz-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
  }
  std::string folder_;
};

std::string array_bytes(const std::string& header, const std::string& data) {
  std::string text = header;
  text.append(63 - (10 + text.size()) % 64, ' ');
  text += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(text.size());
  bytes += '\0';
  return bytes + text + data;
}

Code code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return Code::ok;
}

TEST_F(NpzFile, ArraysComeBackAsTheyWereWritten) {
  const std::vector<float> values = {1, -2, 0.5F, 1e30F, 0, 7};
  const std::vector<std::int64_t> numbers = {-5};
  write_npz(path("a.npz"), {{"x", Tensor::from<float>(DType::float32, {2, 3}, values)},
                            {"in:y/z", Tensor::of_int64({}, numbers)},
                            {"empty", Tensor(DType::float16, {0, 4})}});
  const NpzReader reader(path("a.npz"));
  EXPECT_EQ(reader.keys(), (std::vector<std::string>{"x", "in:y/z", "empty"}));
  EXPECT_TRUE(reader.read("x").equals(Tensor::from<float>(DType::float32, {2, 3}, values)));
  EXPECT_TRUE(reader.read("in:y/z").equals(Tensor::of_int64({}, numbers)));
  EXPECT_EQ(reader.read("empty").shape(), (Shape{0, 4}));
  EXPECT_EQ(reader.header("x").shape, (Shape{2, 3}));
}

TEST_F(NpzFile, TheSameArraysGiveTheSameBytes) {
  const Tensor tensor(DType::int32, {4});
  write_npz(path("a.npz"), {{"x", tensor}});
  write_npz(path("b.npz"), {{"x", tensor}});
  const auto bytes = [&](const char* name) {
    std::ifstream file(path(name), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  EXPECT_EQ(bytes("a.npz"), bytes("b.npz"));
}

TEST_F(NpzFile, HeadersAreMultiplesOf64Bytes) {
  for (std::int64_t rank = 0; rank < 9; ++rank) {
    EXPECT_EQ(npy_header(DType::float32, Shape(static_cast<std::size_t>(rank), 12345)).size() % 64, 0U);
  }
}

TEST_F(NpzFile, FortranOrderIsTransposed) {
  const std::string data("\x01\x04\x02\x05\x03\x06", 6);
  write("f.npy", array_bytes("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }", data));
  const Tensor tensor = read_npy(path("f.npy"));
  EXPECT_EQ(tensor.to_int64(), (std::vector<std::int64_t>{1, 2, 3, 4, 5, 6}));
}

TEST_F(NpzFile, BrokenArraysAreRefused) {
  const std::string good =
      array_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", std::string(8, '\0'));
  write("good.npy", good);
  EXPECT_EQ(read_npy(path("good.npy")).num_elements(), 2);
  for (std::size_t size = 0; size < good.size(); ++size) {
    write("cut.npy", good.substr(0, size));
    EXPECT_EQ(code_of([&] { read_npy(path("cut.npy")); }), Code::invalid_argument) << size;
  }
  const auto refuses = [&](const std::string& header, const std::string& data) {
    write("bad.npy", array_bytes(header, data));
    return code_of([&] { read_npy(path("bad.npy")); }) == Code::invalid_argument;
  };
  EXPECT_TRUE(refuses("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", std::string(4, '\0')));
  EXPECT_TRUE(refuses("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", std::string(8, '\0')));
  EXPECT_TRUE(refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 9999999999), }", ""));
  EXPECT_TRUE(refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", ""));
  EXPECT_TRUE(refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", ""));
  EXPECT_TRUE(refuses("{'descr': '<f4', 'shape': (1,)", std::string(4, '\0')));
  EXPECT_TRUE(refuses("{'descr': '|b1', 'fortran_order': False, 'shape': (1,), }", "\x02"));
  EXPECT_TRUE(refuses("", ""));
}

TEST_F(NpzFile, AMissingArchiveAndAWrongOneDiffer) {
  EXPECT_EQ(code_of([&] { NpzReader reader(path("none.npz")); }), Code::io_failure);
  write("text.npz", "this is no archive");
  EXPECT_EQ(code_of([&] { NpzReader reader(path("text.npz")); }), Code::invalid_argument);
}

TEST_F(NpzFile, AFlippedByteOfTheDataIsNoticed) {
  write_npz(path("a.npz"), {{"x", Tensor(DType::int32, {64})}});
  std::fstream file(path("a.npz"), std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(250);
  file.put('\x40');
  file.close();
  EXPECT_EQ(code_of([&] { NpzReader(path("a.npz")).read("x"); }), Code::invalid_argument);
}

}  // namespace
}  // namespace tenfold::cli
