#include "backend/cpu/byte_finish_plan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "backend/cpu/gemm_support.hpp"

namespace tenfold::cpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// What a register holds: an affine function of the sum and of one residual, perhaps clipped, then perhaps rounded.
/// What was rounded and goes on is an affine function of that, `factor` and `shift`.
struct Value {
  std::vector<double> scale{0}, offset{0};
  bool has_sum = false;
  bool rounds_first = false;
  double first_low = 0, first_high = 0, factor = 1, shift = 0;
  int residual = 0;
  double residual_scale = 0;
  bool clips = false;
  double low = -kInfinity, high = kInfinity;
  bool rounded = false;
  double zero_point = 0;
  bool is_number = false;  ///< an immediate, so known everywhere
  bool is_constant() const { return !has_sum && residual == 0; }
};

template <typename F>
std::vector<double> joined(const std::vector<double>& a, const std::vector<double>& b, F f) {
  std::vector<double> result(std::max(a.size(), b.size()));
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = f(a[a.size() == 1 ? 0 : i], b[b.size() == 1 ? 0 : i]);
  return result;
}

Value number(double x) {
  Value value;
  value.offset = {x};
  value.is_number = true;
  return value;
}

/// A rounded value goes on as a number like others; nullopt if it was rounded before.
std::optional<Value> gone_on(Value a) {
  if (!a.rounded) return a;
  if (a.rounds_first || a.residual != 0) return std::nullopt;
  a.rounds_first = true;
  a.first_low = std::exchange(a.low, -kInfinity);
  a.first_high = std::exchange(a.high, kInfinity);
  a.shift = std::exchange(a.zero_point, 0);
  a.rounded = a.clips = false;
  return a;
}

std::optional<Value> sum_of(Value a, Value b) {
  if (a.is_number || (b.has_sum && !a.has_sum)) std::swap(a, b);
  if (a.rounded && b.is_number && b.offset[0] == std::nearbyint(b.offset[0])) {
    a.zero_point += b.offset[0];
    return a;
  }
  const auto left = gone_on(std::move(a));
  if (!left) return std::nullopt;
  a = *left;
  if (b.rounded || b.clips || b.rounds_first || (a.clips && !b.is_number) || (a.residual != 0 && b.residual != 0))
    return std::nullopt;
  if (a.rounds_first) {
    // From here on all columns are the same.
    if (b.has_sum || !(b.is_number || b.residual != 0) || b.offset.size() != 1) return std::nullopt;
    a.shift += b.offset[0];
    if (b.residual != 0) {
      a.residual = b.residual;
      a.residual_scale = b.residual_scale;
    }
    if (a.clips) {
      a.low += b.offset[0];
      a.high += b.offset[0];
    }
    return a;
  }
  a.scale = joined(a.scale, b.scale, [](double x, double y) { return x + y; });
  a.offset = joined(a.offset, b.offset, [](double x, double y) { return x + y; });
  a.has_sum = a.has_sum || b.has_sum;
  a.is_number = a.is_number && b.is_number;
  if (b.residual != 0) {
    a.residual = b.residual;
    a.residual_scale = b.residual_scale;
  }
  if (a.clips) {
    a.low += b.offset[0];
    a.high += b.offset[0];
  }
  return a;
}

std::optional<Value> product_of(Value a, Value b) {
  if (a.is_constant() && !b.is_constant()) std::swap(a, b);
  const auto left = gone_on(std::move(a));
  if (!left) return std::nullopt;
  a = *left;
  // Limits, residuals and what was rounded have one factor for all columns.
  if (!b.is_constant() || b.clips || b.rounded) return std::nullopt;
  if ((a.clips || a.residual != 0 || a.rounds_first) && !b.is_number) return std::nullopt;
  if (a.rounds_first) {
    a.factor *= b.offset[0];
    a.shift *= b.offset[0];
  } else {
    const auto times = [](double x, double y) { return x * y; };
    a.scale = joined(a.scale, b.offset, times);
    a.offset = joined(a.offset, b.offset, times);
  }
  a.is_number = a.is_number && b.is_number;
  if (b.is_number) {
    const double factor = b.offset[0];
    if (!std::isfinite(factor)) return std::nullopt;
    a.residual_scale *= factor;
    if (a.clips) {
      if (factor == 0) return std::nullopt;
      a.low *= factor;
      a.high *= factor;
      if (factor < 0) std::swap(a.low, a.high);
    }
  }
  return a;
}

std::optional<Value> clipped(Value a, double low, double high) {
  const auto left = gone_on(std::move(a));
  if (!left) return std::nullopt;
  a = *left;
  a.clips = true;
  a.is_number = false;
  a.low = std::max(a.low, low);
  a.high = std::min(a.high, high);
  // With crossed limits the order of the two steps would matter; NaN fails here too.
  if (!(a.low <= a.high)) return std::nullopt;
  return a;
}

std::optional<Value> value_of(const PointwiseInstruction& instruction, const std::vector<std::optional<Value>>& at) {
  using enum PointwiseCode;
  const int operands = num_operands(instruction.code);
  const auto& a = at[instruction.a];
  const auto& b = at[instruction.b];
  const auto& c = at[instruction.c];
  if ((operands > 0 && !a) || (operands > 1 && !b) || (operands > 2 && !c)) return std::nullopt;
  const double k = static_cast<double>(instruction.immediate);
  switch (instruction.code) {
    case constant:
      return number(k);
    case add:
      return sum_of(*a, *b);
    case sub: {
      const auto minus = product_of(*b, number(-1));
      return minus ? sum_of(*a, *minus) : std::nullopt;
    }
    case mul:
      return product_of(*a, *b);
    case fma: {
      const auto product = product_of(*a, *b);
      return product ? sum_of(*product, *c) : std::nullopt;
    }
    case neg:
      return product_of(*a, number(-1));
    case add_imm:
      return sum_of(*a, number(k));
    case mul_imm:
      return product_of(*a, number(k));
    case rsub_imm: {
      const auto minus = product_of(*a, number(-1));
      return minus ? sum_of(*minus, number(k)) : std::nullopt;
    }
    case relu:
      return clipped(*a, 0, kInfinity);
    case max_imm:
      return clipped(*a, k, kInfinity);
    case min_imm:
      return clipped(*a, -kInfinity, k);
    case round: {
      if (a->rounded) return a;
      Value rounded = *a;
      rounded.rounded = true;
      rounded.is_number = false;
      return rounded;
    }
    default:
      return std::nullopt;
  }
}

/// Is an operand one number for each column, the same for all rows?
bool lies_along_columns(const TensorType& operand, const TensorType& output) {
  for (int axis = 0; axis + 1 < operand.rank(); ++axis) {
    if (operand.dims[static_cast<std::size_t>(axis)] != Dim(1)) return false;
  }
  return operand.dtype == DType::float32 &&
         (operand.rank() == 0 || operand.dims.back() == Dim(1) || operand.dims.back() == output.dims.back());
}

}  // namespace

std::optional<ByteResult> byte_result(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return ByteResult::float32;
    case DType::uint8:
      return ByteResult::uint8;
    case DType::int8:
      return ByteResult::int8;
    default:
      return std::nullopt;
  }
}

std::optional<std::string> ByteFinishPlan::refuses(const Epilogue& epilogue, std::span<const TensorType> inputs,
                                                   int first_input) {
  if (!byte_result(epilogue.output)) return fmt::format("the result is {}", to_string(epilogue.output));
  for (std::size_t i = static_cast<std::size_t>(first_input); i < inputs.size(); ++i) {
    if (!byte_result(inputs[i].dtype)) return "an input of the epilogue is neither float32 nor of 8-bit integers";
  }
  return FinishPlan::refuses(epilogue);
}

std::optional<ByteForm> ByteFinishPlan::form_of(const Epilogue& epilogue, int first_input,
                                                std::span<const TensorType> inputs, const TensorType& output,
                                                std::span<const Tensor* const> constants) {
  if (output.rank() == 0) return std::nullopt;
  std::vector<std::optional<Value>> registers;
  Value sum;
  sum.scale = {1};
  sum.has_sum = true;
  registers.emplace_back(sum);
  ByteForm form;
  for (int i = 1; i < epilogue.program.num_inputs && !epilogue.program.empty(); ++i) {
    const auto index = static_cast<std::size_t>(first_input + i - 1);
    const TensorType& type = inputs[index];
    Value value;
    if (type.dims == output.dims) {
      value.residual = i;
      value.residual_scale = 1;
    } else if (lies_along_columns(type, output) && (constants.empty() || constants[index] != nullptr)) {
      value.offset = constants.empty() ? std::vector<double>{1} : constants[index]->to_double();
      form.constants.push_back(i);
    } else {
      registers.emplace_back(std::nullopt);
      continue;
    }
    registers.emplace_back(std::move(value));
  }
  for (const PointwiseInstruction& instruction : epilogue.program.instructions) {
    registers.push_back(value_of(instruction, registers));
  }
  if (!registers.back()) return std::nullopt;
  Value& result = *registers.back();
  const bool is_float = epilogue.output == DType::float32;
  if (is_float && result.rounded) return std::nullopt;
  if (!is_float) {
    const bool is_signed = epilogue.output == DType::int8;
    constexpr double kMaxZeroPoint = 1 << 14;  // is added in 16 bits, saturating
    if (std::abs(result.zero_point) > kMaxZeroPoint) return std::nullopt;
    // Beyond the range of the type everything is the same, so that bytes can be cut off a 32-bit number.
    const double lowest = (is_signed ? -128 : 0) - result.zero_point, highest = lowest + 255;
    result.low = std::clamp(result.low, lowest, highest);
    result.high = std::clamp(result.high, lowest, highest);
  }
  form.scale = std::move(result.scale);
  form.offset = std::move(result.offset);
  form.rounds_first = result.rounds_first;
  form.first_low = result.first_low;
  form.first_high = result.first_high;
  form.factor = result.factor;
  form.shift = result.shift;
  form.residual_input = result.residual;
  form.residual_scale = result.residual_scale;
  form.low = result.low;
  form.high = result.high;
  form.zero_point = result.zero_point;
  return form;
}

ByteFinishPlan::ByteFinishPlan(const Epilogue& epilogue, int first_input, std::span<const TensorType> inputs,
                               std::optional<ByteForm> form)
    : first_input_(first_input), form_(std::move(form)) {
  const auto result = byte_result(epilogue.output);
  require(result.has_value(), Code::incompatible_engine, "a product of 8-bit integers cannot store {}",
          to_string(epilogue.output));
  result_ = *result;
  for (int i = 0; i < epilogue.num_extra_inputs(); ++i) {
    const auto type = byte_result(inputs[static_cast<std::size_t>(first_input + i)].dtype);
    require(type.has_value(), Code::incompatible_engine, "an epilogue of a product of 8-bit integers cannot read it");
    operand_types_.push_back(*type);
  }
  if (!form_) program_.emplace(epilogue, first_input, false);
}

void ByteFinishPlan::resolve(const Launch& launch, std::span<const std::int64_t> dims, ByteFinish& finish) const {
  finish.result = result_;
  if (!form_) {
    program_->resolve(launch, dims, finish.program);
    for (std::size_t i = 0; i < operand_types_.size(); ++i) finish.operand_types[i + 1] = operand_types_[i];
    return;
  }
  finish.rounds_first = form_->rounds_first;
  finish.first_low = static_cast<float>(form_->first_low);
  finish.first_high = static_cast<float>(form_->first_high);
  finish.factor = static_cast<float>(form_->factor);
  finish.shift = static_cast<float>(form_->shift);
  finish.low = static_cast<float>(form_->low);
  finish.high = static_cast<float>(form_->high);
  finish.zero_point = static_cast<std::int32_t>(form_->zero_point);
  const double lowest = (result_ == ByteResult::int8 ? -128 : 0) - form_->zero_point;
  finish.has_limits = !finish.fits || form_->low != lowest || form_->high != lowest + 255;
  if (form_->residual_input == 0) return;
  const TensorView& residual = launch.inputs[static_cast<std::size_t>(first_input_ + form_->residual_input - 1)];
  finish.residual = residual.data;
  finish.residual_type = operand_types_[static_cast<std::size_t>(form_->residual_input - 1)];
  finish.residual_stride = residual.pitch;
  finish.residual_scale = static_cast<float>(form_->residual_scale);
}

bool ByteFinishPlan::fits(std::span<const float> scale, std::span<const float> offset, std::int64_t depth) const {
  if (!form_ || result_ == ByteResult::float32) return false;
  // With room for the zero point. NaN does not fit either.
  constexpr double kLargestProduct = 255 * 128, kMost = 1 << 30;
  const double sum = kLargestProduct * static_cast<double>(depth);
  const double residual = 256 * std::abs(form_->residual_scale);
  const bool is_small = form_->residual_input == 0 ||
                        operand_types_[static_cast<std::size_t>(form_->residual_input - 1)] != ByteResult::float32;
  bool all_fit = is_small;
  for (std::size_t i = 0; i < scale.size() && all_fit; ++i) {
    double most = sum * std::abs(static_cast<double>(scale[i])) + std::abs(static_cast<double>(offset[i]));
    if (form_->rounds_first) {
      most = std::max(std::abs(form_->first_low), std::abs(form_->first_high)) * std::abs(form_->factor) +
             std::abs(form_->shift);
    }
    all_fit = most + residual < kMost;
  }
  return all_fit;
}

ComputedScaling::ComputedScaling(const Epilogue& epilogue, int first_input, std::span<const TensorType> inputs,
                                 const TensorType& output)
    : first_input_(first_input), rest_(epilogue) {
  if (epilogue.output != DType::float32 || output.rank() == 0) return;
  const PointwiseProgram& program = epilogue.program;
  const auto is_of_columns = [&](int operand) { return lies_along_columns(type_of(operand, inputs), output); };
  const auto is_of_all = [&](int operand) {
    const TensorType& type = type_of(operand, inputs);
    return type.dtype == DType::float32 && type.dims == output.dims;
  };
  int done = 0, result = 0;  // instructions, and the register with what they made
  const auto take = [&](PointwiseCode code, const auto& fits) {
    if (done == std::ssize(program.instructions)) return 0;
    const PointwiseInstruction& next = program.instructions[static_cast<std::size_t>(done)];
    const int operand = next.a == result ? next.b : next.a;
    if (next.code != code || (next.a == result) == (next.b == result) || operand == 0 ||
        operand >= program.num_inputs || !fits(operand))
      return 0;
    result = program.num_inputs + done++;
    return operand;
  };
  const int scale = take(PointwiseCode::mul, is_of_columns), offset = take(PointwiseCode::add, is_of_columns),
            residual = take(PointwiseCode::add, is_of_all);
  // The rest counts the result as its input 0; what was made on the way there is gone.
  PointwiseProgram rest = program;
  rest.instructions.erase(rest.instructions.begin(), rest.instructions.begin() + done);
  for (PointwiseInstruction& instruction : rest.instructions) {
    std::uint8_t* const operands[] = {&instruction.a, &instruction.b, &instruction.c};
    for (int i = 0; i < num_operands(instruction.code); ++i) {
      std::uint8_t& number = *operands[i];
      const bool is_made = number >= program.num_inputs;
      if (number != result && (number == 0 || (is_made && number < result))) return;
      if (number == result) {
        number = 0;
      } else if (is_made) {
        number = static_cast<std::uint8_t>(number - done);
      }
    }
  }
  is_there_ = true;
  scale_ = scale;
  offset_ = offset;
  residual_ = residual;
  rest_.program = std::move(rest);
}

const TensorType& ComputedScaling::type_of(int operand, std::span<const TensorType> inputs) const {
  return inputs[static_cast<std::size_t>(first_input_ + operand - 1)];
}

std::size_t ComputedScaling::workspace_bytes(std::int64_t padded) const {
  return is_there_ ? 2 * static_cast<std::size_t>(padded) * sizeof(float) : 0;
}

void ComputedScaling::resolve(const Launch& launch, std::int64_t columns, std::int64_t padded,
                              std::span<std::byte> workspace, ByteFinish& finish) const {
  if (!is_there_) return;
  const auto input = [&](int operand) -> const TensorView& {
    return launch.inputs[static_cast<std::size_t>(first_input_ + operand - 1)];
  };
  const auto fill = [&](int operand, float none, float* to) {
    const bool is_one = operand == 0 || input(operand).num_elements() == 1;
    const float* from = operand == 0 ? &none : input(operand).as<const float>();
    for (std::int64_t n = 0; n < columns; ++n) to[n] = from[is_one ? 0 : n];
    std::fill(to + columns, to + padded, 0.0F);
  };
  auto* scale = reinterpret_cast<float*>(workspace.data());
  fill(scale_, 1, scale);
  fill(offset_, 0, scale + padded);
  finish.scale = scale;
  finish.offset = scale + padded;
  // As the operators that this was: a rounding less can decide what byte the next one's operand becomes.
  finish.rounds_product = true;
  finish.has_limits = false;
  if (residual_ == 0) return;
  finish.residual = input(residual_).data;
  finish.residual_stride = input(residual_).pitch;
  finish.residual_type = ByteResult::float32;
  finish.residual_scale = 1;
}

bool ByteFinishPlan::reads(int index) const {
  return first_input_ <= index && index < first_input_ + static_cast<int>(operand_types_.size());
}

}  // namespace tenfold::cpu
