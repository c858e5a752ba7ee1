// The quantised operators of the domain com.microsoft against values worked out by hand.
#include "ops/interpreter.hpp"
#include "unit/onnx_models.hpp"

namespace tenfold::onnx {
namespace {

/// The ONNX name of an element type, and the graph's.
template <typename T>
constexpr auto kTypeOf = std::pair(TensorProto::INT32, DType::int32);
template <>
constexpr auto kTypeOf<std::uint8_t> = std::pair(TensorProto::UINT8, DType::uint8);
template <>
constexpr auto kTypeOf<std::int8_t> = std::pair(TensorProto::INT8, DType::int8);
template <>
constexpr auto kTypeOf<bool> = std::pair(TensorProto::BOOL, DType::boolean);

/// A model of one operator: input x, constants, output y.
class OneOperator {
 public:
  explicit OneOperator(const std::string& type) {
    auto& domain = *model_.add_opset_import();
    domain.set_domain("com.microsoft");
    domain.set_version(1);
    add_output(model_, "y");
    add_node(model_, type, {}, {"y"}, "node").set_domain("com.microsoft");
  }
  template <typename T>
  OneOperator& x(std::initializer_list<TestDim> dims, std::vector<T> values) {
    add_input(model_, "x", dims, kTypeOf<T>.first);
    Shape shape;
    for (const TestDim& dim : dims) shape.push_back(dim.value);
    input_ = Tensor::from<T>(kTypeOf<T>.second, std::move(shape), values);
    node().add_input("x");
    return *this;
  }
  template <typename T>
  OneOperator& integers(const std::vector<std::int64_t>& dims, const std::vector<T>& values) {
    TensorProto& tensor = add_constant(dims);
    tensor.set_data_type(kTypeOf<T>.first);
    for (const T value : values) tensor.add_int32_data(value);
    return *this;
  }
  OneOperator& scale(const std::vector<float>& values) {
    const bool is_one = values.size() == 1;
    TensorProto& tensor =
        add_constant(is_one ? std::vector<std::int64_t>{} : std::vector<std::int64_t>{std::ssize(values)});
    tensor.set_data_type(TensorProto::FLOAT);
    for (const float value : values) tensor.add_float_data(value);
    return *this;
  }
  OneOperator& none() {
    node().add_input("");
    return *this;
  }
  OneOperator& with(const std::string& name, std::int64_t value) {
    add_attribute(name, AttributeProto::INT).set_i(value);
    return *this;
  }
  OneOperator& with_float(const std::string& name, float value) {
    add_attribute(name, AttributeProto::FLOAT).set_f(value);
    return *this;
  }
  OneOperator& with_ints(const std::string& name, const std::vector<std::int64_t>& values) {
    AttributeProto& attribute = add_attribute(name, AttributeProto::INTS);
    for (const std::int64_t value : values) attribute.add_ints(value);
    return *this;
  }

  template <typename T>
  std::vector<T> run() const {
    const std::vector<Tensor> outputs = interpret(import(model_).graph, std::span(&input_, 1));
    const auto values = outputs.at(0).as<T>();
    return {values.begin(), values.end()};
  }
  std::string error() const { return refusal_of(model_).message; }

 private:
  NodeProto& node() { return *model_.mutable_graph()->mutable_node(0); }
  AttributeProto& add_attribute(const std::string& name, AttributeProto::AttributeType type) {
    AttributeProto& attribute = *node().add_attribute();
    attribute.set_name(name);
    attribute.set_type(type);
    return attribute;
  }
  TensorProto& add_constant(const std::vector<std::int64_t>& dims) {
    TensorProto& tensor = *model_.mutable_graph()->add_initializer();
    tensor.set_name("c" + std::to_string(node().input_size()));
    for (const std::int64_t dim : dims) tensor.add_dims(dim);
    node().add_input(tensor.name());
    return tensor;
  }

  ModelProto model_ = new_model();
  Tensor input_;
};

using Bytes = std::vector<std::uint8_t>;
using SignedBytes = std::vector<std::int8_t>;

TEST(ImportMicrosoft, SumsAndProductsAreBroadcast) {
  // (0, 5, 60, -5) + 2, by quarters from 100 on
  EXPECT_EQ(OneOperator("QLinearAdd")
                .x<std::uint8_t>({4}, {10, 20, 130, 0})
                .scale({0.5F})
                .integers<std::uint8_t>({}, {10})
                .integers<std::uint8_t>({1}, {1})
                .scale({2})
                .integers<std::uint8_t>({}, {0})
                .scale({0.25F})
                .integers<std::uint8_t>({}, {100})
                .run<std::uint8_t>(),
            (Bytes{108, 128, 255, 88}));
  // (-2, 3, 50, -50) * 3 without zero points: the result is what the first operand is
  EXPECT_EQ(OneOperator("QLinearMul")
                .x<std::int8_t>({4}, {-4, 6, 100, -100})
                .scale({0.5F})
                .none()
                .integers<std::int8_t>({1}, {3})
                .scale({1})
                .none()
                .scale({1})
                .run<std::int8_t>(),
            (SignedBytes{-6, 9, 127, -128}));
}

TEST(ImportMicrosoft, OneOperandIsDequantisedAndQuantisedAgain) {
  const auto unary = [](const std::string& type, std::initializer_list<TestDim> dims, const Bytes& x, float scale) {
    return OneOperator(type)
        .x<std::uint8_t>(dims, x)
        .scale({0.5F})
        .integers<std::uint8_t>({}, {4})
        .scale({scale})
        .integers<std::uint8_t>({}, {3});
  };
  EXPECT_EQ(unary("QLinearGlobalAveragePool", {1, 2, 1, 2}, {6, 8, 14, 34}, 0.5F).run<std::uint8_t>(), (Bytes{6, 23}));
  EXPECT_EQ(
      unary("QLinearAveragePool", {1, 1, 1, 3}, {6, 8, 14}, 0.5F).with_ints("kernel_shape", {1, 2}).run<std::uint8_t>(),
      (Bytes{6, 10}));
  EXPECT_EQ(unary("QLinearLeakyRelu", {2}, {0, 10}, 1).with_float("alpha", 0.5F).run<std::uint8_t>(), (Bytes{2, 6}));
  EXPECT_EQ(unary("QLinearSigmoid", {1}, {4}, 0x1p-7F).run<std::uint8_t>(), (Bytes{67}));
  EXPECT_EQ(unary("QLinearSoftmax", {1, 2}, {9, 9}, 0x1p-7F).run<std::uint8_t>(), (Bytes{67, 67}));
}

TEST(ImportMicrosoft, TensorsWithScalesOfTheirOwnAreJoinedAndChosenFrom) {
  // (10, 20) and 8, by twos
  EXPECT_EQ(OneOperator("QLinearConcat")
                .scale({2})
                .integers<std::uint8_t>({}, {0})
                .x<std::uint8_t>({2}, {10, 20})
                .scale({1})
                .integers<std::uint8_t>({}, {0})
                .integers<std::uint8_t>({1}, {5})
                .scale({2})
                .integers<std::uint8_t>({}, {1})
                .with("axis", 0)
                .run<std::uint8_t>(),
            (Bytes{5, 10, 4}));
  // (10, 20, 30) or 8, by twos from 1 on
  EXPECT_EQ(OneOperator("QLinearWhere")
                .integers<bool>({3}, {true, false, true})
                .x<std::uint8_t>({3}, {10, 20, 30})
                .scale({1})
                .none()
                .integers<std::uint8_t>({}, {5})
                .scale({2})
                .integers<std::uint8_t>({}, {1})
                .scale({2})
                .integers<std::uint8_t>({}, {1})
                .run<std::uint8_t>(),
            (Bytes{6, 5, 16}));
}

OneOperator gemm() {
  return OneOperator("QGemm")
      .x<std::uint8_t>({1, 2}, {3, 5})
      .scale({1})
      .integers<std::uint8_t>({}, {1})
      .integers<std::int8_t>({2, 2}, {1, 2, 3, -1})
      .scale({0.5F, 2})
      .integers<std::int8_t>({2}, {0, 0})
      .integers<std::int32_t>({2}, {3, -1})
      .with("transB", 1)
      .with_float("alpha", 2);
}

TEST(ImportMicrosoft, ProductsHaveAScaleForEachColumn) {
  // 2 (2, 4) ((0.5, 1), (6, -2))^T + (3, -1) (1, 4)
  EXPECT_EQ(gemm().run<float>(), (std::vector<float>{13, 4}));
  EXPECT_EQ(gemm().scale({0.5F}).integers<std::uint8_t>({}, {1}).run<std::uint8_t>(), (Bytes{27, 9}));
}

TEST(ImportMicrosoft, WhatIsMissingIsSaid) {
  const auto pool = [] {
    return OneOperator("QLinearGlobalAveragePool").x<std::uint8_t>({1, 2, 1, 2}, {1, 2, 3, 4}).scale({1}).none();
  };
  EXPECT_NE(pool().scale({1}).with("channels_last", 1).error().find("channels_last 1 is not supported"),
            std::string::npos);
  EXPECT_NE(pool().error().find("input 3 (the output's scale) is missing"), std::string::npos);
  EXPECT_NE(OneOperator("QLinearSigmoid")
                .x<std::int32_t>({1}, {1})
                .scale({1})
                .none()
                .scale({1})
                .error()
                .find("must be int8 or uint8, got int32"),
            std::string::npos);
  EXPECT_NE(OneOperator("QLinearSoftmax")
                .x<std::uint8_t>({2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8})
                .scale({1})
                .none()
                .scale({1})
                .with("opset", 12)
                .with("axis", 1)
                .error()
                .find("softmax over axes 1 to 2 together (opset 12)"),
            std::string::npos);
  EXPECT_NE(OneOperator("QLinearConcat").scale({1}).none().error().find("got 2 inputs"), std::string::npos);
  EXPECT_NE(OneOperator("MatMulNBits").x<std::uint8_t>({1}, {1}).error().find("operator MatMulNBits of com.microsoft"),
            std::string::npos);
  // The domain is not part of a name.
  ModelProto model = new_model();
  add_input(model, "x", {1});
  add_node(model, "com.microsoft.QLinearAdd", {"x"}, {"y"});
  add_output(model, "y");
  EXPECT_REFUSED(refusal_of(model), Code::unsupported, "operator com.microsoft.QLinearAdd of ai.onnx");
}

}  // namespace
}  // namespace tenfold::onnx
