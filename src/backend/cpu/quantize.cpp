// QuantizeLinear and DequantizeLinear with one scale, or one for each element of an axis, and DynamicQuantizeLinear.
// Exactly the reference's bits.
#include "backend/cpu/kernels/quantize.hpp"

#include <algorithm>
#include <array>

#include "backend/cpu/kernels/reduce.hpp"
#include "backend/cpu/tactic_tools.hpp"
#include "ops/quantized.hpp"

namespace tenfold::cpu {

namespace {

std::optional<QuantizedType> quantized_type(DType dtype) {
  switch (dtype) {
    case DType::int8:
      return QuantizedType::int8;
    case DType::uint8:
      return QuantizedType::uint8;
    case DType::int16:
      return QuantizedType::int16;
    case DType::uint16:
      return QuantizedType::uint16;
    case DType::int32:
      return QuantizedType::int32;
    default:
      return std::nullopt;
  }
}

/// Element `i` of an integer zero point; 0 without one.
std::int32_t zero_point_at(const TensorView& view, std::int64_t i) {
  if (view.data == nullptr) return 0;
  switch (view.dtype) {
    case DType::int8:
      return view.as<const std::int8_t>()[i];
    case DType::uint8:
      return view.as<const std::uint8_t>()[i];
    case DType::int16:
      return view.as<const std::int16_t>()[i];
    case DType::uint16:
      return view.as<const std::uint16_t>()[i];
    default:
      return view.as<const std::int32_t>()[i];
  }
}

class QuantizeKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    const bool quantizes = signature.op.type() == "QuantizeLinear";
    if (auto refusal = signature.refuses_dtype(1, "the scale")) return refusal;
    const TensorType& real = quantizes ? signature.inputs[0] : signature.outputs[0];
    const TensorType& whole = quantizes ? signature.outputs[0] : signature.inputs[0];
    if (real.dtype != DType::float32) return fmt::format("the real numbers are {}", to_string(real.dtype));
    const auto type = quantized_type(whole.dtype);
    if (!type || (quantizes && type == QuantizedType::int32))
      return fmt::format("the integers are {}", to_string(whole.dtype));
    const Attributes attributes = signature.op.attributes();
    if (attributes.get_int("block_size", 0) != 0) return "the scales are those of blocks";
    if (!is_single(signature) && (signature.inputs[1].rank() != 1 || !axis_of(signature)))
      return "the scale has no axis";
    return std::nullopt;
  }
  explicit QuantizeKernel(const KernelSpec& spec)
      : quantizes_(spec.op->type() == "QuantizeLinear"),
        type_(*quantized_type(quantizes_ ? spec.outputs[0].dtype : spec.inputs[0].dtype)),
        kernels_(TENFOLD_FOR_TIER(kQuantizeKernels)) {
    const Signature signature{*spec.op, spec.inputs, spec.outputs};
    single_ = is_single(signature);
    if (!single_) axis_ = static_cast<std::size_t>(*axis_of(signature));
  }
  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView>) const override {
    return sizeof(std::int32_t) * static_cast<std::size_t>(inputs[1].num_elements());  // zero points, widened
  }
  void run(const Launch& launch) const override {
    const TensorView& in = launch.inputs[0];
    const TensorView& out = launch.outputs[0];
    const auto* scale = launch.inputs[1].as<const float>();
    const TensorView points = operand_of(launch.inputs, 2);
    auto* zero_point = reinterpret_cast<std::int32_t*>(launch.workspace.data());
    for (std::int64_t i = 0; i < launch.inputs[1].num_elements(); ++i) zero_point[i] = zero_point_at(points, i);
    // [rows, length]: one scale a row, or the whole row's elements have one each.
    const std::int64_t total = in.num_elements();
    std::int64_t length = total, scales = 1;
    bool per_element = false;
    if (!single_) {
      scales = in.dims[axis_];
      length = product_of_dims(in.dims, axis_ + 1, in.dims.size());
      if (length == 1) {
        per_element = true;
        length = scales;
      }
    }
    if (total == 0 || length == 0) return;
    constexpr double kNsPerElement = 0.3;
    const auto piece = [&](std::int64_t begin, std::int64_t count, std::int64_t s) {
      const auto* from = in.as<const std::byte>() + begin * static_cast<std::int64_t>(size_of(in.dtype));
      auto* to = out.as<std::byte>() + begin * static_cast<std::int64_t>(size_of(out.dtype));
      if (quantizes_) {
        kernels_.quantize(reinterpret_cast<const float*>(from), count, scale + s, zero_point + s, per_element, type_,
                          to);
      } else {
        kernels_.dequantize(from, type_, count, scale + s, zero_point + s, per_element, reinterpret_cast<float*>(to));
      }
    };
    ThreadPool& pool = pool_of(launch);
    if (single_) {
      split(
          pool, total, kNsPerElement, [&](std::int64_t begin, std::int64_t end) { piece(begin, end - begin, 0); }, 64);
    } else {
      split(pool, total / length, kNsPerElement * static_cast<double>(length),
            [&](std::int64_t begin, std::int64_t end) {
              for (std::int64_t row = begin; row < end; ++row)
                piece(row * length, length, per_element ? 0 : row % scales);
            });
    }
  }

 private:
  static bool is_single(const Signature& signature) { return signature.inputs[1].num_elements() == Dim(1); }
  static std::optional<int> axis_of(const Signature& signature) {
    return normalized_axis(signature.op.attributes().get_int("axis", 1), signature.inputs[0].rank());
  }
  bool quantizes_;
  QuantizedType type_;
  bool single_ = true;
  std::size_t axis_ = 0;
  const QuantizeKernels& kernels_;
};

class DynamicQuantizeKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_output(0)) return "output 0 is not wanted";
    return signature.refuses_dtype(0, "the input");
  }
  explicit DynamicQuantizeKernel(const KernelSpec&)
      : kernels_(TENFOLD_FOR_TIER(kQuantizeKernels)), folds_(TENFOLD_FOR_TIER(kReduceKernels)) {}

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const auto* values = x.as<const float>();
    const std::int64_t count = x.num_elements();
    ThreadPool& pool = pool_of(launch);
    const auto [scale, point] = dynamic_scale_of(values, count, pool);
    const std::int32_t zero_point = point;
    auto* out = launch.outputs[0].as<std::uint8_t>();
    split(
        pool, count, kNsPerElement,
        [&](std::int64_t begin, std::int64_t end) {
          kernels_.quantize(values + begin, end - begin, &scale, &zero_point, false, QuantizedType::uint8, out + begin);
        },
        64);
    if (const TensorView y = operand_of(launch.outputs, 1); y.data != nullptr) *y.as<float>() = scale;
    if (const TensorView y = operand_of(launch.outputs, 2); y.data != nullptr) *y.as<std::uint8_t>() = point;
  }

 private:
  static constexpr double kNsPerElement = 0.2;
  /// Smallest and largest of any part of the values, and 0.
  struct Range {
    float low = 0, high = 0;
  };

  DynamicScale dynamic_scale_of(const float* values, std::int64_t count, ThreadPool& pool) const {
    // Parts of fixed length: which thread takes one does not matter, the result is exact.
    constexpr std::int64_t kParts = 64, kShortest = 4096;
    const std::int64_t length = std::max(kShortest, (count + kParts - 1) / kParts),
                       parts = (count + length - 1) / length;
    std::array<Range, kParts> ranges;
    split(pool, parts, kNsPerElement * static_cast<double>(length), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t from = i * length, size = std::min(length, count - from);
        Range& range = ranges[static_cast<std::size_t>(i)];
        folds_.rows(Fold::min, values + from, size, 1, size, &range.low, nullptr);
        folds_.rows(Fold::max, values + from, size, 1, size, &range.high, nullptr);
        if (range.low <= range.high) continue;
        // A NaN is no part of the range; the folds would keep it.
        range = {};
        for (const float* p = values + from; p != values + from + size; ++p) {
          range.low = std::min(range.low, *p);
          range.high = std::max(range.high, *p);
        }
      }
    });
    Range all;
    for (std::int64_t i = 0; i < parts; ++i) {
      all.low = std::min(all.low, ranges[static_cast<std::size_t>(i)].low);
      all.high = std::max(all.high, ranges[static_cast<std::size_t>(i)].high);
    }
    return dynamic_scale(all.low, all.high);
  }
  const QuantizeKernels& kernels_;
  const ReduceKernels& folds_;
};

}  // namespace

const CpuTactic kDynamicQuantizeLinear =
    plain_tactic<DynamicQuantizeKernel>("quantize.dynamic", "DynamicQuantizeLinear");
const CpuTactic kQuantizeLinear = plain_tactic<QuantizeKernel>("quantize.rows", "QuantizeLinear");
const CpuTactic kDequantizeLinear = plain_tactic<QuantizeKernel>("quantize.rows", "DequantizeLinear");

}  // namespace tenfold::cpu
