// Small ONNX models, built field by field, for the tests of the importer.
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <onnx.pb.h>
#include <stdlib.h>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "import/import.hpp"

namespace tenfold::onnx {

inline ModelProto new_model(int opset = 17) {
  ModelProto model;
  model.set_ir_version(8);
  model.set_producer_name("test");
  model.add_opset_import()->set_version(opset);
  model.mutable_graph()->set_name("g");
  return model;
}

inline NodeProto& add_node(google::protobuf::RepeatedPtrField<NodeProto>* nodes, const std::string& type,
                           const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                           const std::string& name = "") {
  NodeProto& node = *nodes->Add();
  node.set_op_type(type);
  for (const std::string& input : inputs) node.add_input(input);
  for (const std::string& output : outputs) node.add_output(output);
  if (!name.empty()) node.set_name(name);
  return node;
}
inline NodeProto& add_node(ModelProto& model, const std::string& type, const std::vector<std::string>& inputs,
                           const std::vector<std::string>& outputs, const std::string& name = "") {
  return add_node(model.mutable_graph()->mutable_node(), type, inputs, outputs, name);
}

/// A dimension: a number, or a name.
struct TestDim {
  TestDim(int number) : value(number) {}         // NOLINT(google-explicit-constructor)
  TestDim(const char* symbol) : name(symbol) {}  // NOLINT(google-explicit-constructor)
  std::int64_t value = 0;
  std::string name;
};
inline void set_type(ValueInfoProto& info, const std::string& name, std::initializer_list<TestDim> dims,
                     int type = TensorProto::FLOAT) {
  info.set_name(name);
  TypeProto::Tensor& tensor = *info.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type);
  tensor.mutable_shape();
  for (const TestDim& dim : dims) {
    if (dim.name.empty()) {
      tensor.mutable_shape()->add_dim()->set_dim_value(dim.value);
    } else {
      tensor.mutable_shape()->add_dim()->set_dim_param(dim.name);
    }
  }
}
inline void add_input(ModelProto& model, const std::string& name, std::initializer_list<TestDim> dims,
                      int type = TensorProto::FLOAT) {
  set_type(*model.mutable_graph()->add_input(), name, dims, type);
}
inline void add_output(ModelProto& model, const std::string& name) {
  model.mutable_graph()->add_output()->set_name(name);
}

inline TensorProto float_tensor(const std::string& name, const std::vector<std::int64_t>& dims,
                                const std::vector<float>& values) {
  TensorProto tensor;
  tensor.set_name(name);
  tensor.set_data_type(TensorProto::FLOAT);
  for (const std::int64_t dim : dims) tensor.add_dims(dim);
  for (const float value : values) tensor.add_float_data(value);
  return tensor;
}
inline AttributeProto int_attribute(const std::string& name, std::int64_t value) {
  AttributeProto attribute;
  attribute.set_name(name);
  attribute.set_type(AttributeProto::INT);
  attribute.set_i(value);
  return attribute;
}

inline std::vector<std::byte> bytes_of(const std::string& text) {
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return {data, data + text.size()};
}
inline std::vector<std::byte> bytes_of(const ModelProto& model) { return bytes_of(model.SerializeAsString()); }

/// y = Relu(x + w), w a constant of shape [3].
inline ModelProto small_model() {
  ModelProto model = new_model();
  add_input(model, "x", {"batch", 3});
  *model.mutable_graph()->add_initializer() = float_tensor("w", {3}, {1, -2, 3});
  add_node(model, "Add", {"x", "w"}, {"sum"}, "add");
  add_node(model, "Relu", {"sum"}, {"y"}, "relu");
  add_output(model, "y");
  return model;
}

inline ImportedModel import(const ModelProto& model, const ImportOptions& options = {}) {
  ImportedModel imported = import_onnx(bytes_of(model), options);
  imported.graph.verify();
  return imported;
}

struct Refusal {
  Code code = Code::ok;
  std::string message;
};
inline Refusal refusal_of(std::span<const std::byte> bytes, const ImportOptions& options = {}) {
  try {
    (void)import_onnx(bytes, options);
    return {};
  } catch (const Error& error) {
    return {error.code(), error.message()};
  }
}
inline Refusal refusal_of(const ModelProto& model, const ImportOptions& options = {}) {
  return refusal_of(bytes_of(model), options);
}
#define EXPECT_REFUSED(refusal, expected_code, part)                               \
  do {                                                                             \
    const auto& refusal_ = (refusal);                                              \
    EXPECT_EQ(to_string(refusal_.code), to_string(expected_code));                 \
    EXPECT_NE(refusal_.message.find(part), std::string::npos) << refusal_.message; \
  } while (false)

/// A folder that is removed after the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "tenfold_import_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw Error(Code::io_failure, "no temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string file(const std::string& name) const { return path_ / name; }
  void write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ / name, std::ios::binary) << content;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace tenfold::onnx
