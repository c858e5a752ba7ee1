// MatMul by tiles: what the kernels for Hopper do not take, and all products on older devices.
//   gemm.tiles:          b is constant and packed at build time; the leading axes of a are more rows
//   gemm.tiles_batched:  b is computed, [batch][k][n] or [batch][n][k]
#include <algorithm>

#include <fmt/format.h>

#include "backend/cuda/tactic_tools.hpp"
#include "backend/cuda/tile_kernel.hpp"
#include "ops/matmul.hpp"

namespace tenfold::cuda {
namespace {

const MatMul& matmul_of(const OpPtr& op) {
  const auto* matmul = op_cast<MatMul>(op);
  ensure(matmul != nullptr, "a MatMul tactic was given operator {}", op->type());
  return *matmul;
}

/// Sizes along the reduction and of rows in memory, all known at build time.
Refusal refuses(const MatMul& matmul, const std::vector<TensorType>& inputs, const std::vector<TensorType>& outputs) {
  if (inputs.size() < 2 || outputs.empty()) return "operands are missing";
  if (auto refusal = refuses_tile_elements(inputs[0].dtype, inputs[1].dtype, outputs[0].dtype)) return refusal;
  if (inputs[0].rank() < 2 || inputs[1].rank() < 2) return "an operand is a vector";
  if (matmul.trans_a()) return "a is transposed";
  return std::nullopt;
}

struct ConstantSizes {
  std::int64_t k, n;
};
ConstantSizes constant_sizes(const MatMul& matmul, const TensorType& b) {
  const std::int64_t second = b.dims[b.dims.size() - 2].constant(), last = b.dims.back().constant();
  return matmul.trans_b() ? ConstantSizes{last, second} : ConstantSizes{second, last};
}

Refusal constant_refuses(const MatMul& matmul, const std::vector<TensorType>& inputs,
                         const std::vector<TensorType>& outputs) {
  if (auto refusal = refuses(matmul, inputs, outputs)) return refusal;
  const TensorType& b = inputs[1];
  if (!b.is_static()) return "b is computed";
  if (std::any_of(b.dims.begin(), b.dims.end() - 2, [](const Dim& dim) { return dim != Dim(1); }))
    return "b is a batch of matrices";
  if (b.rank() > inputs[0].rank()) return "b has more axes than a";
  const ConstantSizes sizes = constant_sizes(matmul, b);
  if (sizes.n < 1 || sizes.k < 1) return "b is empty";
  return std::nullopt;
}

/// Batch axes as one: each operand has all of them or none.
Refusal batched_refuses(const MatMul& matmul, const std::vector<TensorType>& inputs,
                        const std::vector<TensorType>& outputs) {
  if (auto refusal = refuses(matmul, inputs, outputs)) return refusal;
  if (size_of(inputs[0].dtype) == 1) return "computed 8-bit operands";
  const TensorType& c = outputs[0];
  for (std::size_t i = 0; i < 2; ++i) {
    const TensorType& type = inputs[i];
    const std::vector<Dim> batch(type.dims.begin(), type.dims.end() - 2), all(c.dims.begin(), c.dims.end() - 2);
    const bool none = std::all_of(batch.begin(), batch.end(), [](const Dim& dim) { return dim == Dim(1); });
    if (!none && batch != all) return fmt::format("operand {} is broadcast over a part of the batch axes", i);
  }
  return std::nullopt;
}

/// Rows of an open length may begin at any element.
std::int64_t row_bytes_of(const TensorType& type) {
  const Dim& last = type.dims.back();
  return (last.is_constant() ? last.constant() : 1) * static_cast<std::int64_t>(size_of(type.dtype));
}
int vector_bytes(const std::vector<TensorType>& inputs, ColumnSource columns) {
  const std::int64_t a = row_bytes_of(inputs[0]);
  return columns == ColumnSource::packed ? vector_bytes_of({a}) : vector_bytes_of({a, row_bytes_of(inputs[1])});
}

struct CheckedSpec {
  TileSchedule schedule;
  EpilogueSpec epilogue;
};
CheckedSpec check(const KernelSpec& spec, bool is_constant) {
  const MatMul& matmul = matmul_of(spec.op);
  CheckedSpec checked{.schedule = TileSchedule::decode(spec.parameters), .epilogue = {}};
  std::string refusal =
      (is_constant ? constant_refuses : batched_refuses)(matmul, spec.inputs, spec.outputs).value_or("");
  std::optional<EpilogueSpec> epilogue;
  if (refusal.empty())
    epilogue =
        epilogue_spec(matmul.epilogue().program, spec.inputs, MatMul::kFirstEpilogueInput, spec.outputs[0], refusal);
  require(refusal.empty(), Code::incompatible_engine, "tactic '{}' cannot run this MatMul: {}", spec.tactic, refusal);
  const TileSchedule& schedule = checked.schedule;
  const ColumnSource columns = is_constant        ? ColumnSource::packed
                               : matmul.trans_b() ? ColumnSource::matrix
                                                  : ColumnSource::transposed;
  require(schedule.columns == columns && schedule.rows == RowSource::matrix &&
              schedule.element == spec.inputs[0].dtype && schedule.output == spec.outputs[0].dtype &&
              vector_bytes(spec.inputs, columns) % schedule.vector_bytes == 0,
          Code::incompatible_engine, "tactic '{}': the schedule does not fit the operator", spec.tactic);
  checked.epilogue = std::move(*epilogue);
  return checked;
}

template <bool kConstant>
Source source(const KernelSpec& spec, const DeviceTraits&) {
  const CheckedSpec checked = check(spec, kConstant);
  return {tile_text(checked.schedule, checked.epilogue), {std::string(kTileEntry)}};
}

class ConstantKernel final : public Kernel {
 public:
  ConstantKernel(const KernelSpec& spec, CheckedSpec checked, const LoadedModule& module)
      : sizes_(constant_sizes(matmul_of(spec.op), spec.inputs[1])),
        launcher_(checked.schedule, std::move(checked.epilogue), module),
        b_(module.weight(0)) {}

  void run(const Launch& launch) const override {
    const TensorView& a = launch.inputs[0];
    const std::int64_t rows = product_of_dims(a.dims, 0, a.dims.size() - 1);
    if (rows == 0) return;
    GemmArguments arguments{};
    arguments.m = static_cast<int>(rows);
    TileOperands operands{};
    operands.a = a.data;
    operands.b = b_;
    operands.a_pitch = a.pitch;
    operands.k = static_cast<int>(sizes_.k);
    launcher_.run(launch, arguments, operands, sizes_.n, 1, MatMul::kFirstEpilogueInput);
  }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  ConstantSizes sizes_;
  TileLauncher launcher_;
  const void* b_;
};

class BatchedKernel final : public Kernel {
 public:
  BatchedKernel(CheckedSpec checked, const LoadedModule& module)
      : launcher_(checked.schedule, std::move(checked.epilogue), module) {}

  void run(const Launch& launch) const override {
    const TensorView& a = launch.inputs[0];
    const TensorView& b = launch.inputs[1];
    const TensorView& c = launch.outputs[0];
    if (c.num_elements() == 0) return;
    const auto batches = [](const TensorView& view) { return product_of_dims(view.dims, 0, view.dims.size() - 2); };
    GemmArguments arguments{};
    arguments.m = static_cast<int>(a.dim(a.rank() - 2));
    TileOperands operands{};
    operands.a = a.data;
    operands.b = b.data;
    operands.a_pitch = a.pitch;
    operands.b_pitch = b.pitch;
    operands.a_batch = batches(a) > 1 ? a.pitch * a.dim(a.rank() - 2) : 0;
    operands.b_batch = batches(b) > 1 ? b.pitch * b.dim(b.rank() - 2) : 0;
    operands.k = static_cast<int>(a.dims.back());
    launcher_.run(launch, arguments, operands, c.dims.back(), batches(c), MatMul::kFirstEpilogueInput);
  }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  TileLauncher launcher_;
};

/// The kernels with a tensor memory accelerator are faster where they apply.
bool hopper_takes(const Problem& problem, const DeviceTraits& traits) {
  std::vector<Candidate> offers;
  kGemmWgmma.candidates(problem, traits, offers);
  kGemmWgmmaBatched.candidates(problem, traits, offers);
  return std::any_of(offers.begin(), offers.end(), [](const Candidate& c) { return c.refusal.empty(); });
}

template <bool kConstant>
void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  const MatMul& matmul = matmul_of(problem.op);
  Refusal refusal = (kConstant ? constant_refuses : batched_refuses)(matmul, problem.inputs, problem.outputs);
  if (!refusal && kConstant && problem.constants[1] == nullptr) refusal = "b is computed";
  if (!refusal && !kConstant && problem.constants[1] != nullptr &&
      !constant_refuses(matmul, problem.inputs, problem.outputs)) {
    refusal = "b is constant, gemm.tiles packs it";
  }
  if (!refusal && hopper_takes(problem, traits)) refusal = "the device has faster kernels for it";
  std::string reason = refusal.value_or("");
  std::optional<EpilogueSpec> epilogue;
  if (!refusal)
    epilogue = epilogue_spec(matmul.epilogue().program, problem.inputs, MatMul::kFirstEpilogueInput, problem.outputs[0],
                             reason);
  if (!epilogue) return offer_refusal(reason, out);
  const Shape& a = problem.input_shapes[0];
  const Shape& c = problem.output_shapes[0];
  TileShape shape;
  shape.n = std::max<std::int64_t>(1, c.back());
  shape.k = std::max<std::int64_t>(1, a.back());
  if (kConstant) {
    shape.m = std::max<std::int64_t>(1, product_of_dims(a, 0, a.size() - 1));
  } else {
    shape.m = std::max<std::int64_t>(1, c[c.size() - 2]);
    shape.batches = std::max<std::int64_t>(1, product_of_dims(c, 0, c.size() - 2));
    shape.columns = matmul.trans_b() ? ColumnSource::matrix : ColumnSource::transposed;
  }
  shape.element = problem.inputs[0].dtype;
  shape.output = problem.outputs[0].dtype;
  shape.tf32 = problem.tf32 && shape.element == DType::float32;
  shape.input_bytes = static_cast<double>(num_elements(a)) * static_cast<double>(size_of(shape.element));
  shape.num_whole = epilogue->num_whole();
  shape.vector_bytes = vector_bytes(problem.inputs, shape.columns);
  offer_tiles(shape, traits, out);
}

PackedWeights constant_pack(const Problem& problem, const Candidate& candidate) {
  const MatMul& matmul = matmul_of(problem.op);
  const ConstantSizes sizes = constant_sizes(matmul, problem.inputs[1]);
  const std::int64_t n_step = matmul.trans_b() ? sizes.k : 1, k_step = matmul.trans_b() ? 1 : sizes.n;
  PackedWeights packed;
  packed.blobs.push_back(
      pack_tiles(TileSchedule::decode(candidate.parameters), 1, sizes.n, sizes.k, problem.constants[1]->data(),
                 [&](std::int64_t, std::int64_t n, std::int64_t k) { return n * n_step + k * k_step; }));
  packed.consumed_inputs = {1};
  return packed;
}

std::unique_ptr<Kernel> constant_make(const KernelSpec& spec, const LoadedModule& module) {
  CheckedSpec checked = check(spec, true);
  const ConstantSizes sizes = constant_sizes(matmul_of(spec.op), spec.inputs[1]);
  const std::int64_t expected = packed_tiles_bytes(checked.schedule, 1, sizes.n, sizes.k);
  require(spec.weights.size() == 1 && static_cast<std::int64_t>(spec.weights[0].size()) == expected,
          Code::incompatible_engine, "tactic '{}' expects one packed matrix of {} bytes", spec.tactic, expected);
  return std::make_unique<ConstantKernel>(spec, std::move(checked), module);
}

std::unique_ptr<Kernel> batched_make(const KernelSpec& spec, const LoadedModule& module) {
  require(spec.weights.empty(), Code::incompatible_engine, "tactic '{}' takes no packed weights", spec.tactic);
  return std::make_unique<BatchedKernel>(check(spec, false), module);
}

}  // namespace

const CudaTactic kGemmTiles{"gemm.tiles", "MatMul", candidates<true>, constant_pack, source<true>, constant_make};
const CudaTactic kGemmTilesBatched{"gemm.tiles_batched", "MatMul",    candidates<false>, nullptr,
                                   source<false>,        batched_make};

}  // namespace tenfold::cuda
