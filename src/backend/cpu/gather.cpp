// Gather: rows picked by index. Pad: borders filled, or filled from the input; the input copied into the middle.
#include <array>
#include <cstring>

#include "backend/cpu/kernels/copy.hpp"
#include "backend/cpu/strided_copy.hpp"
#include "backend/cpu/tactic_tools.hpp"
#include "backend/movements.hpp"
#include "ops/pad.hpp"

namespace tenfold::cpu {

namespace {

template <typename T>
struct [[gnu::may_alias]] Bits {
  T value;
};

class GatherKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    const DType dtype = signature.inputs[1].dtype;
    if (dtype != DType::int64 && dtype != DType::int32) return fmt::format("the indices are {}", to_string(dtype));
    if (!axis_of(signature)) return "no such axis";
    return std::nullopt;
  }
  explicit GatherKernel(const KernelSpec& spec)
      : axis_(static_cast<std::size_t>(*axis_of({*spec.op, spec.inputs, spec.outputs}))),
        kernels_(TENFOLD_FOR_TIER(kCopyKernels)) {}
  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView>) const override {
    return sizeof(std::int64_t) * static_cast<std::size_t>(inputs[1].num_elements());
  }
  /// Throws Error(invalid_argument) for an index outside the axis: indices are data.
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& places = launch.inputs[1];
    const TensorView& out = launch.outputs[0];
    if (out.num_elements() == 0) return;
    const std::int64_t size = x.dims[axis_], count = places.num_elements();
    auto* index = reinterpret_cast<std::int64_t*>(launch.workspace.data());
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t given =
          places.dtype == DType::int64 ? places.as<const std::int64_t>()[i] : places.as<const std::int32_t>()[i];
      index[i] = given < 0 ? given + size : given;
      require(0 <= index[i] && index[i] < size, Code::invalid_argument, "index {} is outside an axis of {} elements",
              given, size);
    }
    const auto element = static_cast<std::int64_t>(size_of(x.dtype));
    const std::int64_t outer = product_of_dims(x.dims, 0, axis_);
    const std::int64_t inner = product_of_dims(x.dims, axis_ + 1, x.dims.size());
    const auto* in = x.as<const std::byte>();
    auto* to = out.as<std::byte>();
    const std::int64_t row_bytes = inner * element;
    constexpr double kNsPerByte = 0.15, kNsPerRow = 2;
    split(pool_of(launch), outer * count, kNsPerRow + kNsPerByte * static_cast<double>(row_bytes),
          [&](std::int64_t begin, std::int64_t end) {
            const auto single = [&](auto sample) {
              using T = Bits<decltype(sample)>;
              const auto* from = reinterpret_cast<const T*>(in);
              auto* target = reinterpret_cast<T*>(to);
              std::int64_t o = begin / count, i = begin % count;
              for (std::int64_t r = begin; r < end; ++r) {
                target[r] = from[o * size + index[i]];
                if (++i == count) i = 0, ++o;
              }
            };
            switch (inner == 1 ? element : 0) {
              case 1:
                return single(std::uint8_t{});
              case 2:
                return single(std::uint16_t{});
              case 4:
                return single(std::uint32_t{});
              case 8:
                return single(std::uint64_t{});
              default:
                break;
            }
            for (std::int64_t r = begin; r < end; ++r) {
              kernels_.rows(in + (r / count * size + index[r % count]) * row_bytes, 0, to + r * row_bytes, 0, 1,
                            row_bytes);
            }
          });
  }

 private:
  static std::optional<int> axis_of(const Signature& signature) {
    return normalized_axis(signature.op.attributes().get_int("axis", 0), signature.inputs[0].rank());
  }
  std::size_t axis_;
  const CopyKernels& kernels_;
};

class PadKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    const auto* pad = dynamic_cast<const Pad*>(&signature.op);
    if (pad == nullptr) return "it is no Pad";
    if (!pad->pads()) return "the pads are an input";
    if (pad->mode() == PadMode::constant && signature.inputs[0].dtype != DType::float32)
      return fmt::format("the input is {}", to_string(signature.inputs[0].dtype));
    const int rank = signature.inputs[0].rank();
    if (rank > kMaxRank || std::ssize(*pad->pads()) != 2 * rank) return "the pads do not fit the rank";
    return std::nullopt;
  }
  explicit PadKernel(const KernelSpec& spec) {
    const auto& pad = dynamic_cast<const Pad&>(*spec.op);
    mode_ = pad.mode();
    pads_ = *pad.pads();
    value_ = static_cast<float>(pad.value());
  }
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    ThreadPool& pool = pool_of(launch);
    if (mode_ != PadMode::constant && x.rank() > 0) return run_mirrored(x, y, pool);
    run_filled(x, y, pool);
  }
  bool accepts_pitched_input(int index) const override { return index == 0 && mode_ == PadMode::constant; }
  bool accepts_pitched_output(int) const override { return mode_ == PadMode::constant; }

 private:
  /// Which position of an axis of `size` elements the output shows at `at`, counted from the input's first element.
  std::int64_t source_position(std::int64_t at, std::int64_t size) const {
    if (mode_ == PadMode::edge) return std::clamp<std::int64_t>(at, 0, size - 1);
    if (mode_ == PadMode::wrap) return (at % size + size) % size;
    if (size == 1) return 0;
    // Reflection that does not repeat the border has period 2 (size - 1).
    const std::int64_t period = 2 * (size - 1), phase = (at % period + period) % period;
    return std::min(phase, period - phase);
  }

  /// Borders of one number. Lines of the output: all axes but the last two, which are pixels and their columns.
  void run_filled(const TensorView& x, const TensorView& y, ThreadPool& pool) const {
    const CopyKernels& kernels = TENFOLD_FOR_TIER(kCopyKernels);
    const std::size_t rank = y.dims.size();
    // The part of each axis that shows the input; a negative pad cuts the input instead. Right-aligned, two axes at
    // least.
    struct Axis {
      std::int64_t size = 1, begin = 0, end = 1, from = 0, to = 0;
    };
    std::array<Axis, kMaxRank + 2> axes{};
    const auto from = strides_of_view(x), to = strides_of_view(y);
    const float* in = x.as<const float>();
    for (std::size_t a = 0; a < rank; ++a) {
      Axis& axis = axes[a + 2];
      axis.size = y.dims[a];
      axis.begin = std::clamp<std::int64_t>(pads_[a], 0, y.dims[a]);
      axis.end = std::clamp<std::int64_t>(x.dims[a] + pads_[a], axis.begin, y.dims[a]);
      axis.from = from[a];
      axis.to = to[a];
      in += std::max<std::int64_t>(-pads_[a], 0) * from[a];
    }
    const Axis columns = axes[rank + 1], pixels = axes[rank];
    const auto fill = [&](float* pixel, std::int64_t first, std::int64_t last, std::int64_t column,
                          std::int64_t count) {
      if (count == pixels.to) return std::fill_n(pixel + first * count, (last - first) * count, value_), void();
      for (std::int64_t p = first; p < last; ++p) std::fill_n(pixel + p * pixels.to + column, count, value_);
    };
    constexpr double kNsPerByte = 0.1;
    const std::int64_t lines = rank < 2 ? 1 : product_of_dims(y.dims, 0, rank - 2);
    split(pool, lines, kNsPerByte * 4 * static_cast<double>(pixels.size * columns.size),
          [&](std::int64_t first_line, std::int64_t last_line) {
            for (std::int64_t line = first_line; line < last_line; ++line) {
              bool inside = columns.begin < columns.end;
              const float* source = in;
              float* target = y.as<float>();
              std::int64_t rest = line;
              for (std::size_t a = rank; a-- > 2;) {
                const std::int64_t at = rest % axes[a].size;
                rest /= axes[a].size;
                target += at * axes[a].to;
                inside = inside && axes[a].begin <= at && at < axes[a].end;
                source += (at - axes[a].begin) * axes[a].from;
              }
              if (!inside) {
                fill(target, 0, pixels.size, 0, columns.size);
                continue;
              }
              fill(target, 0, pixels.begin, 0, columns.size);
              kernels.rows(reinterpret_cast<const std::byte*>(source), pixels.from * 4,
                           reinterpret_cast<std::byte*>(target + pixels.begin * pixels.to + columns.begin),
                           pixels.to * 4, pixels.end - pixels.begin, (columns.end - columns.begin) * 4);
              fill(target, pixels.begin, pixels.end, 0, columns.begin);
              fill(target, pixels.begin, pixels.end, columns.end, columns.size - columns.end);
              fill(target, pixels.end, pixels.size, 0, columns.size);
            }
          });
  }

  /// Borders that show the input again: rows of the last padded axis, whose elements are all that comes after it.
  void run_mirrored(const TensorView& x, const TensorView& y, ThreadPool& pool) const {
    require(x.num_elements() > 0, Code::invalid_argument, "an empty axis cannot be padded with its elements");
    const CopyKernels& kernels = TENFOLD_FOR_TIER(kCopyKernels);
    const std::size_t rank = y.dims.size();
    std::size_t last = 0;
    for (std::size_t a = 0; a < rank; ++a) {
      if (pads_[a] != 0 || pads_[a + rank] != 0) last = a;
    }
    const auto element = static_cast<std::int64_t>(size_of(x.dtype));
    const std::int64_t inner = product_of_dims(y.dims, last + 1, rank) * element;
    const std::int64_t in_size = x.dims[last], out_size = y.dims[last], before = pads_[last];
    // The stretch of a row that is the input itself.
    const std::int64_t begin = std::clamp<std::int64_t>(before, 0, out_size);
    const std::int64_t end = std::clamp<std::int64_t>(in_size + before, begin, out_size);
    constexpr double kNsPerByte = 0.1;
    split(pool, product_of_dims(y.dims, 0, last), 30 + kNsPerByte * static_cast<double>(out_size * inner),
          [&](std::int64_t first_row, std::int64_t last_row) {
            for (std::int64_t r = first_row; r < last_row; ++r) {
              std::int64_t rest = r, row = 0, stride = 1;
              for (std::size_t a = last; a-- > 0;) {
                row += source_position(rest % y.dims[a] - pads_[a], x.dims[a]) * stride;
                stride *= x.dims[a];
                rest /= y.dims[a];
              }
              const auto* from = x.as<const std::byte>() + row * in_size * inner;
              auto* to = y.as<std::byte>() + r * out_size * inner;
              kernels.rows(from + (begin - before) * inner, 0, to + begin * inner, 0, 1, (end - begin) * inner);
              for (std::int64_t i = 0; i < out_size; ++i) {
                if (i == begin) i = end;
                if (i >= out_size) break;
                kernels.rows(from + source_position(i - before, in_size) * inner, 0, to + i * inner, 0, 1, inner);
              }
            }
          });
  }

  PadMode mode_ = PadMode::constant;
  std::vector<std::int64_t> pads_;
  float value_ = 0;
};

}  // namespace

const CpuTactic kGatherRows = plain_tactic<GatherKernel>("copy.indexed", "Gather");
const CpuTactic kPadCopy = plain_tactic<PadKernel>("copy.strided", "Pad");

}  // namespace tenfold::cpu
