// Tensor data: every element type, raw and typed, sparse, and in files beside the model.
#include <functional>
#include <sys/stat.h>
#include <unistd.h>

#include "base/float16.hpp"
#include "base/float8.hpp"
#include "unit/onnx_models.hpp"

namespace tenfold::onnx {
namespace {

/// A model whose only output is the constant.
ModelProto constant_model(const TensorProto& tensor) {
  ModelProto model = new_model();
  *model.mutable_graph()->add_initializer() = tensor;
  model.mutable_graph()->mutable_initializer(0)->set_name("c");
  add_output(model, "c");
  return model;
}
Tensor imported_constant(const TensorProto& tensor) {
  const ImportedModel model = import(constant_model(tensor));
  return *model.graph.constant(model.graph.outputs().at(0));
}
TensorProto typed(int type, int count) {
  TensorProto tensor;
  tensor.set_data_type(type);
  tensor.add_dims(count);
  return tensor;
}

TEST(ImportTensors, TypedAndRawDataAgreeForEveryElementType) {
  struct Case {
    int type;
    DType dtype;
    std::string raw;
    std::function<void(TensorProto&)> fill;
  };
  const auto raw = []<typename T>(std::initializer_list<T> values) {
    std::string bytes(values.size() * sizeof(T), '\0');
    std::memcpy(bytes.data(), values.begin(), bytes.size());
    return bytes;
  };
  const auto ints = [](std::initializer_list<std::int32_t> values) {
    return [values = std::vector(values)](TensorProto& t) {
      for (const std::int32_t value : values) t.add_int32_data(value);
    };
  };
  const std::vector<Case> cases{
      {TensorProto::FLOAT, DType::float32, raw({1.5F, -2.0F}),
       [](TensorProto& t) { t.add_float_data(1.5F), t.add_float_data(-2); }},
      {TensorProto::DOUBLE, DType::float64, raw({0.1, -7.0}),
       [](TensorProto& t) { t.add_double_data(0.1), t.add_double_data(-7); }},
      {TensorProto::INT64, DType::int64, raw({std::int64_t{1} << 40, std::int64_t{-1}}),
       [](TensorProto& t) { t.add_int64_data(std::int64_t{1} << 40), t.add_int64_data(-1); }},
      {TensorProto::UINT64, DType::uint64, raw({~std::uint64_t{0}, std::uint64_t{3}}),
       [](TensorProto& t) { t.add_uint64_data(~std::uint64_t{0}), t.add_uint64_data(3); }},
      {TensorProto::UINT32, DType::uint32, raw({~std::uint32_t{0}, std::uint32_t{3}}),
       [](TensorProto& t) { t.add_uint64_data(0xffffffffU), t.add_uint64_data(3); }},
      {TensorProto::INT32, DType::int32, raw({-5, 1 << 30}), ints({-5, 1 << 30})},
      {TensorProto::INT16, DType::int16, raw({std::int16_t{-5}, std::int16_t{300}}), ints({-5, 300})},
      {TensorProto::UINT16, DType::uint16, raw({std::uint16_t{65535}, std::uint16_t{1}}), ints({65535, 1})},
      {TensorProto::INT8, DType::int8, raw({std::int8_t{-128}, std::int8_t{127}}), ints({-128, 127})},
      {TensorProto::UINT8, DType::uint8, raw({std::uint8_t{255}, std::uint8_t{0}}), ints({255, 0})},
      {TensorProto::BOOL, DType::boolean, std::string("\x01\x00", 2), ints({1, 0})},
      {TensorProto::FLOAT16, DType::float16, raw({Float16::encode(1.5F), Float16::encode(-2.0F)}),
       ints({Float16::encode(1.5F), Float16::encode(-2.0F)})},
      {TensorProto::BFLOAT16, DType::bfloat16, raw({BFloat16::encode(1.5F), BFloat16::encode(-2.0F)}),
       ints({BFloat16::encode(1.5F), BFloat16::encode(-2.0F)})},
      {TensorProto::FLOAT8E4M3FN, DType::float8e4m3, raw({Float8E4M3::encode(1.5F), Float8E4M3::encode(-448.0F)}),
       ints({Float8E4M3::encode(1.5F), Float8E4M3::encode(-448.0F)})},
  };
  for (const Case& each : cases) {
    TensorProto as_raw = typed(each.type, 2);
    as_raw.set_raw_data(each.raw);
    TensorProto as_list = typed(each.type, 2);
    each.fill(as_list);
    const Tensor from_raw = imported_constant(as_raw);
    EXPECT_EQ(from_raw.dtype(), each.dtype);
    EXPECT_TRUE(from_raw.equals(imported_constant(as_list))) << to_string(each.dtype);
    EXPECT_EQ(std::memcmp(from_raw.data(), each.raw.data(), each.raw.size()), 0) << to_string(each.dtype);
  }
}

TEST(ImportTensors, UnsupportedElementTypesAreNamed) {
  for (const auto& [type, name] :
       std::vector<std::pair<int, std::string>>{{TensorProto::STRING, "string"},
                                                {TensorProto::COMPLEX64, "complex64"},
                                                {TensorProto::FLOAT8E4M3FNUZ, "float8e4m3fnuz"},
                                                {TensorProto::FLOAT8E5M2, "float8e5m2"},
                                                {TensorProto::INT4, "int4"}}) {
    EXPECT_REFUSED(refusal_of(constant_model(typed(type, 0))), Code::unsupported, "element type " + name);
  }
  EXPECT_REFUSED(refusal_of(constant_model(typed(99, 0))), Code::invalid_model, "element type 99");
  EXPECT_REFUSED(refusal_of(constant_model(typed(0, 0))), Code::invalid_model, "element type 0");
}

TEST(ImportTensors, WrongCountsAreRefused) {
  TensorProto list = typed(TensorProto::FLOAT, 3);
  list.add_float_data(1);
  EXPECT_REFUSED(refusal_of(constant_model(list)), Code::invalid_model, "needs 3 elements, the tensor has 1");
  TensorProto raw = typed(TensorProto::FLOAT, 3);
  raw.set_raw_data("12345");
  EXPECT_REFUSED(refusal_of(constant_model(raw)), Code::invalid_model, "needs 12 bytes, the tensor has 5");
}

TEST(ImportTensors, NumbersThatDoNotFitTheTypeAreRefused) {
  TensorProto tensor = typed(TensorProto::INT8, 1);
  tensor.add_int32_data(300);
  EXPECT_REFUSED(refusal_of(constant_model(tensor)), Code::invalid_model, "does not fit in int8");
  TensorProto half = typed(TensorProto::FLOAT16, 1);
  half.add_int32_data(-1);
  EXPECT_REFUSED(refusal_of(constant_model(half)), Code::invalid_model, "16-bit");
  TensorProto small = typed(TensorProto::FLOAT8E4M3FN, 1);
  small.add_int32_data(256);
  EXPECT_REFUSED(refusal_of(constant_model(small)), Code::invalid_model, "8-bit pattern");
}

TEST(ImportTensors, BooleansOfAFileAreNormalised) {
  TensorProto tensor = typed(TensorProto::BOOL, 3);
  tensor.set_raw_data(std::string("\x00\x02\xff", 3));
  const Tensor constant = imported_constant(tensor);
  EXPECT_EQ(constant.to_int64(), (std::vector<std::int64_t>{0, 1, 1}));
}

TEST(ImportTensors, LargeRawDataIsKept) {
  TensorProto tensor = typed(TensorProto::FLOAT, 100'000);
  std::vector<float> values(100'000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  tensor.set_raw_data(std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4));
  const Tensor constant = imported_constant(tensor);
  EXPECT_EQ(constant.as<float>()[99'999], 99'999.0F);
}

TEST(ImportTensors, EmptyTensorsNeedNoData) {
  const Tensor constant = imported_constant(typed(TensorProto::FLOAT, 0));
  EXPECT_EQ(constant.shape(), Shape{0});
}

// --- Sparse
// -----------------------------------------------------------------------------------------------------------

ModelProto sparse_model(const std::vector<std::int64_t>& indices, const std::vector<std::int64_t>& index_dims,
                        const std::vector<std::int64_t>& dims) {
  ModelProto model = new_model();
  SparseTensorProto& sparse = *model.mutable_graph()->add_sparse_initializer();
  *sparse.mutable_values() = float_tensor("c", {2}, {5, 7});
  sparse.mutable_indices()->set_data_type(TensorProto::INT64);
  for (const std::int64_t dim : index_dims) sparse.mutable_indices()->add_dims(dim);
  for (const std::int64_t index : indices) sparse.mutable_indices()->add_int64_data(index);
  for (const std::int64_t dim : dims) sparse.add_dims(dim);
  add_output(model, "c");
  return model;
}

TEST(ImportSparse, IsExpandedFromBothKindsOfIndices) {
  const std::vector<double> expected{0, 0, 5, 0, 7, 0};
  for (const ModelProto& model : {sparse_model({2, 4}, {2}, {2, 3}), sparse_model({0, 2, 1, 1}, {2, 2}, {2, 3})}) {
    const ImportedModel imported = import(model);
    const Tensor* constant = imported.graph.constant(imported.graph.outputs()[0]);
    EXPECT_EQ(constant->shape(), (Shape{2, 3}));
    EXPECT_EQ(constant->to_double(), expected);
  }
}

TEST(ImportSparse, IndicesOutsideAreRefused) {
  EXPECT_REFUSED(refusal_of(sparse_model({2, 6}, {2}, {2, 3})), Code::invalid_model, "outside");
  EXPECT_REFUSED(refusal_of(sparse_model({-1, 0}, {2}, {2, 3})), Code::invalid_model, "outside");
  EXPECT_REFUSED(refusal_of(sparse_model({0, 3, 0, 0}, {2, 2}, {2, 3})), Code::invalid_model, "outside axis 1");
  EXPECT_REFUSED(refusal_of(sparse_model({0, 1, 2}, {3}, {2, 3})), Code::invalid_model, "indices");
}

TEST(ImportSparse, AHugeExpansionIsRefused) {
  EXPECT_REFUSED(refusal_of(sparse_model({2, 6}, {2}, {1 << 20, 1 << 20})), Code::unsupported, "would need more than");
}

// --- External data
// ----------------------------------------------------------------------------------------------------

class ImportExternal : public ::testing::Test {
 protected:
  /// The model's constant of two floats, from `location`.
  Refusal load(const std::string& location, const std::vector<std::pair<std::string, std::string>>& more = {}) {
    TensorProto tensor = typed(TensorProto::FLOAT, 2);
    tensor.set_data_location(TensorProto::EXTERNAL);
    const auto add = [&](const std::string& key, const std::string& value) {
      StringStringEntryProto& entry = *tensor.add_external_data();
      entry.set_key(key);
      entry.set_value(value);
    };
    add("location", location);
    for (const auto& [key, value] : more) add(key, value);
    folder.write("m.onnx", constant_model(tensor).SerializeAsString());
    try {
      const ImportedModel model = import_onnx(folder.file("m.onnx"));
      loaded = *model.graph.constant(model.graph.outputs()[0]);
      return {};
    } catch (const Error& error) {
      return {error.code(), error.message()};
    }
  }
  static std::string floats(std::initializer_list<float> values) {
    return {reinterpret_cast<const char*>(values.begin()), values.size() * 4};
  }

  TemporaryFolder folder;
  Tensor loaded;
};

TEST_F(ImportExternal, IsReadAtItsOffset) {
  folder.write("data.bin", floats({1, 2, 3, 4}));
  EXPECT_EQ(load("data.bin").code, Code::ok);
  EXPECT_EQ(loaded.to_double(), (std::vector<double>{1, 2}));
  EXPECT_EQ(load("data.bin", {{"offset", "8"}, {"length", "8"}}).code, Code::ok);
  EXPECT_EQ(loaded.to_double(), (std::vector<double>{3, 4}));
  std::filesystem::create_directory(folder.file("sub"));
  folder.write("sub/data.bin", floats({5, 6}));
  EXPECT_EQ(load("./sub/data.bin").code, Code::ok);
  EXPECT_EQ(loaded.to_double(), (std::vector<double>{5, 6}));
}

TEST_F(ImportExternal, UnalignedOffsetsAreCopied) {
  folder.write("data.bin", "x" + floats({1, 2}));
  EXPECT_EQ(load("data.bin", {{"offset", "1"}}).code, Code::ok);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(loaded.data()) % 4, 0U);
  EXPECT_EQ(loaded.to_double(), (std::vector<double>{1, 2}));
}

TEST_F(ImportExternal, PathsOutOfTheFolderAreRefused) {
  folder.write("data.bin", floats({1, 2}));
  EXPECT_REFUSED(load("../data.bin"), Code::invalid_model, "leads out");
  EXPECT_REFUSED(load("sub/../../data.bin"), Code::invalid_model, "leads out");
  EXPECT_REFUSED(load("/etc/passwd"), Code::invalid_model, "absolute");
  EXPECT_REFUSED(load(""), Code::invalid_model, "names no file");
  EXPECT_REFUSED(load("."), Code::invalid_model, "no file");
  EXPECT_REFUSED(load(std::string("data.bin\0/x", 11)), Code::invalid_model, "no path");
}

TEST_F(ImportExternal, LinksAreRefused) {
  folder.write("data.bin", floats({1, 2}));
  std::filesystem::create_symlink(folder.file("data.bin"), folder.file("link.bin"));
  EXPECT_REFUSED(load("link.bin"), Code::invalid_model, "symbolic link");
  std::filesystem::create_directory(folder.file("real"));
  folder.write("real/data.bin", floats({1, 2}));
  std::filesystem::create_directory_symlink(folder.file("real"), folder.file("linked"));
  EXPECT_NE(load("linked/data.bin").code, Code::ok);
  std::filesystem::create_hard_link(folder.file("data.bin"), folder.file("hard.bin"));
  EXPECT_REFUSED(load("hard.bin"), Code::invalid_model, "hard links");
}

TEST_F(ImportExternal, OnlyRegularFilesAreRead) {
  std::filesystem::create_directory(folder.file("dir"));
  EXPECT_NE(load("dir").code, Code::ok);
  ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
  EXPECT_REFUSED(load("pipe"), Code::invalid_model, "no regular file");
  EXPECT_REFUSED(load("missing.bin"), Code::io_failure, "missing.bin");
}

TEST_F(ImportExternal, RangesOutsideTheFileAreRefused) {
  folder.write("data.bin", floats({1, 2}));
  EXPECT_REFUSED(load("data.bin", {{"offset", "4"}}), Code::invalid_model, "has only 8");
  EXPECT_REFUSED(load("data.bin", {{"offset", "18446744073709551615"}}), Code::invalid_model, "has only 8");
  EXPECT_REFUSED(load("data.bin", {{"offset", "-4"}}), Code::invalid_model, "no byte count");
  EXPECT_REFUSED(load("data.bin", {{"offset", "1e3"}}), Code::invalid_model, "no byte count");
  EXPECT_REFUSED(load("data.bin", {{"length", "4"}}), Code::invalid_model, "has 4 bytes");
}

TEST_F(ImportExternal, UnknownAndDoubledKeysAreRefused) {
  folder.write("data.bin", floats({1, 2}));
  EXPECT_REFUSED(load("data.bin", {{"basepath", "/etc"}}), Code::invalid_model, "key 'basepath'");
  EXPECT_REFUSED(load("data.bin", {{"location", "other"}}), Code::invalid_model, "twice");
}

TEST_F(ImportExternal, ModelsFromMemoryAndWithTheOptionOffReadNoFiles) {
  folder.write("data.bin", floats({1, 2}));
  EXPECT_EQ(load("data.bin").code, Code::ok);
  ImportOptions options;
  options.external_data = false;
  try {
    (void)import_onnx(folder.file("m.onnx"), options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
  }
  std::ifstream file(folder.file("m.onnx"), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  EXPECT_REFUSED(refusal_of(bytes_of(bytes)), Code::invalid_argument, "another file");
}

TEST_F(ImportExternal, TheRulesHoldForAttributesSparseTensorsAndSubgraphs) {
  const auto escape = [](TensorProto& tensor) {
    tensor.clear_float_data();
    tensor.set_data_location(TensorProto::EXTERNAL);
    StringStringEntryProto& entry = *tensor.add_external_data();
    entry.set_key("location");
    entry.set_value("../secret");
  };
  const auto expect_refused = [&](const ModelProto& model) {
    folder.write("m.onnx", model.SerializeAsString());
    try {
      (void)import_onnx(folder.file("m.onnx"));
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_NE(error.message().find("leads out"), std::string::npos) << error.message();
    }
  };
  ModelProto sparse = sparse_model({2, 4}, {2}, {2, 3});
  escape(*sparse.mutable_graph()->mutable_sparse_initializer(0)->mutable_values());
  expect_refused(sparse);

  ModelProto attribute = new_model();
  AttributeProto& value = *add_node(attribute, "Constant", {}, {"c"}).add_attribute();
  value.set_name("value");
  value.set_type(AttributeProto::TENSOR);
  *value.mutable_t() = float_tensor("", {2}, {});
  escape(*value.mutable_t());
  add_output(attribute, "c");
  expect_refused(attribute);

  ModelProto nested = new_model();
  add_input(nested, "cond", {}, TensorProto::BOOL);
  NodeProto& node = add_node(nested, "If", {"cond"}, {"y"});
  for (const char* name : {"then_branch", "else_branch"}) {
    AttributeProto& branch = *node.add_attribute();
    branch.set_name(name);
    branch.set_type(AttributeProto::GRAPH);
    *branch.mutable_g()->add_initializer() = float_tensor("r", {2}, {});
    escape(*branch.mutable_g()->mutable_initializer(0));
    branch.mutable_g()->add_output()->set_name("r");
  }
  add_output(nested, "y");
  expect_refused(nested);
}

}  // namespace
}  // namespace tenfold::onnx
