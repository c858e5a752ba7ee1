// The pointwise program: its text, its scalar meaning, and the operator Pointwise.
#include "ops/pointwise.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <numbers>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"
#include "ops/registry.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

// The functions of the formulas for scalars. Minimum and maximum hand NaN on, as NumPy's do; `round` goes to even.
namespace math {
double max(double a, double b) { return a > b || a != a ? a : b; }
double min(double a, double b) { return a < b || a != a ? a : b; }
double select(bool condition, double a, double b) { return condition ? a : b; }
double pow(double a, double b) { return std::pow(a, b); }
double abs(double a) { return std::abs(a); }
double exp(double a) { return std::exp(a); }
double log(double a) { return std::log(a); }
double sqrt(double a) { return std::sqrt(a); }
double tanh(double a) { return std::tanh(a); }
double sigmoid(double a) { return 1 / (1 + std::exp(-a)); }
double erf(double a) { return std::erf(a); }
double gelu(double a) { return 0.5 * a * std::erfc(-a / std::numbers::sqrt2); }
double floor(double a) { return std::floor(a); }
double ceil(double a) { return std::ceil(a); }
double round(double a) { return std::nearbyint(a); }
double sin(double a) { return std::sin(a); }
double cos(double a) { return std::cos(a); }
double softplus(double a) { return std::max(a, 0.0) + std::log1p(std::exp(-std::abs(a))); }
}  // namespace math

struct CodeInfo {
  std::string_view name;
  int operands;
};
constexpr std::array kCodes{
#define TENFOLD_CODE(name, operands, formula) CodeInfo{#name, operands},
    TENFOLD_POINTWISE_CODES(TENFOLD_CODE)
#undef TENFOLD_CODE
};
/// The text form says "const", which is a keyword and so no enumerator.
constexpr std::string_view kConstantName = "const";

const CodeInfo& info(PointwiseCode code) {
  const auto index = static_cast<std::size_t>(code);
  ensure(index < kCodes.size(), "unknown pointwise code {}", index);
  return kCodes[index];
}

std::string print_immediate(float value) { return fmt::format("{:a}", value); }

/// Hexadecimal or decimal floating point, "inf", "-inf" or "nan"; independent of the locale.
std::optional<float> parse_immediate(std::string_view text) {
  const bool negative = !text.empty() && text.front() == '-';
  if (negative) text.remove_prefix(1);
  std::chars_format format = std::chars_format::general;
  if (text.starts_with("0x")) {
    text.remove_prefix(2);
    format = std::chars_format::hex;
  }
  if (text.empty() || text.front() == '-') return std::nullopt;
  float value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value, format);
  if (status != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return negative ? -value : value;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

/// Takes the text up to the next `separator`, which goes too.
std::string_view take(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view head = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return head;
}

double run_program(const PointwiseProgram& program, std::array<double, PointwiseProgram::kMaxRegisters>& registers) {
  auto next = static_cast<std::size_t>(program.num_inputs);
  for (const PointwiseInstruction& i : program.instructions) {
    registers[next++] = evaluate(i, registers[i.a], registers[i.b], registers[i.c]);
  }
  return registers[next - 1];
}

/// An operand of a program: its elements, and the shape that is broadcast.
struct Operand {
  std::vector<double> values;
  std::span<const std::int64_t> dims;
};

/// Evaluates the program over the shape of `output` with the operands broadcast to it.
void run_broadcast(const PointwiseProgram& program, std::span<const Operand> operands, const TensorView& output) {
  ensure(static_cast<int>(operands.size()) == program.num_inputs, "a program of {} inputs was given {}",
         program.num_inputs, operands.size());
  std::vector<Shape> strides;
  for (const Operand& operand : operands) strides.push_back(broadcast_strides(operand.dims, output.dims));
  std::vector<double> results;
  results.reserve(static_cast<std::size_t>(output.num_elements()));
  std::array<double, PointwiseProgram::kMaxRegisters> registers{};
  for_each_index(output.dims, strides, [&](std::span<const std::int64_t> offsets) {
    for (std::size_t i = 0; i < operands.size(); ++i) {
      registers[i] = operands[i].values[static_cast<std::size_t>(offsets[i])];
    }
    results.push_back(run_program(program, registers));
  });
  store_doubles(results, output);
}

DType result_type_from(const Attributes& attributes, DType otherwise) {
  if (!attributes.has("to")) return otherwise;
  const DType dtype = get_dtype(attributes, "to");
  require(is_pointwise_result(dtype), Code::invalid_model, "a result cannot be stored as {}", to_string(dtype));
  return dtype;
}

OpPtr make_pointwise(const Attributes& attributes) {
  const std::int64_t num_inputs = attributes.get_int("num_inputs");
  require(1 <= num_inputs && num_inputs < PointwiseProgram::kMaxRegisters, Code::invalid_model,
          "num_inputs must be 1 to {}, got {}", PointwiseProgram::kMaxRegisters - 1, num_inputs);
  auto program = PointwiseProgram::parse(static_cast<int>(num_inputs), attributes.get_string("program"));
  require(!program.empty(), Code::invalid_model, "the program has no instruction");
  return std::make_shared<const Pointwise>(std::move(program), result_type_from(attributes, DType::float32));
}

}  // namespace

bool is_pointwise_operand(DType dtype) { return dtype == DType::boolean || is_pointwise_result(dtype); }

bool is_pointwise_result(DType dtype) {
  return is_float(dtype) || dtype == DType::int8 || dtype == DType::uint8 || dtype == DType::float8e4m3;
}

int num_operands(PointwiseCode code) { return info(code).operands; }

bool has_immediate(PointwiseCode code) {
  switch (code) {
    case PointwiseCode::constant:
    case PointwiseCode::add_imm:
    case PointwiseCode::mul_imm:
    case PointwiseCode::max_imm:
    case PointwiseCode::min_imm:
    case PointwiseCode::rsub_imm:
    case PointwiseCode::rdiv_imm:
    case PointwiseCode::pow_imm:
    case PointwiseCode::leaky_relu:
    case PointwiseCode::elu:
      return true;
    default:
      return false;
  }
}

std::string_view to_string(PointwiseCode code) {
  return code == PointwiseCode::constant ? kConstantName : info(code).name;
}

double evaluate(const PointwiseInstruction& instruction, double a, double b, double c) {
  using T = double;
  [[maybe_unused]] const double k = instruction.immediate;
  switch (instruction.code) {
#define TENFOLD_CODE(name, operands, formula) \
  case PointwiseCode::name:                   \
    return formula;
    TENFOLD_POINTWISE_CODES(TENFOLD_CODE)
#undef TENFOLD_CODE
  }
  throw Error(Code::internal, "unknown pointwise code");
}

int PointwiseProgram::append(PointwiseCode code, int a, int b, int c, float immediate) {
  const int next = result() + 1;
  ensure(next < kMaxRegisters, "a pointwise program has at most {} registers", kMaxRegisters);
  ensure(0 <= a && a < next && 0 <= b && b < next && 0 <= c && c < next, "a register is read before it is written");
  // What a code does not use is 0, so that equal programs compare equal.
  const int operands = num_operands(code);
  PointwiseInstruction instruction{.code = code};
  if (operands > 0) instruction.a = static_cast<std::uint8_t>(a);
  if (operands > 1) instruction.b = static_cast<std::uint8_t>(b);
  if (operands > 2) instruction.c = static_cast<std::uint8_t>(c);
  if (has_immediate(code)) instruction.immediate = immediate;
  instructions.push_back(instruction);
  return next;
}

std::string PointwiseProgram::to_string() const {
  std::string text;
  for (const PointwiseInstruction& i : instructions) {
    if (!text.empty()) text += "; ";
    text += tenfold::to_string(i.code);
    const std::array operands{i.a, i.b, i.c};
    for (int k = 0; k < num_operands(i.code); ++k) text += fmt::format(" {}", operands[static_cast<std::size_t>(k)]);
    if (has_immediate(i.code)) text += " " + print_immediate(i.immediate);
  }
  return text;
}

PointwiseProgram PointwiseProgram::parse(int num_inputs, std::string_view text) {
  require(1 <= num_inputs && num_inputs <= kMaxRegisters, Code::invalid_model,
          "a pointwise program has 1 to {} inputs, got {}", kMaxRegisters, num_inputs);
  PointwiseProgram program;
  program.num_inputs = num_inputs;
  for (text = trim(text); !text.empty();) {
    const std::string_view instruction = trim(take(text, ';'));
    std::string_view rest = instruction;
    const std::string_view name = take(rest, ' ');
    std::size_t code = 0;
    while (code < kCodes.size() && tenfold::to_string(static_cast<PointwiseCode>(code)) != name) ++code;
    require(code < kCodes.size(), Code::invalid_model, "unknown pointwise instruction '{}'", instruction);
    require(program.result() + 1 < kMaxRegisters, Code::invalid_model, "a pointwise program has at most {} registers",
            kMaxRegisters);
    std::array<int, 3> operands{};
    for (int k = 0; k < kCodes[code].operands; ++k) {
      rest = trim(rest);
      const std::string_view word = take(rest, ' ');
      int& value = operands[static_cast<std::size_t>(k)];
      const auto [end, status] = std::from_chars(word.data(), word.data() + word.size(), value);
      require(status == std::errc{} && end == word.data() + word.size(), Code::invalid_model,
              "pointwise instruction '{}' needs {} registers", instruction, kCodes[code].operands);
      require(0 <= value && value <= program.result(), Code::invalid_model,
              "pointwise instruction '{}' reads register {}, but only 0 to {} are written", instruction, value,
              program.result());
    }
    rest = trim(rest);
    float immediate = 0;
    if (has_immediate(static_cast<PointwiseCode>(code))) {
      const std::optional<float> value = parse_immediate(take(rest, ' '));
      require(value.has_value(), Code::invalid_model, "pointwise instruction '{}' needs a number at its end",
              instruction);
      immediate = *value;
    }
    require(trim(rest).empty(), Code::invalid_model, "pointwise instruction '{}' has too many operands", instruction);
    program.append(static_cast<PointwiseCode>(code), operands[0], operands[1], operands[2], immediate);
  }
  return program;
}

Attributes Pointwise::attributes() const {
  Attributes attributes{{"num_inputs", std::int64_t{program_.num_inputs}}, {"program", program_.to_string()}};
  if (result_ != DType::float32) attributes.set("to", std::string(tenfold::to_string(result_)));
  return attributes;
}

void Pointwise::infer(InferContext& context) const {
  check_num_inputs(context, program_.num_inputs, program_.num_inputs);
  check_num_outputs(context, 1, 1);
  std::vector<Dim> dims;
  for (int i = 0; i < program_.num_inputs; ++i) {
    const TensorType& type = context.input(i);
    require(is_pointwise_operand(type.dtype), Code::invalid_model,
            "input {} must be of a float type, float8e4m3, int8, uint8 or bool, got {}", i, to_string(type.dtype));
    dims = i == 0 ? type.dims : broadcast_dims(dims, type.dims);
  }
  context.set_output(0, {result_, std::move(dims)});
}

void Pointwise::evaluate(EvalContext& context) const {
  std::vector<Operand> operands;
  for (int i = 0; i < context.num_inputs(); ++i)
    operands.push_back({load_doubles(context.input(i)), context.input(i).dims});
  run_broadcast(program_, operands, context.output(0));
}

double Pointwise::flops(std::span<const TensorType>, std::span<const TensorType> outputs) const {
  if (outputs.empty() || !outputs[0].is_static()) return 0;
  double elements = 1;
  for (const Dim& dim : outputs[0].dims) elements *= static_cast<double>(dim.constant());
  return elements * static_cast<double>(program_.instructions.size());
}

Epilogue Epilogue::from(const Attributes& attributes) {
  Epilogue epilogue;
  const std::int64_t extra = attributes.get_int("epilogue_inputs", 0);
  require(0 <= extra && extra < PointwiseProgram::kMaxRegisters, Code::invalid_model,
          "epilogue_inputs must be 0 to {}, got {}", PointwiseProgram::kMaxRegisters - 1, extra);
  const std::string text = attributes.get_string("epilogue", "");
  epilogue.program = PointwiseProgram::parse(static_cast<int>(extra) + 1, text);
  require(extra == 0 || !epilogue.program.empty(), Code::invalid_model, "epilogue_inputs is {} without an epilogue",
          extra);
  epilogue.output = result_type_from(attributes, DType::undefined);
  return epilogue;
}

void Epilogue::store(Attributes& attributes) const {
  if (output != DType::undefined) attributes.set("to", std::string(to_string(output)));
  if (program.empty()) return;
  attributes.set("epilogue", program.to_string());
  attributes.set("epilogue_inputs", std::int64_t{num_extra_inputs()});
}

void finish(const Epilogue& epilogue, std::vector<double> values, const TensorView& output, EvalContext& context,
            int first_input) {
  if (epilogue.program.empty()) return store_doubles(values, output);
  std::vector<Operand> operands;
  operands.push_back({std::move(values), output.dims});
  for (int i = 0; i < epilogue.num_extra_inputs(); ++i) {
    const TensorView& input = context.input(first_input + i);
    operands.push_back({load_doubles(input), input.dims});
  }
  run_broadcast(epilogue.program, operands, output);
}

TensorType check_epilogue(const Epilogue& epilogue, TensorType result, InferContext& context, int first_input) {
  if (epilogue.output != DType::undefined) result.dtype = epilogue.output;
  if (epilogue.program.empty()) return result;
  require(is_pointwise_result(result.dtype), Code::invalid_model,
          "an epilogue's result is stored as a float type, float8e4m3, int8 or uint8, got {}", to_string(result.dtype));
  for (int i = 0; i < epilogue.num_extra_inputs(); ++i) {
    const int index = first_input + i;
    require(context.has_input(index), Code::invalid_model, "input {} of the epilogue is missing", index);
    const DType dtype = context.input(index).dtype;
    require(is_pointwise_operand(dtype), Code::invalid_model,
            "input {} of the epilogue must be of a float type, float8e4m3, int8, uint8 or bool, got {}", index,
            to_string(dtype));
    check_broadcasts_to(context.input(index).dims, result.dims, "an input of the epilogue");
  }
  return result;
}

const OpDef kPointwiseDef{"Pointwise", make_pointwise, nullptr};

}  // namespace tenfold
