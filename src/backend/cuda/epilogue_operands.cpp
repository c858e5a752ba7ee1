#include "backend/cuda/epilogue_operands.hpp"

#include <algorithm>

namespace tenfold::cuda {

namespace {

enum class Reach : std::uint8_t { scalar, channel, image, element };

std::optional<Reach> reach_of(const TensorType& operand, const TensorType& result) {
  if (operand.dims == result.dims) return Reach::element;
  std::size_t first = 0;
  while (first < operand.dims.size() && operand.dims[first] == Dim(1)) ++first;
  if (first == operand.dims.size()) return Reach::scalar;
  if (!(operand.dims.back() == result.dims.back())) return std::nullopt;
  if (first + 1 == operand.dims.size()) return Reach::channel;
  if (operand.rank() != result.rank() || !(operand.dims[0] == result.dims[0])) return std::nullopt;
  const bool is_image =
      std::all_of(operand.dims.begin() + 1, operand.dims.end() - 1, [](const Dim& d) { return d == Dim(1); });
  return is_image ? std::optional(Reach::image) : std::nullopt;
}

}  // namespace

EpilogueOperands EpilogueOperands::from(std::span<const TensorView> inputs, std::size_t first) {
  EpilogueOperands operands;
  for (std::size_t i = first; i < inputs.size(); ++i) {
    operands.data[i - first] = inputs[i].data;
    operands.pitches[i - first] = inputs[i].pitch;
  }
  return operands;
}

Refusal refuses_epilogue_operands(const std::vector<TensorType>& inputs, std::size_t first, const TensorType& result) {
  if (inputs.size() > first + EpilogueOperands::kMost)
    return fmt::format("the epilogue has {} operands, at most {}", inputs.size() - first, EpilogueOperands::kMost);
  for (std::size_t i = first; i < inputs.size(); ++i) {
    if (!is_pointwise_operand(inputs[i].dtype))
      return fmt::format("input {} of the epilogue is {}", i, to_string(inputs[i].dtype));
    if (!reach_of(inputs[i], result))
      return fmt::format("input {} of the epilogue is broadcast in a way it cannot read", i);
  }
  return std::nullopt;
}

std::string_view epilogue_operands_prelude() {
  return R"(
struct Operands {
  const void* data[8];
  long long pitches[8];
};
)";
}

ProgramText epilogue_text(const PointwiseProgram& program, const std::vector<TensorType>& inputs, std::size_t first,
                          const TensorType& result, const ElementPlace& place, std::string_view indent) {
  std::string loads;
  std::vector<std::string> registers{"s0"};
  for (std::size_t i = first; i < inputs.size(); ++i) {
    const std::size_t operand = i - first;
    std::string offset = "0";
    switch (*reach_of(inputs[i], result)) {
      case Reach::scalar:
        break;
      case Reach::channel:
        offset = place.channel;
        break;
      case Reach::image:
        offset = fmt::format("(long long)({}) * {} + {}", place.image, result.dims.back().to_string(), place.channel);
        break;
      case Reach::element:
        offset = fmt::format("({}) * {}.pitches[{}] + {}", place.pixel, place.operands, operand, place.channel);
        break;
    }
    loads += fmt::format("{0}const float s{1} = tf::to_float(((const {2}*){3}.data[{4}])[{5}]);\n", indent, operand + 1,
                         device_type(inputs[i].dtype), place.operands, operand, offset);
    registers.push_back(fmt::format("s{}", operand + 1));
  }
  registers.resize(static_cast<std::size_t>(program.num_inputs));
  ProgramText text = emit_program(program, registers, "r", math_mode_for(result.dtype), indent);
  text.statements = loads + text.statements;
  return text;
}

}  // namespace tenfold::cuda
