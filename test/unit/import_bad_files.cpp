// Files that are broken, hostile, or no models at all: each is refused with a sentence, nothing else happens.
#include <random>
#include <unistd.h>

#include "import/onnx/wire.hpp"
#include "unit/onnx_models.hpp"

namespace tenfold::onnx {
namespace {

TEST(ImportBadFiles, AMissingFileIsNamed) {
  try {
    (void)import_onnx(std::string("/nonexistent/m.onnx"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::io_failure);
    EXPECT_NE(error.message().find("'/nonexistent/m.onnx' cannot be opened"), std::string::npos) << error.message();
  }
}

TEST(ImportBadFiles, AnEmptyFileIsRefused) {
  EXPECT_REFUSED(refusal_of(std::span<const std::byte>()), Code::invalid_model, "empty");
}

TEST(ImportBadFiles, AFileWithoutAGraphIsRefused) {
  ModelProto model;
  model.set_ir_version(8);
  EXPECT_REFUSED(refusal_of(model), Code::invalid_model, "holds no graph");
  EXPECT_REFUSED(refusal_of(new_model()), Code::invalid_model, "no outputs");
}

TEST(ImportBadFiles, TruncationAtEveryByteIsRefused) {
  const std::vector<std::byte> whole = bytes_of(small_model());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    // A cut between two fields leaves a readable file, of which something is missing.
    const Refusal refusal = refusal_of(std::span(whole).first(size));
    if (refusal.code != Code::ok) {
      EXPECT_TRUE(refusal.code == Code::invalid_model || refusal.code == Code::unsupported)
          << size << ": " << refusal.message;
    }
  }
  EXPECT_EQ(refusal_of(whole).code, Code::ok);
}

TEST(ImportBadFiles, EveryBitMayFlip) {
  std::vector<std::byte> bytes = bytes_of(small_model());
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    const Refusal refusal = refusal_of(bytes);
    EXPECT_TRUE(refusal.code != Code::internal) << bit << ": " << refusal.message;
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
  }
}

TEST(ImportBadFiles, RandomBytesAreRefused) {
  std::mt19937 random(20230807);
  for (int i = 0; i < 2000; ++i) {
    std::vector<std::byte> bytes(1 + random() % 200);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    EXPECT_EQ(refusal_of(bytes).code, Code::invalid_model) << i;
  }
}

TEST(ImportBadFiles, AHugeLengthIsNamedWithItsPlace) {
  // Field 7 (graph) of 2^40 bytes.
  const std::string text("\x3a\x80\x80\x80\x80\x80\x80\x01", 8);
  EXPECT_REFUSED(refusal_of(bytes_of(text)), Code::invalid_model, "does not fit");
}

TEST(ImportBadFiles, DepthOfMessagesIsLimited) {
  // A graph in an attribute of a node of a graph, a thousand times.
  std::string text;
  const auto wrap = [&](char key) {
    std::string length;
    for (std::size_t left = text.size(); true; left >>= 7) {
      length += static_cast<char>(left < 128 ? left : (left & 127) | 128);
      if (left < 128) break;
    }
    text = key + length + text;
  };
  for (int i = 0; i < 1000; ++i) {
    wrap('\x32');  // AttributeProto.g
    wrap('\x2a');  // NodeProto.attribute
    wrap('\x0a');  // GraphProto.node
  }
  wrap('\x3a');  // ModelProto.graph
  EXPECT_REFUSED(refusal_of(bytes_of(text)), Code::invalid_model, "nest deeper than 64");
}

TEST(ImportBadFiles, TheNumberOfNodesIsLimited) {
  ImportOptions options;
  options.max_nodes = 1;
  EXPECT_REFUSED(refusal_of(small_model(), options), Code::invalid_model, "more than 1 nodes");
}

TEST(ImportBadFiles, TheSizeOfTheFileIsLimited) {
  ImportOptions options;
  options.max_file_bytes = 10;
  EXPECT_REFUSED(refusal_of(small_model(), options), Code::invalid_argument, "at most 10");
}

TEST(ImportBadFiles, AbsurdShapesAreRefused) {
  ModelProto model = new_model();
  add_input(model, "x", {1, 3});
  model.mutable_graph()
      ->mutable_input(0)
      ->mutable_type()
      ->mutable_tensor_type()
      ->mutable_shape()
      ->mutable_dim(0)
      ->set_dim_value(std::int64_t{1} << 62);
  add_output(model, "x");
  EXPECT_REFUSED(refusal_of(model), Code::invalid_model, "input 'x'");

  for (const std::vector<std::int64_t>& dims : {std::vector<std::int64_t>{std::int64_t{1} << 39, std::int64_t{1} << 39},
                                                {-1},
                                                {std::int64_t{1} << 62},
                                                {0, std::int64_t{1} << 62},
                                                {1000}}) {
    ModelProto constant = small_model();
    *constant.mutable_graph()->mutable_initializer(0) = float_tensor("w", dims, {1, 2, 3});
    EXPECT_REFUSED(refusal_of(constant), Code::invalid_model, "initializer 'w'");
  }
}

TEST(ImportBadFiles, TooManyAxesAreRefused) {
  ModelProto model = new_model();
  add_input(model, "x", {1, 1, 1, 1, 1, 1, 1, 1, 1});
  add_output(model, "x");
  EXPECT_REFUSED(refusal_of(model), Code::unsupported, "rank 9");
}

TEST(ImportBadFiles, InputsThatAreNoTensorsAreRefused) {
  ModelProto model = new_model();
  add_input(model, "x", {1});
  model.mutable_graph()->mutable_input(0)->mutable_type()->mutable_sequence_type();
  add_output(model, "x");
  EXPECT_REFUSED(refusal_of(model), Code::unsupported, "no tensor");
  add_input(model, "s", {1}, TensorProto::STRING);
  EXPECT_REFUSED(refusal_of(model), Code::unsupported, "element type string");
  model.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->set_elem_type(TensorProto::FLOAT);
  EXPECT_REFUSED(refusal_of(model), Code::unsupported, "how many axes");
}

TEST(ImportBadFiles, DoubleDefinitionsAreRefused) {
  ModelProto model = small_model();
  *model.mutable_graph()->mutable_node(1)->mutable_output(0) = "sum";
  add_output(model, "sum");
  model.mutable_graph()->mutable_output()->DeleteSubrange(0, 1);
  EXPECT_REFUSED(refusal_of(model), Code::invalid_model, "sum");

  ModelProto inputs = small_model();
  add_input(inputs, "x", {2});
  EXPECT_REFUSED(refusal_of(inputs), Code::invalid_model, "two inputs");
  ModelProto outputs = small_model();
  add_output(outputs, "y");
  EXPECT_REFUSED(refusal_of(outputs), Code::invalid_model, "two outputs");
}

TEST(ImportBadFiles, NamesInMessagesArePrintable) {
  EXPECT_EQ(printable("na\xc3\xafve"), "na\xc3\xafve");
  EXPECT_EQ(printable("a\nb\x1b[31m\xff\xc0\xaf"), "a?b?[31m???");
  EXPECT_EQ(printable("\xed\xa0\x80\xf4\x90\x80\x80"), "???????");
  EXPECT_EQ(printable("abcdef", 3), "abc...");
}

}  // namespace
}  // namespace tenfold::onnx
