// Poolings: y[n, c, p] = max | mean | p-norm over k of x[n, c, p * stride + k * dilation - pad].
// Source: ONNX operator set 22, MaxPool, AveragePool, LpPool and their Global forms.
#include "ops/pool.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"

namespace tenfold {
namespace {

PoolSpec spec_from(const Attributes& attributes) {
  PoolSpec spec{.kernel = attributes.get_ints("kernel_shape"),
                .window = Window::from(attributes),
                .layout = layout_from(attributes)};
  require(spec.kernel.size() == spec.window.strides.size(), Code::invalid_model,
          "kernel_shape has {} entries and strides {}", spec.kernel.size(), spec.window.strides.size());
  for (const std::int64_t k : spec.kernel) {
    require(1 <= k && k <= (std::int64_t{1} << 30), Code::invalid_model, "kernel_shape {} is outside the legal range",
            to_string(spec.kernel));
  }
  return spec;
}

Attributes attributes_of(const PoolSpec& spec) {
  Attributes attributes;
  spec.window.store(attributes);
  attributes.set("kernel_shape", spec.kernel);
  attributes.set("layout", std::string(to_string(spec.layout)));
  return attributes;
}

bool flag_from(const Attributes& attributes, std::string_view name) {
  const std::int64_t value = attributes.get_int(name, 0);
  require(value == 0 || value == 1, Code::invalid_model, "{} must be 0 or 1, got {}", name, value);
  return value == 1;
}

TensorType pool_output(const PoolSpec& spec, const InferContext& context) {
  const TensorType& x = context.input(0);
  check_rank(context, 0, spec.window.spatial_rank() + 2, "the input");
  TensorType result = x;
  const auto first = static_cast<std::size_t>(first_spatial_axis(spec.layout));
  for (std::size_t a = 0; a < spec.kernel.size(); ++a) {
    Dim& dim = result.dims[first + a];
    dim = spec.window.output_size(static_cast<int>(a), dim, spec.kernel[a]);
    require(!dim.is_constant() || dim.constant() >= 0, Code::invalid_model,
            "the window {} is larger than the padded input {}", to_string(spec.kernel), to_string(x));
  }
  return result;
}

/// Everything a reference needs to visit windows.
struct PoolLoop {
  std::int64_t planes = 0;
  std::array<std::int64_t, 3> in, out, kernel, stride, dilation, pad_begin, pad_end;
};

PoolLoop loop_of(const PoolSpec& spec, const TensorView& x, const TensorView& y) {
  PoolLoop loop;
  const int rank = x.rank();
  loop.planes = x.dim(0) * x.dim(channel_axis(spec.layout, rank));
  loop.in = spatial_volume(x, spec.layout).size;
  loop.out = spatial_volume(y, spec.layout).size;
  loop.kernel = fill3(spec.kernel, 1);
  loop.stride = fill3(spec.window.strides, 1);
  loop.dilation = fill3(spec.window.dilations, 1);
  Shape begins, ends;
  for (int a = 0; a < spec.window.spatial_rank(); ++a) {
    const auto [begin, end] =
        spec.window.padding(a, x.dim(first_spatial_axis(spec.layout) + a), spec.kernel[static_cast<std::size_t>(a)]);
    begins.push_back(begin);
    ends.push_back(end);
  }
  loop.pad_begin = fill3(begins, 0);
  loop.pad_end = fill3(ends, 0);
  ensure(y.num_elements() == loop.planes * loop.out[0] * loop.out[1] * loop.out[2], "pooling of inconsistent shapes");
  return loop;
}

/// Calls f(offset within the plane) for each element of the input under the window of output (z, y, x).
template <typename F>
void visit_window(const PoolLoop& loop, std::int64_t z, std::int64_t y, std::int64_t x, F&& f) {
  for (std::int64_t kz = 0; kz < loop.kernel[0]; ++kz) {
    const std::int64_t iz = z * loop.stride[0] + kz * loop.dilation[0] - loop.pad_begin[0];
    if (iz < 0 || iz >= loop.in[0]) continue;
    for (std::int64_t ky = 0; ky < loop.kernel[1]; ++ky) {
      const std::int64_t iy = y * loop.stride[1] + ky * loop.dilation[1] - loop.pad_begin[1];
      if (iy < 0 || iy >= loop.in[1]) continue;
      for (std::int64_t kx = 0; kx < loop.kernel[2]; ++kx) {
        const std::int64_t ix = x * loop.stride[2] + kx * loop.dilation[2] - loop.pad_begin[2];
        if (ix >= 0 && ix < loop.in[2]) f((iz * loop.in[1] + iy) * loop.in[2] + ix);
      }
    }
  }
}

/// Calls f(plane, output index, z, y, x) for each output in planar order.
template <typename F>
void visit_outputs(const PoolLoop& loop, F&& f) {
  std::size_t index = 0;
  for (std::int64_t plane = 0; plane < loop.planes; ++plane) {
    for (std::int64_t z = 0; z < loop.out[0]; ++z) {
      for (std::int64_t y = 0; y < loop.out[1]; ++y) {
        for (std::int64_t x = 0; x < loop.out[2]; ++x) f(plane, index++, z, y, x);
      }
    }
  }
}

/// How many positions of the window lie inside the padded input.
double count_padded(const PoolLoop& loop, const std::array<std::int64_t, 3>& position) {
  double count = 1;
  for (std::size_t a = 0; a < 3; ++a) {
    std::int64_t inside = 0;
    for (std::int64_t k = 0; k < loop.kernel[a]; ++k) {
      const std::int64_t i = position[a] * loop.stride[a] + k * loop.dilation[a] - loop.pad_begin[a];
      if (i < loop.in[a] + loop.pad_end[a]) ++inside;
    }
    count *= static_cast<double>(inside);
  }
  return count;
}

double pool_flops(const PoolSpec& spec, std::span<const TensorType> outputs) {
  if (outputs.empty() || !outputs[0].is_static()) return 0;
  double flops = 1;
  for (const Dim& dim : outputs[0].dims) flops *= static_cast<double>(dim.constant());
  for (const std::int64_t k : spec.kernel) flops *= static_cast<double>(k);
  return flops;
}

/// y = (sum over the window of |x|^p)^(1/p); padding counts as zero.
class LpPool final : public Op {
 public:
  LpPool(PoolSpec spec, std::int64_t p) : spec_(std::move(spec)), p_(p) {}
  std::string_view type() const override { return "LpPool"; }
  Attributes attributes() const override {
    Attributes attributes = attributes_of(spec_);
    attributes.set("p", p_);
    return attributes;
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    check_float(context, 0, "the input");
    context.set_output(0, pool_output(spec_, context));
  }
  void evaluate(EvalContext& context) const override {
    const PoolLoop loop = loop_of(spec_, context.input(0), context.output(0));
    const std::vector<double> x = load_image(context.input(0), spec_.layout);
    std::vector<double> y(static_cast<std::size_t>(context.output(0).num_elements()));
    const std::int64_t plane_size = loop.in[0] * loop.in[1] * loop.in[2];
    visit_outputs(loop, [&](std::int64_t plane, std::size_t index, std::int64_t z, std::int64_t row, std::int64_t col) {
      const double* image = x.data() + plane * plane_size;
      double sum = 0;
      visit_window(loop, z, row, col,
                   [&](std::int64_t i) { sum += std::pow(std::abs(image[i]), static_cast<double>(p_)); });
      y[index] = std::pow(sum, 1 / static_cast<double>(p_));
    });
    store_image(y, context.output(0), spec_.layout);
  }

 private:
  PoolSpec spec_;
  std::int64_t p_;
};

std::int64_t p_from(const Attributes& attributes) {
  const std::int64_t p = attributes.get_int("p", 2);
  require(1 <= p && p <= 1024, Code::invalid_model, "p must be 1 to 1024, got {}", p);
  return p;
}

OpPtr make_max_pool(const Attributes& attributes) {
  return std::make_shared<const MaxPool>(spec_from(attributes), flag_from(attributes, "storage_order"));
}
OpPtr make_average_pool(const Attributes& attributes) {
  return std::make_shared<const AveragePool>(spec_from(attributes), flag_from(attributes, "count_include_pad"));
}
OpPtr make_lp_pool(const Attributes& attributes) {
  return std::make_shared<const LpPool>(spec_from(attributes), p_from(attributes));
}

const TensorType& image_input(const ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "the input is missing");
  const TensorType& x = node.graph().value(node.input(0)).type;
  require(3 <= x.rank() && x.rank() <= 5, Code::unsupported, "poolings need an input of rank 3 to 5, got {}",
          to_string(x));
  return x;
}

/// The three windowed poolings: only auto_pad and the defaults need care.
void import_pool(ImportNode& node) {
  const TensorType& x = image_input(node);
  Attributes attributes = node.attributes();
  const std::vector<std::int64_t> kernel = attributes.get_ints("kernel_shape");
  require(kernel.size() + 2 == x.dims.size(), Code::invalid_model, "kernel_shape {} does not fit an input of shape {}",
          to_string(kernel), to_string(x));
  const std::vector<Dim> kernel_dims(kernel.begin(), kernel.end());
  const Window window = import_window(node, std::span(x.dims).subspan(2), kernel_dims);
  attributes.erase("auto_pad");
  window.store(attributes);
  const ValueId first = node.add(make_op(node.op_type(), attributes), node.inputs(), node.num_outputs());
  for (int i = 0; i < node.num_outputs(); ++i) {
    if (node.wants_output(i)) node.set_output(i, first + i);
  }
}

std::vector<std::int64_t> spatial_axes(const TensorType& x) {
  std::vector<std::int64_t> axes;
  for (int a = 2; a < x.rank(); ++a) axes.push_back(a);
  return axes;
}

/// A pooling over everything is a reduction.
void import_global_pool(ImportNode& node) {
  require(node.has_input(0), Code::invalid_model, "the input is missing");
  const TensorType& x = node.graph().value(node.input(0)).type;
  require(x.rank() >= 2, Code::invalid_model, "the input needs axes for batch and channels, got {}", to_string(x));
  if (x.rank() == 2) return node.set_output(0, node.input(0));
  const std::string_view op = node.op_type() == "GlobalMaxPool" ? "ReduceMax" : "ReduceMean";
  const Attributes attributes{{"axes", spatial_axes(x)}, {"keepdims", std::int64_t{1}}};
  node.set_output(0, node.add(make_op(op, attributes), {node.input(0)}));
}

void import_global_lp_pool(ImportNode& node) {
  const TensorType& x = image_input(node);
  const std::int64_t p = p_from(node.attributes());
  const Attributes attributes{{"axes", spatial_axes(x)}, {"keepdims", std::int64_t{1}}};
  if (p <= 2) {
    return node.set_output(0, node.add(make_op(p == 1 ? "ReduceL1" : "ReduceL2", attributes), {node.input(0)}));
  }
  const auto exponent = [&](double value) {
    Tensor tensor(x.dtype, {});
    store_doubles(std::span(&value, 1), {tensor.mutable_data(), x.dtype, {}, 0});
    return node.constant(tensor);
  };
  const ValueId magnitude = node.add(make_op("Abs"), {node.input(0)});
  const ValueId powers = node.add(make_op("Pow"), {magnitude, exponent(static_cast<double>(p))});
  const ValueId sum = node.add(make_op("ReduceSum", attributes), {powers});
  node.set_output(0, node.add(make_op("Pow"), {sum, exponent(1 / static_cast<double>(p))}));
}

}  // namespace

Attributes MaxPool::attributes() const {
  Attributes attributes = attributes_of(spec_);
  if (column_major_) attributes.set("storage_order", std::int64_t{1});
  return attributes;
}

void MaxPool::infer(InferContext& context) const {
  check_num_inputs(context, 1, 1);
  check_num_outputs(context, 1, 2);
  const DType dtype = context.input(0).dtype;
  require(is_float(dtype) || dtype == DType::int8 || dtype == DType::uint8, Code::invalid_model,
          "the input must be floating-point, int8 or uint8, got {}", to_string(dtype));
  TensorType result = pool_output(spec_, context);
  if (context.wants_output(1)) context.set_output(1, {DType::int64, result.dims});
  context.set_output(0, std::move(result));
}

void MaxPool::evaluate(EvalContext& context) const {
  const PoolLoop loop = loop_of(spec_, context.input(0), context.output(0));
  const std::vector<double> x = load_image(context.input(0), spec_.layout);
  std::vector<double> y(static_cast<std::size_t>(context.output(0).num_elements()));
  std::vector<double> where(context.wants_output(1) ? y.size() : 0);
  const std::int64_t plane_size = loop.in[0] * loop.in[1] * loop.in[2];
  visit_outputs(loop, [&](std::int64_t plane, std::size_t index, std::int64_t z, std::int64_t row, std::int64_t col) {
    const double* image = x.data() + plane * plane_size;
    double best = -std::numeric_limits<double>::infinity();
    std::int64_t position = -1;
    visit_window(loop, z, row, col, [&](std::int64_t i) {
      if (position < 0 || image[i] > best) {
        best = image[i];
        position = i;
      }
    });
    y[index] = best;
    if (where.empty()) return;
    if (column_major_ && position >= 0) {
      const std::int64_t iz = position / (loop.in[1] * loop.in[2]);
      const std::int64_t iy = position / loop.in[2] % loop.in[1];
      position = (position % loop.in[2] * loop.in[1] + iy) * loop.in[0] + iz;
    }
    where[index] = static_cast<double>(plane * plane_size + position);  // exact below 2^53 elements
  });
  store_image(y, context.output(0), spec_.layout);
  if (!where.empty()) store_image(where, context.output(1), spec_.layout);
}

double MaxPool::flops(std::span<const TensorType>, std::span<const TensorType> outputs) const {
  return pool_flops(spec_, outputs);
}

Attributes AveragePool::attributes() const {
  Attributes attributes = attributes_of(spec_);
  if (include_pad_) attributes.set("count_include_pad", std::int64_t{1});
  return attributes;
}

void AveragePool::infer(InferContext& context) const {
  check_num_inputs(context, 1, 1);
  check_num_outputs(context, 1, 1);
  check_float(context, 0, "the input");
  context.set_output(0, pool_output(spec_, context));
}

void AveragePool::evaluate(EvalContext& context) const {
  const PoolLoop loop = loop_of(spec_, context.input(0), context.output(0));
  const std::vector<double> x = load_image(context.input(0), spec_.layout);
  std::vector<double> y(static_cast<std::size_t>(context.output(0).num_elements()));
  const std::int64_t plane_size = loop.in[0] * loop.in[1] * loop.in[2];
  visit_outputs(loop, [&](std::int64_t plane, std::size_t index, std::int64_t z, std::int64_t row, std::int64_t col) {
    const double* image = x.data() + plane * plane_size;
    double sum = 0;
    double count = 0;
    visit_window(loop, z, row, col, [&](std::int64_t i) {
      sum += image[i];
      ++count;
    });
    if (include_pad_) count = count_padded(loop, {z, row, col});
    y[index] = count == 0 ? 0 : sum / count;
  });
  store_image(y, context.output(0), spec_.layout);
}

double AveragePool::flops(std::span<const TensorType>, std::span<const TensorType> outputs) const {
  return pool_flops(spec_, outputs);
}

const OpDef kAveragePoolDef{"AveragePool", make_average_pool, import_pool};
const OpDef kGlobalAveragePoolDef{"GlobalAveragePool", nullptr, import_global_pool};
const OpDef kGlobalLpPoolDef{"GlobalLpPool", nullptr, import_global_lp_pool};
const OpDef kGlobalMaxPoolDef{"GlobalMaxPool", nullptr, import_global_pool};
const OpDef kLpPoolDef{"LpPool", make_lp_pool, import_pool};
const OpDef kMaxPoolDef{"MaxPool", make_max_pool, import_pool};

}  // namespace tenfold
