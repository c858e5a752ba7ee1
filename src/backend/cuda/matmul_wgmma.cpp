// MatMul on the tensor cores of Hopper.
//   gemm.wgmma:          b is constant and packed at build time; the leading axes of a are more rows
//   gemm.wgmma_gated:    the same, with pairs of columns (GatedMatMul)
//   gemm.wgmma_batched:  b is computed; either operand may be stored transposed
#include <algorithm>

#include <fmt/format.h>

#include "backend/cuda/gemm_kernel.hpp"
#include "ops/gated_matmul.hpp"
#include "ops/matmul.hpp"

namespace tenfold::cuda {
namespace {

constexpr std::int64_t kMapAlignment = 16;  // bytes, of rows in a tensor map

/// What both operators say.
struct Product {
  bool trans_a = false, trans_b = false, gated = false;
  const PointwiseProgram& program;
};
Product product_from(const OpPtr& op) {
  if (const auto* gated = op_cast<GatedMatMul>(op)) {
    return {.trans_b = gated->trans_b(), .gated = true, .program = gated->program()};
  }
  const auto* matmul = op_cast<MatMul>(op);
  ensure(matmul != nullptr, "a tactic of products was given operator {}", op->type());
  return {.trans_a = matmul->trans_a(), .trans_b = matmul->trans_b(), .program = matmul->epilogue().program};
}
/// In both operators.
constexpr int kFirstOperand = 2;
static_assert(kFirstOperand == MatMul::kFirstEpilogueInput && kFirstOperand == GatedMatMul::kFirstOperand);

bool is_mappable(const Dim& columns, DType dtype) {
  return columns.is_constant() && columns.constant() > 0 &&
         columns.constant() * static_cast<std::int64_t>(size_of(dtype)) % kMapAlignment == 0;
}

std::optional<std::string> refuses_types(const std::vector<TensorType>& inputs,
                                         const std::vector<TensorType>& outputs) {
  if (inputs.size() < 2 || outputs.empty()) return "operands are missing";
  if (auto refusal = refuses_elements(inputs[0].dtype, inputs[1].dtype, outputs[0].dtype)) return refusal;
  if (inputs[0].rank() < 2 || inputs[1].rank() < 2) return "an operand is a vector";
  return std::nullopt;
}

// --- b is constant

struct ConstantSizes {
  std::int64_t k, n;  ///< n: columns of the result
};
ConstantSizes constant_sizes(const Product& product, const TensorType& b) {
  const std::int64_t second = b.dims[b.dims.size() - 2].constant(), last = b.dims.back().constant();
  const std::int64_t k = product.trans_b ? last : second, columns = product.trans_b ? second : last;
  return {k, product.gated ? columns / 2 : columns};
}

/// Checks what does not depend on the schedule; also for what an engine file says.
std::optional<std::string> constant_refuses(const Product& product, const std::vector<TensorType>& inputs,
                                            const std::vector<TensorType>& outputs) {
  if (auto refusal = refuses_types(inputs, outputs)) return refusal;
  const TensorType& b = inputs[1];
  if (!b.is_static()) return "b is computed";
  if (std::any_of(b.dims.begin(), b.dims.end() - 2, [](const Dim& dim) { return dim != Dim(1); })) {
    return "b is a batch of matrices";
  }
  if (b.rank() > inputs[0].rank()) return "b has more axes than a";
  if (product.trans_a) return "a is transposed";
  const ConstantSizes sizes = constant_sizes(product, b);
  if (sizes.n < 1 || !is_mappable(Dim(sizes.k), b.dtype)) {
    return fmt::format("rows of a with {} elements are no multiple of {} bytes", sizes.k, kMapAlignment);
  }
  return std::nullopt;
}

struct CheckedSpec {
  GemmSchedule schedule;
  EpilogueSpec epilogue;
};
CheckedSpec check(const KernelSpec& spec, ColumnSource expected) {
  const Product product = product_from(spec.op);
  CheckedSpec checked{.schedule = GemmSchedule::decode(spec.parameters), .epilogue = {}};
  std::string refusal;
  if (expected == ColumnSource::packed)
    refusal = constant_refuses(product, spec.inputs, spec.outputs).value_or("");
  else
    refusal = refuses_types(spec.inputs, spec.outputs).value_or("");
  std::optional<EpilogueSpec> epilogue;
  if (refusal.empty()) {
    epilogue = epilogue_spec(product.program, spec.inputs, kFirstOperand, spec.outputs[0], refusal, product.gated);
  }
  require(refusal.empty(), Code::incompatible_engine, "tactic '{}' cannot run this product: {}", spec.tactic, refusal);
  const GemmSchedule& schedule = checked.schedule;
  const bool is_packed = schedule.columns == ColumnSource::packed;
  require(is_packed == (expected == ColumnSource::packed) && schedule.element == spec.inputs[0].dtype &&
              schedule.output == spec.outputs[0].dtype && schedule.gated == product.gated &&
              schedule.rows != RowSource::image && (schedule.rows == RowSource::transposed) == product.trans_a &&
              (is_packed || (schedule.columns == ColumnSource::matrix) == product.trans_b) &&
              (schedule.staged_residuals == 0 || epilogue->stageable(schedule.output) >= 0),
          Code::incompatible_engine, "tactic '{}': the schedule does not fit the operator", spec.tactic);
  checked.epilogue = std::move(*epilogue);
  return checked;
}

Source text_of(const CheckedSpec& checked) {
  return {gemm_text(checked.schedule, checked.epilogue), {std::string(kGemmEntry)}};
}

std::int64_t product_of(std::span<const std::int64_t> dims) {
  std::int64_t product = 1;
  for (const std::int64_t dim : dims) product *= dim;
  return product;
}

class ConstantKernel final : public Kernel {
 public:
  ConstantKernel(const KernelSpec& spec, CheckedSpec checked, const LoadedModule& module)
      : sizes_(constant_sizes(product_from(spec.op), spec.inputs[1])),
        launcher_(checked.schedule, std::move(checked.epilogue), module),
        loads_k_(loads_along_k(launcher_.schedule(), sizes_.k, 1)),
        b_(launcher_.packed_map(module.weight(0), sizes_.n, loads_k_)) {}

  void run(const Launch& launch) const override {
    const TensorView& a = launch.inputs[0];
    const TensorView& c = launch.outputs[0];
    GemmArguments arguments{};
    const std::int64_t rows = product_of(a.dims.first(a.dims.size() - 1));
    if (rows == 0) return;
    arguments.m = static_cast<int>(rows);
    arguments.batches = 1;
    const TensorMap map = launcher_.matrix_map(a.data, 1, rows, sizes_.k, a.pitch, launcher_.schedule().row_elements(),
                                               launcher_.schedule().tile_m());
    launcher_.run(launch, arguments, map, b_, loads_k_, launch.inputs, kFirstOperand, c);
  }
  bool accepts_pitched_input(int) const override { return true; }
  bool accepts_pitched_output(int) const override { return true; }
  std::int64_t pitched_input_alignment() const override { return kMapAlignment; }

 private:
  ConstantSizes sizes_;
  GemmLauncher launcher_;
  std::int64_t loads_k_;
  TensorMap b_;
};

void constant_candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  const Product product = product_from(problem.op);
  auto refusal = refuses_device(traits);
  if (!refusal) refusal = refuses_digits(problem);
  if (!refusal) refusal = constant_refuses(product, problem.inputs, problem.outputs);
  if (!refusal && problem.constants[1] == nullptr) refusal = "b is computed";
  std::string reason = refusal.value_or("");
  std::optional<EpilogueSpec> epilogue;
  if (!refusal) {
    epilogue = epilogue_spec(product.program, problem.inputs, kFirstOperand, problem.outputs[0], reason, product.gated);
  }
  if (!epilogue) {
    offer_refusal(reason, out);
    return;
  }
  const ConstantSizes sizes = constant_sizes(product, problem.inputs[1]);
  const Shape& a = problem.input_shapes[0];
  GemmShape shape;
  shape.m = std::max<std::int64_t>(1, product_of(std::span(a).first(a.size() - 1)));
  shape.n = sizes.n;
  shape.channels = sizes.k;
  shape.element = problem.inputs[0].dtype;
  shape.output = problem.outputs[0].dtype;
  shape.input_bytes = static_cast<double>(shape.m * sizes.k) * static_cast<double>(size_of(shape.element));
  shape.num_whole = epilogue->num_whole();
  shape.can_stage = !product.gated && epilogue->stageable(shape.output) >= 0 && is_mappable(Dim(sizes.n), shape.output);
  shape.gated = product.gated;
  offer_schedules(shape, traits, out);
}

PackedWeights constant_pack(const Problem& problem, const Candidate& candidate) {
  const Product product = product_from(problem.op);
  const ConstantSizes sizes = constant_sizes(product, problem.inputs[1]);
  const std::int64_t columns = problem.inputs[1].dims.back().constant();
  const std::int64_t n_step = product.trans_b ? columns : 1, k_step = product.trans_b ? 1 : columns;
  PackedWeights packed;
  packed.blobs.push_back(
      pack_columns(GemmSchedule::decode(candidate.parameters), sizes.n, sizes.k, 1, problem.constants[1]->data(),
                   [&](std::int64_t n, std::int64_t, std::int64_t k) { return n * n_step + k * k_step; }));
  packed.consumed_inputs = {1};
  return packed;
}

std::unique_ptr<Kernel> constant_make(const KernelSpec& spec, const LoadedModule& module) {
  CheckedSpec checked = check(spec, ColumnSource::packed);
  const ConstantSizes sizes = constant_sizes(product_from(spec.op), spec.inputs[1]);
  const std::int64_t expected = packed_columns_bytes(checked.schedule, sizes.n, sizes.k, 1);
  require(spec.weights.size() == 1 && static_cast<std::int64_t>(spec.weights[0].size()) == expected,
          Code::incompatible_engine, "tactic '{}' expects one packed matrix of {} bytes", spec.tactic, expected);
  return std::make_unique<ConstantKernel>(spec, std::move(checked), module);
}

// --- b is computed

/// Batch axes as one: each operand has all of them or none, and those of the result are the larger.
std::optional<std::string> batched_refuses(const std::vector<TensorType>& inputs,
                                           const std::vector<TensorType>& outputs) {
  if (auto refusal = refuses_types(inputs, outputs)) return refusal;
  if (size_of(inputs[0].dtype) == 1) return "computed 8-bit operands";
  const TensorType& c = outputs[0];
  for (std::size_t i = 0; i < 2; ++i) {
    const TensorType& type = inputs[i];
    if (!is_mappable(type.dims.back(), type.dtype)) {
      return fmt::format("rows of operand {} are no multiple of {} bytes", i, kMapAlignment);
    }
    const std::vector<Dim> batch(type.dims.begin(), type.dims.end() - 2);
    const std::vector<Dim> all(c.dims.begin(), c.dims.end() - 2);
    const bool none = std::all_of(batch.begin(), batch.end(), [](const Dim& dim) { return dim == Dim(1); });
    if (!none && batch != all) return fmt::format("operand {} is broadcast over a part of the batch axes", i);
  }
  return std::nullopt;
}

class BatchedKernel final : public Kernel {
 public:
  BatchedKernel(const KernelSpec& spec, CheckedSpec checked, const LoadedModule& module)
      : trans_a_(product_from(spec.op).trans_a),
        trans_b_(product_from(spec.op).trans_b),
        launcher_(checked.schedule, std::move(checked.epilogue), module) {}

  void run(const Launch& launch) const override {
    const TensorView& a = launch.inputs[0];
    const TensorView& b = launch.inputs[1];
    const TensorView& c = launch.outputs[0];
    const GemmSchedule& schedule = launcher_.schedule();
    if (c.num_elements() == 0) return;
    GemmArguments arguments{};
    const std::int64_t a_rows = a.dim(a.rank() - 2), b_rows = b.dim(b.rank() - 2);
    const std::int64_t k = trans_a_ ? a_rows : a.dims.back();
    arguments.m = static_cast<int>(trans_a_ ? a.dims.back() : a_rows);
    const auto batches = [](const TensorView& view) { return product_of(view.dims.first(view.dims.size() - 2)); };
    arguments.batches = static_cast<int>(batches(c));
    arguments.a_batched = batches(a) > 1;
    arguments.b_batched = batches(b) > 1;
    const int k_box = schedule.row_elements();
    const TensorMap a_map = launcher_.matrix_map(a.data, batches(a), a_rows, a.dims.back(), a.pitch,
                                                 trans_a_ ? 64 : k_box, trans_a_ ? k_box : schedule.tile_m());
    const TensorMap b_map = launcher_.matrix_map(b.data, batches(b), b_rows, b.dims.back(), b.pitch,
                                                 trans_b_ ? k_box : 64, trans_b_ ? schedule.tile_n : k_box);
    launcher_.run(launch, arguments, a_map, b_map, loads_along_k(schedule, k, 1), launch.inputs, kFirstOperand, c);
  }
  bool accepts_pitched_input(int) const override { return true; }
  bool accepts_pitched_output(int) const override { return true; }
  std::int64_t pitched_input_alignment() const override { return kMapAlignment; }

 private:
  bool trans_a_, trans_b_;
  GemmLauncher launcher_;
};

void batched_candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  const Product product = product_from(problem.op);
  auto refusal = refuses_device(traits);
  if (!refusal) refusal = refuses_digits(problem);
  if (!refusal) refusal = batched_refuses(problem.inputs, problem.outputs);
  if (!refusal && problem.constants[1] != nullptr && !constant_refuses(product, problem.inputs, problem.outputs)) {
    refusal = "b is constant, gemm.wgmma packs it";
  }
  std::string reason = refusal.value_or("");
  std::optional<EpilogueSpec> epilogue;
  if (!refusal) {
    epilogue = epilogue_spec(product.program, problem.inputs, kFirstOperand, problem.outputs[0], reason, product.gated);
  }
  if (!epilogue) {
    offer_refusal(reason, out);
    return;
  }
  const Shape& a = problem.input_shapes[0];
  const Shape& c = problem.output_shapes[0];
  GemmShape shape;
  shape.m = std::max<std::int64_t>(1, c[c.size() - 2]);
  shape.n = std::max<std::int64_t>(1, c.back());
  shape.channels = std::max<std::int64_t>(1, product.trans_a ? a[a.size() - 2] : a.back());
  shape.batches = std::max<std::int64_t>(1, product_of(std::span(c).first(c.size() - 2)));
  shape.rows = product.trans_a ? RowSource::transposed : RowSource::matrix;
  shape.columns = product.trans_b ? ColumnSource::matrix : ColumnSource::transposed;
  shape.element = problem.inputs[0].dtype;
  shape.output = problem.outputs[0].dtype;
  shape.input_bytes = static_cast<double>(num_elements(a)) * static_cast<double>(size_of(shape.element));
  shape.num_whole = epilogue->num_whole();
  offer_schedules(shape, traits, out);
}

std::unique_ptr<Kernel> batched_make(const KernelSpec& spec, const LoadedModule& module) {
  const auto refusal = batched_refuses(spec.inputs, spec.outputs);
  require(!refusal && spec.weights.empty(), Code::incompatible_engine, "tactic '{}' cannot run this MatMul: {}",
          spec.tactic, refusal.value_or("it takes no packed weights"));
  return std::make_unique<BatchedKernel>(spec, check(spec, ColumnSource::matrix), module);
}

}  // namespace

const CudaTactic kGemmWgmma{
    "gemm.wgmma",
    "MatMul",
    constant_candidates,
    constant_pack,
    [](const KernelSpec& spec, const DeviceTraits&) { return text_of(check(spec, ColumnSource::packed)); },
    constant_make};
const CudaTactic kGemmWgmmaGated{
    "gemm.wgmma_gated",
    "GatedMatMul",
    constant_candidates,
    constant_pack,
    [](const KernelSpec& spec, const DeviceTraits&) { return text_of(check(spec, ColumnSource::packed)); },
    constant_make};
const CudaTactic kGemmWgmmaBatched{
    "gemm.wgmma_batched",
    "MatMul",
    batched_candidates,
    nullptr,
    [](const KernelSpec& spec, const DeviceTraits&) { return text_of(check(spec, ColumnSource::matrix)); },
    batched_make};

}  // namespace tenfold::cuda
