// Formulas of activation functions: ONNX operator set 22.
#include "ops/pointwise_form.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace tenfold {

namespace {

using Codes = PointwiseCode;

struct NamedCode {
  std::string_view type;
  Codes code;
};
constexpr std::array kUnary = {
    NamedCode{"Neg", Codes::neg},           NamedCode{"Abs", Codes::abs},
    NamedCode{"Relu", Codes::relu},         NamedCode{"Exp", Codes::exp},
    NamedCode{"Log", Codes::log},           NamedCode{"Sqrt", Codes::sqrt},
    NamedCode{"Tanh", Codes::tanh},         NamedCode{"Reciprocal", Codes::reciprocal},
    NamedCode{"Sigmoid", Codes::sigmoid},   NamedCode{"Erf", Codes::erf},
    NamedCode{"Floor", Codes::floor},       NamedCode{"HardSwish", Codes::hard_swish},
    NamedCode{"Ceil", Codes::ceil},         NamedCode{"Round", Codes::round},
    NamedCode{"Sin", Codes::sin},           NamedCode{"Cos", Codes::cos},
    NamedCode{"Softplus", Codes::softplus},
};
constexpr std::array kBinary = {
    NamedCode{"Add", Codes::add}, NamedCode{"Sub", Codes::sub},     NamedCode{"Mul", Codes::mul},
    NamedCode{"Div", Codes::div}, NamedCode{"Max", Codes::max},     NamedCode{"Min", Codes::min},
    NamedCode{"Pow", Codes::pow}, NamedCode{"PRelu", Codes::prelu},
};
template <typename Table>
std::optional<Codes> find(const Table& table, std::string_view type) {
  const auto found =
      std::find_if(table.begin(), table.end(), [&](const NamedCode& entry) { return entry.type == type; });
  if (found == table.end()) return std::nullopt;
  return found->code;
}

/// Operators of one input that need more than one instruction or an attribute.
bool append_activation(const Op& op, PointwiseProgram& program) {
  const std::string_view type = op.type();
  const Attributes attributes = op.attributes();
  const auto number = [&](std::string_view name, double otherwise) {
    return static_cast<float>(attributes.get_float(name, otherwise));
  };
  if (type == "LeakyRelu") {
    program.append(Codes::leaky_relu, 0, 0, 0, number("alpha", 0.01));
  } else if (type == "Elu") {
    program.append(Codes::elu, 0, 0, 0, number("alpha", 1.0));
  } else if (type == "Selu") {
    const int elu = program.append(Codes::elu, 0, 0, 0, number("alpha", 1.67326319217681884765625));
    program.append(Codes::mul_imm, elu, 0, 0, number("gamma", 1.05070102214813232421875));
  } else if (type == "Gelu") {
    if (attributes.get_string("approximate", "none") == "tanh") {
      append_gelu_tanh(program);
    } else {
      program.append(Codes::gelu, 0);
    }
  } else if (type == "HardSigmoid") {
    const int line = program.append(Codes::add_imm, program.append(Codes::mul_imm, 0, 0, 0, number("alpha", 0.2)), 0, 0,
                                    number("beta", 0.5));
    program.append(Codes::min_imm, program.append(Codes::max_imm, line, 0, 0, 0.0F), 0, 0, 1.0F);
  } else if (type == "Softsign") {
    program.append(Codes::div, 0, program.append(Codes::add_imm, program.append(Codes::abs, 0), 0, 0, 1.0F));
  } else if (type == "Mish") {
    program.append(Codes::mul, 0, program.append(Codes::tanh, program.append(Codes::softplus, 0)));
  } else if (type == "Swish") {
    const float alpha = number("alpha", 1.0);
    if (alpha == 1.0F) {
      program.append(Codes::silu, 0);
    } else {
      program.append(Codes::mul, 0, program.append(Codes::sigmoid, program.append(Codes::mul_imm, 0, 0, 0, alpha)));
    }
  } else if (type == "ThresholdedRelu") {
    const int above = program.append(Codes::less, program.append(Codes::constant, 0, 0, 0, number("alpha", 1.0)), 0);
    program.append(Codes::select, above, 0, program.append(Codes::constant));
  } else {
    return false;
  }
  return true;
}

}  // namespace

void append_gelu_tanh(PointwiseProgram& program) {
  const int square = program.append(Codes::square, 0);
  const int inner = program.append(Codes::add_imm, program.append(Codes::mul_imm, square, 0, 0, 0.044715F), 0, 0, 1.0F);
  const int scaled = program.append(Codes::mul_imm, program.append(Codes::mul, inner, 0), 0, 0, 0.7978845608F);
  const int one_plus = program.append(Codes::add_imm, program.append(Codes::tanh, scaled), 0, 0, 1.0F);
  program.append(Codes::mul, program.append(Codes::mul_imm, 0, 0, 0, 0.5F), one_plus);
}

std::optional<PointwiseForm> pointwise_form(const Op& op, const std::vector<TensorType>& input_types,
                                            const TensorType& output_type) {
  const std::string_view type = op.type();
  const bool may_be_byte = type == "Pointwise";
  const auto is_byte = [](DType dtype) { return dtype == DType::int8 || dtype == DType::uint8; };
  if (output_type.dtype != DType::float32 && !(may_be_byte && is_byte(output_type.dtype))) return std::nullopt;
  PointwiseForm form;
  for (int i = 0; i < static_cast<int>(input_types.size()); ++i) {
    const DType dtype = input_types[static_cast<std::size_t>(i)].dtype;
    if (dtype == DType::undefined) continue;
    const bool may_be_bool = (type == "Where" && i == 0) || type == "Cast" || type == "Pointwise";
    if (dtype != DType::float32 && !(dtype == DType::boolean && may_be_bool) && !(may_be_byte && is_byte(dtype)))
      return std::nullopt;
    form.inputs.push_back(i);
  }
  const int count = static_cast<int>(form.inputs.size());
  if (count == 0 || count >= PointwiseProgram::kMaxRegisters) return std::nullopt;
  PointwiseProgram& program = form.program;
  program.num_inputs = count;

  if (type == "Pointwise") {
    const auto* pointwise = dynamic_cast<const Pointwise*>(&op);
    if (pointwise == nullptr || pointwise->program().num_inputs != count) return std::nullopt;
    program = pointwise->program();
    return form;
  }
  if (type == "Clip") {
    const bool has_min = input_types.size() > 1 && input_types[1].dtype != DType::undefined;
    const bool has_max = input_types.size() > 2 && input_types[2].dtype != DType::undefined;
    int x = 0;
    if (has_min) x = program.append(Codes::max, x, 1);
    if (has_max) x = program.append(Codes::min, x, has_min ? 2 : 1);
    if (program.empty()) return std::nullopt;
    return form;
  }
  if (type == "Where") {
    if (count != 3) return std::nullopt;
    program.append(Codes::select, 0, 1, 2);
    return form;
  }
  if (type == "Cast") {
    if (count != 1) return std::nullopt;
    program.append(Codes::mul_imm, 0, 0, 0, 1.0F);
    return form;
  }
  if (const auto code = find(kBinary, type)) {
    if (count != 2) return std::nullopt;
    program.append(*code, 0, 1);
    return form;
  }
  if (count != 1) return std::nullopt;
  if (const auto code = find(kUnary, type)) {
    program.append(*code, 0);
    return form;
  }
  if (append_activation(op, program)) return form;
  return std::nullopt;
}

}  // namespace tenfold
