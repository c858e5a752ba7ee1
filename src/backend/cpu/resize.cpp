// Resize by separable tables along at most two neighbouring axes (the pixels of an image in either layout): each task
// blends a few input rows into one, then that row's columns into an output row. Everything stays in the cache between.
#include "backend/cpu/kernels/resize.hpp"

#include <array>
#include <cstring>
#include <memory>
#include <mutex>

#include "backend/cpu/tactic_tools.hpp"
#include "ops/resize.hpp"

namespace tenfold::cpu {

namespace {

/// The axes that may change size: at most two, next to each other.
struct Axes {
  int first = 0, count = 0;
};
std::optional<Axes> resized_axes(const Resize& resize, const TensorType& x, const TensorType& y) {
  Axes axes;
  int last = -1;
  const std::vector<double>& scales = resize.spec().scales;
  for (int a = 0; a < x.rank(); ++a) {
    const auto i = static_cast<std::size_t>(a);
    const bool keeps = x.dims[i] == y.dims[i] && (i >= scales.size() || scales[i] == 1);
    if (keeps) continue;
    if (last < 0) axes.first = a;
    last = a;
  }
  if (last < 0) return axes;
  axes.count = last - axes.first + 1;
  if (axes.count > 2) return std::nullopt;
  return axes;
}

/// Tables of one pair of sizes.
struct Tables {
  std::array<std::int64_t, 2> in{}, out{};
  struct Axis {
    int taps = 1;
    bool is_copy = true;  ///< one tap of weight 1
    std::vector<std::int32_t> index;
    std::vector<float> weight;
  };
  std::array<Axis, 2> axes;
};

class ResizeKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    const auto* resize = dynamic_cast<const Resize*>(&signature.op);
    if (resize == nullptr) return "it is no Resize";
    const Resize::Spec& spec = resize->spec();
    if (signature.has_input(0) && signature.inputs[0].dtype == DType::bfloat16) {
      if (spec.mode != Resize::Mode::nearest) return "bfloat16 is only copied";
    } else if (auto refusal = signature.refuses_dtype(0, "the input")) {
      return refusal;
    }
    if (spec.coordinates == Resize::Coordinates::tf_crop_and_resize) return "a region of the input is resized";
    if (spec.aspect_ratio != Resize::AspectRatio::stretch) return "the aspect ratio is kept";
    if (signature.has_input(Resize::kScales)) return "the scales are an input";
    const TensorType& x = signature.inputs[0];
    if (x.rank() > kMaxRank || x.rank() != signature.outputs[0].rank()) return "the rank is not supported";
    if (!resized_axes(*resize, x, signature.outputs[0])) return "more than two neighbouring axes are resized";
    return std::nullopt;
  }
  explicit ResizeKernel(const KernelSpec& spec)
      : op_(spec.op),
        resize_(dynamic_cast<const Resize&>(*spec.op)),
        axes_(*resized_axes(resize_, spec.inputs[0], spec.outputs[0])),
        kernels_(TENFOLD_FOR_TIER(kResizeKernels)) {
    if (spec.inputs[0].is_static() && spec.outputs[0].is_static()) {
      tables_ = make_tables(spec.inputs[0].static_shape(), spec.outputs[0].static_shape());
    }
  }
  static double estimate_us(const Problem& problem) { return 2 * estimate_streaming_us(problem); }
  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView>) const override {
    // One blended row for each of the rows that are computed at a time.
    return sizeof(float) * static_cast<std::size_t>(kRowsAtATime * row_floats(inputs[0]));
  }
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0 || x.num_elements() == 0) return;
    const std::shared_ptr<const Tables> tables = tables_for(x.dims, y.dims);
    const auto first = static_cast<std::size_t>(axes_.first);
    // [outer, rows, columns, inner]: with one axis resized it is the columns.
    const std::int64_t outer = product_of_dims(x.dims, 0, first);
    const auto end = first + static_cast<std::size_t>(axes_.count);
    const std::int64_t inner = product_of_dims(x.dims, end, x.dims.size());
    const std::int64_t in_row = tables->in[1] * inner, out_row = tables->out[1] * inner;
    const std::int64_t rows = outer * tables->out[0];
    const Tables::Axis& down = tables->axes[0];
    const Tables::Axis& across = tables->axes[1];
    const ResizeTable columns{across.taps, across.index.data(), across.is_copy ? nullptr : across.weight.data()};
    const auto* in = x.as<const float>();
    auto* out = y.as<float>();
    ThreadPool& pool = pool_of(launch);
    auto* blended = reinterpret_cast<float*>(launch.workspace.data());
    const double ns_row =
        0.15 * static_cast<double>((down.is_copy ? 0 : down.taps * in_row) + across.taps * out_row) + 20;
    // Groups of rows share the work out; each has its own place for a blended row.
    const std::int64_t groups = std::min<std::int64_t>(kRowsAtATime, rows);
    split(pool, groups, ns_row * static_cast<double>(rows) / static_cast<double>(groups),
          [&](std::int64_t begin, std::int64_t stop) {
            float* row_buffer = blended + begin * in_row;
            for (std::int64_t r = rows * begin / groups; r < rows * stop / groups; ++r) {
              const std::int64_t o = r / tables->out[0], row = r % tables->out[0];
              const auto at = static_cast<std::size_t>(row * down.taps);
              if (x.dtype == DType::bfloat16) {
                kernels_.copy_halves(x.as<const std::uint16_t>() + (o * tables->in[0] + down.index[at]) * in_row,
                                     columns, tables->out[1], inner, y.as<std::uint16_t>() + r * out_row);
                continue;
              }
              const float* image = in + o * tables->in[0] * in_row;
              const float* source = image + down.index[at] * in_row;
              if (!down.is_copy) {
                kernels_.blend_rows(image, in_row, down.index.data() + at, down.weight.data() + at, down.taps,
                                    row_buffer, in_row);
                source = row_buffer;
              }
              kernels_.blend_columns(source, columns, tables->out[1], inner, out + r * out_row);
            }
          });
  }

 private:
  static constexpr std::int64_t kRowsAtATime = 64;

  std::int64_t row_floats(const TensorView& x) const {
    if (axes_.count < 2) return 0;
    return product_of_dims(x.dims, static_cast<std::size_t>(axes_.first) + 1, x.dims.size());
  }
  std::shared_ptr<const Tables> make_tables(std::span<const std::int64_t> x, std::span<const std::int64_t> y) const {
    auto tables = std::make_shared<Tables>();
    for (int k = 0; k < 2; ++k) {
      // A single resized axis is the second one; the first is then one row.
      const int axis = axes_.first + k - (2 - axes_.count);
      const bool exists = k >= 2 - axes_.count;
      const auto i = static_cast<std::size_t>(exists ? axis : 0), slot = static_cast<std::size_t>(k);
      tables->in[slot] = exists ? x[i] : 1;
      tables->out[slot] = exists ? y[i] : 1;
      const std::vector<double>& scales = resize_.spec().scales;
      Tables::Axis& target = tables->axes[slot];
      if (!exists || tables->in[slot] == 0) {
        target.index.assign(static_cast<std::size_t>(tables->out[slot]), 0);
        continue;
      }
      const Resize::Table table = resize_.table(x[i], y[i], i < scales.size() ? scales[i] : 0);
      target.taps = table.taps;
      target.index.assign(table.index.begin(), table.index.end());
      target.weight.assign(table.weight.begin(), table.weight.end());
      if (table.is_identity) {
        target.taps = 1;
        target.index.resize(static_cast<std::size_t>(y[i]));
        for (std::size_t n = 0; n < target.index.size(); ++n) target.index[n] = static_cast<std::int32_t>(n);
        target.weight.clear();
      }
      target.is_copy = target.taps == 1;
      for (const float weight : target.weight) target.is_copy = target.is_copy && weight == 1.0F;
    }
    return tables;
  }
  /// The tables of these sizes; made anew only when the sizes differ from those of the run before.
  std::shared_ptr<const Tables> tables_for(std::span<const std::int64_t> x, std::span<const std::int64_t> y) const {
    const auto fits = [&](const Tables& tables) {
      for (int k = 2 - axes_.count; k < 2; ++k) {
        const auto i = static_cast<std::size_t>(axes_.first + k - (2 - axes_.count)),
                   slot = static_cast<std::size_t>(k);
        if (tables.in[slot] != x[i] || tables.out[slot] != y[i]) return false;
      }
      return true;
    };
    {
      const std::lock_guard lock(mutex_);
      if (tables_ != nullptr && fits(*tables_)) return tables_;
    }
    std::shared_ptr<const Tables> made = make_tables(x, y);
    const std::lock_guard lock(mutex_);
    tables_ = made;
    return made;
  }

  OpPtr op_;  // owns resize_
  const Resize& resize_;
  Axes axes_;
  const ResizeKernels& kernels_;
  mutable std::mutex mutex_;  // guards tables_; held for a comparison only
  mutable std::shared_ptr<const Tables> tables_;
};

}  // namespace

const CpuTactic kResizeTables = plain_tactic<ResizeKernel>("resize.tables", "Resize");

}  // namespace tenfold::cpu
