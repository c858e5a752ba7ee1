// From exact sums to results: in registers, or by a program on a tile.
#pragma once

#include "backend/cpu/kernels/byte_product.hpp"
#include "backend/cpu/kernels/finish.hpp"
#include "backend/cpu/kernels/pointwise_program.hpp"
#include "backend/cpu/kernels/simd_int.hpp"
#include "backend/cpu/kernels/split.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

inline std::int64_t bytes_of(ByteResult type) {
  return type == ByteResult::float32 || type == ByteResult::int32 ? 4 : 1;
}

/// `n` numbers of the type as floats, zeros above.
inline Vec load_as_floats(const void* p, ByteResult type, int n) {
  switch (type) {
    case ByteResult::uint8:
      return Ints::load_unsigned(p, n).to_float();
    case ByteResult::int8:
      return Ints::load_signed(p, n).to_float();
    default:
      return Vec::load_first(static_cast<const float*>(p), n);
  }
}

/// The same for any number of them. Masked stores are slow on AMD, so whole vectors are stored as such.
inline void bytes_to_floats(const std::uint8_t* from, std::int64_t count, ByteResult type, float* to) {
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= count; i += Vec::kWidth) load_as_floats(from + i, type, Vec::kWidth).store(to + i);
  if (i == count) return;
  const int rest = static_cast<int>(count - i);
  load_as_floats(from + i, type, rest).store_first(to + i, rest);
}

/// From whole numbers that fit in 32 bits to bytes: the zero point, and limits of the bytes.
class ByteLimits {
 public:
  explicit ByteLimits(const ByteFinish& finish)
      : is_signed_(finish.result == ByteResult::int8),
        zero_(words::all(static_cast<std::int16_t>(finish.zero_point))),
        low_(byte_of(finish.low, finish.zero_point)),
        high_(byte_of(finish.high, finish.zero_point)) {}
  /// In the order of pack_signed.
  [[gnu::always_inline]] Ints pack(const Ints (&x)[4]) const {
    if (is_signed_) {
      return min_signed_bytes(max_signed_bytes(pack_signed(x[0], x[1], x[2], x[3], zero_), low_), high_);
    }
    return min_unsigned_bytes(max_unsigned_bytes(pack_unsigned(x[0], x[1], x[2], x[3], zero_), low_), high_);
  }

 private:
  /// In all bytes. The limit lies within the range of the type.
  static Ints byte_of(float limit, std::int32_t zero_point) {
    const auto byte = static_cast<std::uint8_t>(_mm_cvtss_si32(_mm_set_ss(limit)) + zero_point);
    return Ints(static_cast<std::int32_t>(byte * 0x01010101U));
  }
  bool is_signed_;
  Ints zero_, low_, high_;
};

/// Sums in memory, which become results as those in registers do. All from the first row and column on.
struct ByteSums {
  const std::int32_t* sums;   ///< [rows][kTileColumns], of products only
  const std::int32_t* start;  ///< of the columns, whole vectors
  std::int64_t rows, columns;
  const ByteFinish* finish;
  std::uint8_t* c;
  std::int64_t c_stride;  ///< bytes
  const float* scale;     ///< nullptr: the sums themselves are stored, as floats
  const float* offset;
  const std::uint8_t* residual;
  std::int64_t residual_stride;  ///< bytes
};
void finish_byte_sums(const ByteSums& from);

/// Rounded, saturated: what a program made, as the result's type.
inline void store_rounded(const float* from, std::int64_t count, ByteResult type, std::uint8_t* to) {
  const float low = type == ByteResult::int8 ? -128.0F : 0.0F, high = type == ByteResult::int8 ? 127.0F : 255.0F;
  for (std::int64_t i = 0; i < count; i += Vec::kWidth) {
    const int n = static_cast<int>(min(count - i, Vec::kWidth));
    const Vec x = math::min(math::max(Vec::load_first(from + i, n), Vec(low)), Vec(high));
    Ints::round(x).store_bytes(to + i, n, type == ByteResult::int8);
  }
}

/// The program over rows x columns of sums, as FinishArgs counts them, whose first is at `sums`; in place. `room` holds
/// columns floats for each operand.
inline void run_byte_program(const ByteFinish& finish, float* sums, std::int64_t stride, std::int64_t row_begin,
                             std::int64_t row_end, std::int64_t column_begin, std::int64_t column_end, float* room) {
  const CompiledPointwise& program = *finish.program.program;
  bool has_bytes = false;
  for (int i = 1; i < program.num_inputs; ++i) has_bytes = has_bytes || finish.operand_types[i] != ByteResult::float32;
  if (!has_bytes) {
    run_finish_program(finish.program, sums, stride, row_begin, row_end, column_begin, column_end);
    return;
  }
  const std::int64_t columns = column_end - column_begin;
  PointwiseOperand inputs[FinishArgs::kMaxOperands];
  for (std::int64_t row = row_begin; row < row_end; ++row, sums += stride) {
    inputs[0] = {sums, 0, 1};
    const std::int64_t group = row / finish.program.group_rows;
    for (int i = 1; i < program.num_inputs; ++i) {
      const FinishOperand& operand = finish.program.operands[i];
      std::int64_t at = row % finish.program.group_rows * operand.row_stride + column_begin * operand.col_stride;
      std::int64_t rest = group;
      for (int axis = operand.num_outer - 1; axis >= 0; --axis) {
        at += rest % operand.outer_dims[axis] * operand.outer_strides[axis];
        rest /= operand.outer_dims[axis];
      }
      const ByteResult type = finish.operand_types[i];
      const auto* data = reinterpret_cast<const std::uint8_t*>(operand.data) + at * bytes_of(type);
      if (type == ByteResult::float32) {
        inputs[i] = {reinterpret_cast<const float*>(data), 0, operand.col_stride};
        continue;
      }
      float* copy = room + i * columns;
      const std::int64_t count = operand.col_stride == 0 ? 1 : columns;
      bytes_to_floats(data, count, type, copy);
      inputs[i] = {copy, 0, operand.col_stride};
    }
    run_pointwise(program, inputs, sums, 0, 1, columns);
  }
}

}  // namespace tenfold::cpu::TENFOLD_TIER
