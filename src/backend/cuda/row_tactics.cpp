// Operators that need a whole row before they can write any of it: Softmax, LogSoftmax, LayerNormalization,
// RMSNormalization, and GroupNormalization and InstanceNormalization of planar images, whose groups are rows.
//   softmax   y = exp(x - m) / sum exp(x - m),  m = max x
//   normalise y = (x - mean) / sqrt(mean((x - mean)^2) + e) * scale + bias, both statistics in float32 over the row in
//             two passes, so no difference of large sums is taken
// A row passes through device memory once: later passes find it in registers or in the cache.
#include "backend/cuda/loop_nest.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "backend/cuda/row_text.hpp"
#include "backend/cuda/tactic_tools.hpp"
#include "ops/norm.hpp"

namespace tenfold::cuda {
namespace {

enum class RowOp : std::uint8_t { softmax, log_softmax, layer_norm, rms_norm, group_norm };

/// What the kernel's text depends on.
struct RowSpec {
  RowOp op = RowOp::softmax;
  DType x = DType::undefined, y = DType::undefined;
  DType scale = DType::undefined, bias = DType::undefined;  ///< undefined: none
  std::optional<std::int64_t> length;
  double epsilon = 0;
  PointwiseProgram program;   ///< of a group normalisation
  int axis = 0;               ///< rows are the product of the axes before it
  bool is_last_axis = false;  ///< a row is one row of the view, so views may be pitched
};

std::optional<std::int64_t> known_product(const TensorType& type, int begin) {
  std::int64_t product = 1;
  for (auto a = static_cast<std::size_t>(begin); a < type.dims.size(); ++a) {
    if (!type.dims[a].is_constant()) return std::nullopt;
    product *= type.dims[a].constant();
  }
  return product;
}

Refusal refuses_length(const RowSpec& spec) {
  constexpr std::int64_t kLongest = std::int64_t{1} << 30;
  if (spec.length && *spec.length > kLongest)
    return fmt::format("rows of {} elements are longer than {}", *spec.length, kLongest);
  return std::nullopt;
}

Refusal read_spec(const Signature& signature, RowSpec& spec) {
  if (!signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
  const std::string_view type = signature.op.type();
  const TensorType& x = signature.inputs[0];
  spec.x = x.dtype;
  spec.y = signature.outputs[0].dtype;
  if (!is_device_float(spec.x) || !is_device_float(spec.y))
    return fmt::format("{} is no type of a row", to_string(spec.x));
  for (std::size_t i = 1; i < signature.outputs.size(); ++i) {
    if (signature.has_output(i)) return "it does not hand out its statistics";
  }
  const Attributes attributes = signature.op.attributes();
  spec.epsilon = attributes.get_float("epsilon", 0);
  if (type == "Softmax" || type == "LogSoftmax") {
    spec.op = type == "Softmax" ? RowOp::softmax : RowOp::log_softmax;
    const auto axis = normalized_axis(attributes.get_int("axis", -1), x.rank());
    if (!axis) return "no such axis";
    if (known_product(x, *axis + 1) != std::optional<std::int64_t>(1)) return "the axis is not the innermost";
    spec.axis = *axis;
  } else if (type == "LayerNormalization" || type == "RMSNormalization") {
    spec.op = type == "LayerNormalization" ? RowOp::layer_norm : RowOp::rms_norm;
    const auto axis = normalized_axis(attributes.get_int("axis", -1), x.rank());
    if (!axis) return "no such axis";
    spec.axis = *axis;
    const std::vector<Dim> inner(x.dims.begin() + *axis, x.dims.end());
    for (std::size_t i = 1; i < signature.inputs.size() && i < 3; ++i) {
      if (!signature.has_input(i)) continue;
      if (!is_device_float(signature.inputs[i].dtype)) return "scale and bias are no floats";
      std::vector<Dim> dims = signature.inputs[i].dims;
      while (dims.size() > inner.size() && dims.front() == Dim(1)) dims.erase(dims.begin());
      if (dims != inner) return fmt::format("input {} has not the shape of a row", i);
    }
    if (!signature.has_input(1)) return "the scale is missing";
    spec.scale = signature.inputs[1].dtype;
    if (signature.has_input(2)) spec.bias = signature.inputs[2].dtype;
  } else {
    spec.op = RowOp::group_norm;
    if (x.rank() < 3 && type == "InstanceNormalization") return "the input is no image";
    if (layout_from(attributes) != ImageLayout::nchw) return "the layout is nhwc";
    if (!x.dims[1].is_constant()) return "the number of channels is not known";
    const std::int64_t channels = x.dims[1].constant();
    const std::int64_t groups = type == "InstanceNormalization" ? channels : attributes.get_int("num_groups");
    if (groups <= 0 || channels % groups != 0) return "the groups do not divide the channels";
    for (std::size_t i = 1; i < 3; ++i) {
      if (!signature.has_input(i) || !is_device_float(signature.inputs[i].dtype) ||
          signature.inputs[i].dims != std::vector<Dim>{x.dims[1]})
        return fmt::format("input {} is not one number a channel", i);
    }
    spec.scale = signature.inputs[1].dtype;
    spec.bias = signature.inputs[2].dtype;
    spec.axis = 1;
    spec.program = Epilogue::from(attributes).program;
    if (spec.program.num_inputs > 1) return "its epilogue has operands";
    if (const auto rest = known_product(x, 2)) spec.length = *rest * (channels / groups);
    return refuses_length(spec);
  }
  spec.length = known_product(x, spec.axis);
  spec.is_last_axis = spec.axis == x.rank() - 1;
  return refuses_length(spec);
}

std::string body_of(const RowSpec& spec) {
  const bool is_fast = math_mode_for(spec.y) == MathMode::fast;
  const std::string_view exp = is_fast ? "tf::math::exp(tf::fast(x)).v" : "expf(x)";
  if (spec.op == RowOp::softmax || spec.op == RowOp::log_softmax) {
    const std::string sum = fmt::format(
        "  float largest = tf::float_of(0xff800000u);\n"
        "  row.each([&](float& x, int) {{ largest = tf::maximum(largest, x); }});\n"
        "  largest = tf::row_max<Threads>(largest);\n"
        "  const auto power = [&](float value) {{ const float x = value - largest; return {}; }};\n"
        "  float sum = 0.0f;\n",
        exp);
    if (spec.op == RowOp::log_softmax) {
      return sum +
             "  row.each([&](float& x, int) { sum += power(x); });\n"
             "  const float shift = largest + logf(tf::row_sum<Threads>(sum));\n"
             "  row.store(y, [&](float x, int) { return x - shift; });\n";
    }
    return sum +
           "  row.each([&](float& x, int) { const float p = power(x); sum += p; if (Cached > 0) x = p; });\n"
           "  const float factor = 1.0f / tf::row_sum<Threads>(sum);\n"
           "  row.store(y, [&](float x, int) { return (Cached > 0 ? x : power(x)) * factor; });\n";
  }
  std::string text = "  float sum = 0.0f;\n";
  if (spec.op != RowOp::rms_norm) {
    text +=
        "  row.each([&](float& x, int) { sum += x; });\n"
        "  const float mean = tf::row_sum<Threads>(sum) / (float)a.length;\n"
        "  sum = 0.0f;\n";
  } else {
    text += "  const float mean = 0.0f;\n";
  }
  text += fmt::format(
      "  row.each([&](float& x, int) {{ sum += (x - mean) * (x - mean); }});\n"
      "  const float factor = 1.0f / sqrtf(tf::row_sum<Threads>(sum) / (float)a.length + {});\n",
      float_literal(static_cast<float>(spec.epsilon)));
  // Scale and bias: one for each element of the row, or for a group of planes one for each channel.
  const bool is_group = spec.op == RowOp::group_norm;
  text += fmt::format("  const {0}* scale = (const {0}*)a.scale{1};\n", device_type(spec.scale),
                      is_group ? " + number % a.groups * a.channels" : "");
  if (spec.bias != DType::undefined) {
    text += fmt::format("  const {0}* bias = (const {0}*)a.bias{1};\n", device_type(spec.bias),
                        is_group ? " + number % a.groups * a.channels" : "");
  }
  if (is_group) {
    text += "  row.store(y, [&](float x, int i) {\n";
    text += "    const int channel = (unsigned)i / (unsigned)a.pixels;\n";
    text += "    const float s0 = (x - mean) * factor * tf::to_float(scale[channel]) + tf::to_float(bias[channel]);\n";
  } else {
    const bool has_bias = spec.bias != DType::undefined;
    text += fmt::format("  row.store_scaled(y, scale, {}, [&](float x, float s, float b) {{\n",
                        has_bias ? "bias" : "scale");
    text += fmt::format("    const float s0 = (x - mean) * factor * s{};\n", has_bias ? " + b" : "");
  }
  const ProgramText program =
      emit_program(spec.program, std::vector<std::string>{"s0"}, "r", math_mode_for(spec.y), "    ");
  text += program.statements + fmt::format("    return {};\n  }});\n", program.result);
  return text;
}

struct RowArguments {
  const void* x = nullptr;
  void* y = nullptr;
  const void* scale = nullptr;
  const void* bias = nullptr;
  std::int64_t rows = 0, x_pitch = 0, y_pitch = 0;
  std::int32_t length = 0;
  std::int32_t groups = 1, channels = 1, pixels = 1;  ///< of a group normalisation; channels of one group
};

class RowKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    RowSpec spec;
    return read_spec(signature, spec);
  }
  static Source source(const KernelSpec& kernel, const DeviceTraits&) {
    const RowSpec spec = spec_of(kernel);
    const int vector = widest_vector(spec.x);
    const RowShape wide = shape_of(spec, vector), narrow = shape_of(spec, 1);
    std::string text = fmt::format(R"({}{}{}
struct Arguments {{
  const void* x;
  void* y;
  const void* scale;
  const void* bias;
  long long rows, x_pitch, y_pitch;
  int length, groups, channels, pixels;
}};
template <int V, int Threads, int Block, int Cached>
TF_FN void rows(const Arguments& a) {{
  tf::begin_early();
  const long long number = blockIdx.x * (long long)(Block / Threads) + threadIdx.x / Threads;
  if (number >= a.rows) return;  // whole warps, or the whole block
  tf::Row<{}, V, Threads, Cached> row((const {}*)a.x + number * a.x_pitch, a.length);
  {}* y = ({}*)a.y + number * a.y_pitch;
{}}}
)",
                                   device_prelude(), nest_prelude(), row_prelude(), device_type(spec.x),
                                   device_type(spec.x), device_type(spec.y), device_type(spec.y), body_of(spec));
    for (const auto& [name, shape] : {std::pair("vectors", wide), std::pair("elements", narrow)}) {
      text += fmt::format(
          "extern \"C\" __global__ void __launch_bounds__({2}) {0}(const __grid_constant__ Arguments a) {{ rows<{3}, "
          "{1}, {2}, {4}>(a); }}\n",
          name, shape.threads, shape.block, shape.vector, shape.cached);
    }
    return {std::move(text), {"vectors", "elements"}};
  }
  RowKernel(const KernelSpec& kernel, const LoadedModule& module)
      : spec_(spec_of(kernel)),
        groups_(kernel.op->type() == "InstanceNormalization" ? 0 : kernel.op->attributes().get_int("num_groups", 1)),
        vectors_(module.function("vectors")),
        elements_(module.function("elements")) {}

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (x.num_elements() == 0) return;
    RowArguments arguments;
    arguments.x = x.data;
    arguments.y = y.data;
    arguments.scale = operand_of(launch.inputs, 1).data;
    arguments.bias = operand_of(launch.inputs, 2).data;
    const auto axis = static_cast<std::size_t>(spec_.axis);
    std::int64_t length = product_of_dims(x.dims, axis, x.dims.size());
    arguments.rows = product_of_dims(x.dims, 0, axis);
    if (spec_.op == RowOp::group_norm) {
      const std::int64_t groups = groups_ == 0 ? x.dims[1] : groups_;
      arguments.groups = static_cast<std::int32_t>(groups);
      arguments.channels = static_cast<std::int32_t>(x.dims[1] / groups);
      arguments.pixels = static_cast<std::int32_t>(product_of_dims(x.dims, 2, x.dims.size()));
      arguments.rows *= groups;
      length /= groups;
    }
    arguments.length = static_cast<std::int32_t>(length);
    arguments.x_pitch = spec_.is_last_axis ? x.pitch : length;
    arguments.y_pitch = spec_.is_last_axis ? y.pitch : length;

    const int vector = widest_vector(spec_.x);
    const auto is_aligned = [vector](const TensorView& view, std::int64_t pitch) {
      const std::size_t bytes = std::min<std::size_t>(16, size_of(view.dtype) * static_cast<std::size_t>(vector));
      return reinterpret_cast<std::uintptr_t>(view.data) % bytes == 0 && pitch % vector == 0;
    };
    const auto is_vector_aligned = [](const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; };
    const bool is_wide = length % vector == 0 && is_aligned(x, arguments.x_pitch) && is_aligned(y, arguments.y_pitch) &&
                         is_vector_aligned(arguments.scale) && is_vector_aligned(arguments.bias);
    const RowShape shape = shape_of(spec_, is_wide ? vector : 1);
    LaunchConfig config;
    config.function = is_wide ? vectors_ : elements_;
    config.grid.x = static_cast<unsigned>(divide_up(arguments.rows, shape.rows()));
    config.block.x = static_cast<unsigned>(shape.block);
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }
  bool accepts_pitched_input(int index) const override { return index == 0 && spec_.is_last_axis; }
  bool accepts_pitched_output(int index) const override { return index == 0 && spec_.is_last_axis; }
  bool can_run_in_place(int index) const override { return index == 0 && spec_.x == spec_.y; }

 private:
  static RowSpec spec_of(const KernelSpec& kernel) {
    RowSpec spec;
    const Refusal refusal = read_spec(Signature{*kernel.op, kernel.inputs, kernel.outputs}, spec);
    ensure(!refusal, "a row kernel that was refused is made");
    return spec;
  }
  static RowShape shape_of(const RowSpec& spec, int vector) { return row_shape(spec.length, vector); }

  RowSpec spec_;
  std::int64_t groups_;
  Function vectors_, elements_;
};

}  // namespace

const CudaTactic kSoftmaxRows = plain_tactic<RowKernel>("rows.softmax", "Softmax");
const CudaTactic kLogSoftmaxRows = plain_tactic<RowKernel>("rows.softmax", "LogSoftmax");
const CudaTactic kLayerNormRows = plain_tactic<RowKernel>("rows.normalize", "LayerNormalization");
const CudaTactic kRmsNormRows = plain_tactic<RowKernel>("rows.normalize", "RMSNormalization");
const CudaTactic kGroupNormRows = plain_tactic<RowKernel>("rows.normalize", "GroupNormalization");
const CudaTactic kInstanceNormRows = plain_tactic<RowKernel>("rows.normalize", "InstanceNormalization");

}  // namespace tenfold::cuda
