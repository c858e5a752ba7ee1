// Channels-last convolution over two axes by tiles: an implicit matrix product whose rows are output pixels; every
// thread finds the pixels of its chunks itself. Channels of any number and groups: groups with few columns are computed
// together, with zeros between them.
#include <algorithm>

#include <fmt/format.h>

#include "backend/cuda/conv_filter.hpp"
#include "backend/cuda/tactic_tools.hpp"
#include "backend/cuda/tile_kernel.hpp"

namespace tenfold::cuda {
namespace {

/// A convolution as a batch of products.
struct Products {
  std::int64_t groups, merged;  ///< products, and groups in each
  std::int64_t n, channels;     ///< of one product
  std::int64_t k;
};
Products products_of(const Conv& conv, const FilterSizes& sizes, bool is_exact) {
  const std::int64_t groups = conv.group(), columns = sizes.n / groups;
  const std::int64_t enough = is_exact ? 16 : 32;  // the narrowest tiles
  std::int64_t merged = 1;
  while (merged < groups && (merged * columns < enough || groups % merged != 0)) ++merged;
  return {groups / merged, merged, columns * merged, sizes.channels * merged,
          sizes.channels * merged * sizes.positions()};
}

Refusal refuses(const Conv& conv, const std::vector<TensorType>& inputs, const std::vector<TensorType>& outputs) {
  if (auto refusal = refuses_conv(conv, inputs, outputs)) return refusal;
  if (auto refusal = refuses_tile_elements(inputs[0].dtype, inputs[1].dtype, outputs[0].dtype)) return refusal;
  const FilterSizes sizes = filter_sizes(inputs[1]);
  if (conv.group() < 1 || sizes.n % conv.group() != 0 || inputs[0].dims[3] != Dim(sizes.channels * conv.group()))
    return "the filter does not fit the groups";
  const Products products = products_of(conv, sizes, inputs[0].dtype == DType::float32);
  constexpr std::int64_t kMost = std::int64_t{1} << 31;  // of positions found by multiplication; see TileOperands
  constexpr std::int64_t kSlack = 256;
  if (products.k > kMost || (products.k + kSlack) * products.channels > kMost) return "the filter is too large";
  return std::nullopt;
}

int vector_bytes(const TensorType& x, const Products& products) {
  const auto size = static_cast<std::int64_t>(size_of(x.dtype));
  return vector_bytes_of({products.channels * size, products.channels * products.groups * size});
}

struct CheckedSpec {
  TileSchedule schedule;
  EpilogueSpec epilogue;
  Products products;
};
CheckedSpec check(const KernelSpec& spec) {
  const Conv& conv = conv_of(spec.op);
  const TileSchedule schedule = TileSchedule::decode(spec.parameters);
  std::string refusal = refuses(conv, spec.inputs, spec.outputs).value_or("");
  std::optional<EpilogueSpec> epilogue;
  if (refusal.empty())
    epilogue = epilogue_spec(conv.epilogue().program, spec.inputs, Conv::kFirstEpilogueInput, spec.outputs[0], refusal);
  require(refusal.empty(), Code::incompatible_engine, "tactic '{}' cannot run this Conv: {}", spec.tactic, refusal);
  const Products products = products_of(conv, filter_sizes(spec.inputs[1]), schedule.is_exact());
  require(schedule.columns == ColumnSource::packed && schedule.rows == RowSource::image &&
              schedule.element == spec.inputs[0].dtype && schedule.output == spec.outputs[0].dtype &&
              vector_bytes(spec.inputs[0], products) % schedule.vector_bytes == 0,
          Code::incompatible_engine, "tactic '{}': the schedule does not fit the operator", spec.tactic);
  epilogue->has_bias = has_bias(spec.inputs);
  return {schedule, std::move(*epilogue), products};
}

class TileConvKernel final : public Kernel {
 public:
  TileConvKernel(const KernelSpec& spec, CheckedSpec checked, const LoadedModule& module)
      : op_(spec.op),
        sizes_(filter_sizes(spec.inputs[1])),
        products_(checked.products),
        launcher_(checked.schedule, std::move(checked.epilogue), module),
        b_(module.weight(0)),
        bias_(launcher_.epilogue().has_bias ? static_cast<const float*>(module.weight(1)) : nullptr) {}

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    const Window& window = conv_of(op_).window();
    const TileSchedule& schedule = launcher_.schedule();
    GemmArguments arguments{};
    arguments.m = static_cast<int>(y.dim(0) * y.dim(1) * y.dim(2));
    arguments.bias = bias_;
    arguments.kernel_w = static_cast<int>(sizes_.kernel_w);
    arguments.stride_h = static_cast<int>(window.strides[0]);
    arguments.stride_w = static_cast<int>(window.strides[1]);
    arguments.pad_h = static_cast<int>(window.padding(0, x.dim(1), sizes_.kernel_h)[0]);
    arguments.pad_w = static_cast<int>(window.padding(1, x.dim(2), sizes_.kernel_w)[0]);
    arguments.dilation_h = static_cast<int>(window.dilations[0]);
    arguments.dilation_w = static_cast<int>(window.dilations[1]);
    TileOperands operands{};
    operands.a = x.data;
    operands.b = b_;
    operands.a_pitch = x.pitch;
    operands.a_batch = products_.channels;
    operands.b_batch = padded_columns(schedule, products_.n) * slices_of(schedule, products_.k) * schedule.slice();
    operands.k = static_cast<int>(products_.k);
    operands.channels = static_cast<int>(products_.channels);
    operands.in_h = static_cast<int>(x.dim(1));
    operands.in_w = static_cast<int>(x.dim(2));
    launcher_.run(launch, arguments, operands, products_.n, products_.groups, Conv::kFirstEpilogueInput);
  }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  OpPtr op_;
  FilterSizes sizes_;
  Products products_;
  TileLauncher launcher_;
  const void* b_;
  const float* bias_;
};

bool hopper_takes(const Problem& problem, const DeviceTraits& traits) {
  std::vector<Candidate> offers;
  kConvWgmma.candidates(problem, traits, offers);
  kConvFolded.candidates(problem, traits, offers);
  return std::any_of(offers.begin(), offers.end(), [](const Candidate& c) { return c.refusal.empty(); });
}

void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  const Conv& conv = conv_of(problem.op);
  Refusal refusal = refuses(conv, problem.inputs, problem.outputs);
  if (!refusal &&
      (problem.constants[1] == nullptr || (has_bias(problem.inputs) && problem.constants[kConvBias] == nullptr))) {
    refusal = "the weights are computed";
  }
  if (!refusal && hopper_takes(problem, traits)) refusal = "the device has faster kernels for it";
  std::string reason = refusal.value_or("");
  std::optional<EpilogueSpec> epilogue;
  if (!refusal)
    epilogue =
        epilogue_spec(conv.epilogue().program, problem.inputs, Conv::kFirstEpilogueInput, problem.outputs[0], reason);
  if (!epilogue) return offer_refusal(reason, out);
  const Shape& y = problem.output_shapes[0];
  TileShape shape;
  shape.element = problem.inputs[0].dtype;
  shape.output = problem.outputs[0].dtype;
  shape.tf32 = problem.tf32 && shape.element == DType::float32;
  const bool is_exact = shape.element == DType::float32 && !shape.tf32;
  const Products products = products_of(conv, filter_sizes(problem.inputs[1]), is_exact);
  shape.m = std::max<std::int64_t>(1, y[0] * y[1] * y[2]);
  shape.n = products.n;
  shape.k = products.k;
  shape.batches = products.groups;
  shape.rows = RowSource::image;
  shape.input_bytes =
      static_cast<double>(num_elements(problem.input_shapes[0])) * static_cast<double>(size_of(shape.element));
  shape.num_whole = epilogue->num_whole();
  shape.vector_bytes = vector_bytes(problem.inputs[0], products);
  offer_tiles(shape, traits, out);
}

PackedWeights pack(const Problem& problem, const Candidate& candidate) {
  const TileSchedule schedule = TileSchedule::decode(candidate.parameters);
  const Conv& conv = conv_of(problem.op);
  const FilterSizes sizes = filter_sizes(problem.inputs[1]);
  const Products products = products_of(conv, sizes, schedule.is_exact());
  const std::int64_t columns = sizes.n / conv.group();  // of one group
  PackedWeights packed;
  packed.consumed_inputs = {1};
  packed.blobs.push_back(pack_tiles(
      schedule, products.groups, products.n, products.k, problem.constants[1]->data(),
      [&](std::int64_t product, std::int64_t column, std::int64_t k) -> std::int64_t {
        const std::int64_t position = k / products.channels, channel = k % products.channels;
        if (channel / sizes.channels != column / columns) return -1;  // of another group
        return ((product * products.n + column) * sizes.channels + channel % sizes.channels) * sizes.positions() +
               position;
      }));
  if (has_bias(problem.inputs)) {
    const std::vector<double> numbers = problem.constants[kConvBias]->to_double();
    const std::int64_t padded = padded_columns(schedule, products.n);
    std::vector<float> bias(static_cast<std::size_t>(products.groups * padded));
    for (std::int64_t n = 0; n < sizes.n; ++n) {
      bias[static_cast<std::size_t>(n / products.n * padded + n % products.n)] =
          static_cast<float>(numbers[numbers.size() == 1 ? 0 : static_cast<std::size_t>(n)]);
    }
    const auto bytes = std::as_bytes(std::span(bias));
    packed.blobs.emplace_back(bytes.begin(), bytes.end());
    packed.consumed_inputs.push_back(kConvBias);
  }
  return packed;
}

std::unique_ptr<Kernel> make(const KernelSpec& spec, const LoadedModule& module) {
  CheckedSpec checked = check(spec);
  const Products& products = checked.products;
  const auto columns =
      static_cast<std::size_t>(packed_tiles_bytes(checked.schedule, products.groups, products.n, products.k));
  const std::size_t vector =
      sizeof(float) * static_cast<std::size_t>(products.groups * padded_columns(checked.schedule, products.n));
  require(spec.weights.size() == (checked.epilogue.has_bias ? 2U : 1U) && spec.weights[0].size() == columns &&
              (!checked.epilogue.has_bias || spec.weights[1].size() == vector),
          Code::incompatible_engine, "tactic '{}' expects packed weights of {} bytes and a bias of {} bytes or none",
          spec.tactic, columns, vector);
  return std::make_unique<TileConvKernel>(spec, std::move(checked), module);
}

}  // namespace

const CudaTactic kConvTiles{"conv.tiles",
                            "Conv",
                            candidates,
                            pack,
                            [](const KernelSpec& spec, const DeviceTraits&) {
                              const CheckedSpec checked = check(spec);
                              return Source{tile_text(checked.schedule, checked.epilogue), {std::string(kTileEntry)}};
                            },
                            make};

}  // namespace tenfold::cuda
