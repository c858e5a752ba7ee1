// MatMul on the CPU.
//   gemm.packed:  b is constant; its panels lie in the engine
//   gemm.strassen: the same with an eighth fewer multiplications
//   gemm.batched: b is computed; its panels are packed on the way
#include <algorithm>

#include "backend/cpu/finish_plan.hpp"
#include "backend/cpu/gemm_support.hpp"
#include "ops/matmul.hpp"

namespace tenfold::cpu {
namespace {

const MatMul& matmul_of(const OpPtr& op) {
  const auto* matmul = op_cast<MatMul>(op);
  ensure(matmul != nullptr, "a MatMul tactic was given operator {}", op->type());
  return *matmul;
}

/// Why neither tactic can do it.
std::optional<std::string> refuses(const MatMul& matmul, std::span<const TensorType> inputs,
                                   std::span<const TensorType> outputs) {
  if (inputs.size() < 2 || outputs.empty()) return "operands are missing";
  if (!is_float32(inputs[0]) || !is_float32(inputs[1])) return "only float32 is supported";
  if (inputs[0].rank() < 1 || inputs[1].rank() < 2) return "b is a vector";
  return FinishPlan::refuses(matmul.epilogue(), inputs, MatMul::kFirstEpilogueInput);
}

double estimate(const Problem& problem, const GemmTiling& tiling) {
  const Shape& out = problem.output_shapes[0];
  const Shape& a = problem.input_shapes[0];
  const bool trans_a = matmul_of(problem.op).trans_a();
  const double depth = static_cast<double>(a[a.size() - (trans_a && a.size() > 1 ? 2 : 1)]);
  const double results = static_cast<double>(num_elements(out));
  const double bytes = 4.0 * (static_cast<double>(num_elements(problem.input_shapes[0])) +
                              static_cast<double>(num_elements(problem.input_shapes[1])) + results);
  const double columns = static_cast<double>(out.back());
  const double width = tiling.tile_vectors * vector_floats(tier());
  const double waste = std::ceil(columns / vector_floats(tier())) * vector_floats(tier()) / columns;
  const double big_tile = std::min(1.0, 0.6 + 0.4 * columns / width);
  return estimate_us(2 * results * depth * waste, bytes, 0.85 * big_tile);
}

// --- b is constant
// ----------------------------------------------------------------------------------------------------

/// K and N of a constant right-hand side.
struct PackedSizes {
  std::int64_t depth, columns;
};
PackedSizes packed_sizes(const MatMul& matmul, const TensorType& b) {
  const Shape shape = b.static_shape();
  const std::int64_t second = shape[shape.size() - 2], last = shape.back();
  return matmul.trans_b() ? PackedSizes{last, second} : PackedSizes{second, last};
}

enum class Way { plain, strassen };

std::optional<std::string> packed_refuses(const MatMul& matmul, std::span<const TensorType> inputs, Way way) {
  const TensorType& b = inputs[1];
  if (!b.is_static()) return "b is computed";
  for (int axis = 0; axis + 2 < b.rank(); ++axis) {
    if (b.dims[static_cast<std::size_t>(axis)] != Dim(1)) return "b is a batch of matrices";
  }
  if (matmul.trans_a() && inputs[0].rank() > 1) return "a is transposed";
  if (b.rank() > std::max(2, inputs[0].rank())) return "b has more axes than a";
  if (!fits_in_panels(b)) return fmt::format("b of {} is empty or too large", to_string(b));
  const PackedSizes sizes = packed_sizes(matmul, b);
  return way == Way::strassen ? refuses_strassen(sizes.depth, sizes.columns) : std::nullopt;
}

class PackedKernel final : public Kernel {
 public:
  PackedKernel(const KernelSpec& spec, Way way)
      : sizes_(packed_sizes(matmul_of(spec.op), spec.inputs[1])),
        tiling_(way == Way::strassen ? strassen_tiling_from(spec.parameters) : tiling_from(spec.parameters)),
        finish_(matmul_of(spec.op).epilogue(), MatMul::kFirstEpilogueInput),
        panels_(packed_floats(spec, 0,
                              way == Way::strassen ? strassen_floats(sizes_.depth, sizes_.columns)
                                                   : padded_columns(sizes_.columns) * sizes_.depth)),
        way_(way) {
    // See ConvGemmKernel: sums that do not stop at blocks of the depth are stored once.
    if (way != Way::strassen && tiling_.depth_block >= sizes_.depth)
      residual_ = finish_.residual_input(spec.inputs, spec.outputs[0], false);
  }

  void run(const Launch& launch) const override {
    const TensorView& a = launch.inputs[0];
    const TensorView& c = launch.outputs[0];
    GemmArgs args;
    args.rows = leading(a.dims);
    args.columns = sizes_.columns;
    args.depth = sizes_.depth;
    args.a = a.as<const float>();
    args.a_stride = a.pitch;
    args.panels = panels_;
    args.c = c.as<float>();
    args.c_stride = c.pitch;
    args.tiling = tiling_;
    args.next_weights = launch.next_weights;
    finish_.resolve(launch, c.dims, args.finish);
    if (way_ == Way::strassen) {
      TENFOLD_FOR_TIER(kStrassenKernels).run({args, sample_rows(a.dims)}, workers_of(launch));
    } else {
      TENFOLD_FOR_TIER(kGemmKernels).run(args, workers_of(launch));
    }
  }
  WeightPanels first_weights() const override {
    return way_ == Way::strassen ? WeightPanels{} : weight_panels(panels_, sizes_.columns, sizes_.depth, tiling_);
  }
  bool accepts_pitched_input(int index) const override { return index == 0 || finish_.reads(index); }
  bool accepts_pitched_output(int) const override { return true; }
  bool can_run_in_place(int index) const override { return index == residual_; }

 private:
  PackedSizes sizes_;
  GemmTiling tiling_;
  FinishPlan finish_;
  const float* panels_;
  Way way_;
  int residual_ = -1;  ///< the input whose place the result may take; -1: none
};

void packed_candidates(const Problem& problem, std::vector<Candidate>& out, Way way) {
  const MatMul& matmul = matmul_of(problem.op);
  auto refusal = refuses(matmul, problem.inputs, problem.outputs);
  if (!refusal) refusal = packed_refuses(matmul, problem.inputs, way);
  if (!refusal && problem.constants[1] == nullptr) refusal = "b is computed";
  if (!refusal && way == Way::strassen) {
    const PackedSizes sizes = packed_sizes(matmul, problem.inputs[1]);
    refusal = refuses_strassen(problem, sample_rows(problem.input_shapes[0]), sizes.depth, sizes.columns);
  }
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const PackedSizes sizes = packed_sizes(matmul, problem.inputs[1]);
  const std::int64_t rows = leading(problem.input_shapes[0]);
  double rank = way == Way::strassen ? strassen_share(sizes.depth, sizes.columns) : 1;
  // A depth block keeps a panel in the first-level cache, a row block with its depth stays in the second.
  for (const GemmTiling& tiling :
       way == Way::strassen ? strassen_tilings(sample_rows(problem.input_shapes[0]), sizes.columns, sizes.depth)
                            : plain_tilings(rows, !problem.inputs[0].is_static(), sizes.columns, sizes.depth)) {
    out.push_back({.parameters = parameters_of(tiling), .estimated_us = rank * estimate(problem, tiling)});
    rank += kRankStep;
  }
}

PackedWeights packed_pack(const Problem& problem, const Candidate& candidate, Way way) {
  const MatMul& matmul = matmul_of(problem.op);
  const PackedSizes sizes = packed_sizes(matmul, problem.inputs[1]);
  const float* b = problem.constants[1]->as<float>().data();
  const std::int64_t k_stride = matmul.trans_b() ? 1 : sizes.columns;
  const std::int64_t n_stride = matmul.trans_b() ? sizes.depth : 1;
  const auto value = [&](std::int64_t k, std::int64_t n) { return b[k * k_stride + n * n_stride]; };
  const GemmTiling tiling = tiling_from(candidate.parameters);
  PackedWeights packed;
  packed.blobs.push_back(way == Way::strassen ? pack_strassen(sizes.depth, sizes.columns, tiling, value)
                                              : pack_panels(sizes.depth, sizes.columns, tiling.tile_vectors, value));
  packed.consumed_inputs = {1};
  return packed;
}

std::unique_ptr<Kernel> packed_make(const KernelSpec& spec, Way way) {
  const MatMul& matmul = matmul_of(spec.op);
  auto refusal = refuses(matmul, spec.inputs, spec.outputs);
  if (!refusal) refusal = packed_refuses(matmul, spec.inputs, way);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this MatMul: {}", spec.tactic,
          refusal.value_or(""));
  return std::make_unique<PackedKernel>(spec, way);
}

template <Way kWay>
constexpr CpuTactic packed_tactic(std::string_view name) {
  return {name, "MatMul",
          [](const Problem& problem, std::vector<Candidate>& out) { packed_candidates(problem, out, kWay); },
          [](const Problem& problem, const Candidate& candidate) { return packed_pack(problem, candidate, kWay); },
          [](const KernelSpec& spec) { return packed_make(spec, kWay); }};
}

// --- b is computed
// ----------------------------------------------------------------------------------------------------

class BatchedKernel final : public Kernel {
 public:
  explicit BatchedKernel(const KernelSpec& spec)
      : trans_a_(matmul_of(spec.op).trans_a()),
        trans_b_(matmul_of(spec.op).trans_b()),
        tiling_(tiling_from(spec.parameters)),
        finish_(matmul_of(spec.op).epilogue(), MatMul::kFirstEpilogueInput) {
    require(spec.weights.empty(), Code::incompatible_engine, "tactic '{}' takes no packed weights", spec.tactic);
  }

  void run(const Launch& launch) const override {
    const TensorView& a = launch.inputs[0];
    const TensorView& b = launch.inputs[1];
    const TensorView& c = launch.outputs[0];
    const int a_rank = a.rank(), b_rank = b.rank(), c_rank = c.rank();
    BatchedGemmArgs args;
    args.trans_a = trans_a_ && a_rank > 1;
    args.trans_b = trans_b_;
    const std::int64_t a_rows = a_rank > 1 ? a.dim(a_rank - 2) : 1;
    args.rows = args.trans_a ? a.dim(a_rank - 1) : a_rows;
    args.depth = args.trans_a ? a_rows : a.dim(a_rank - 1);
    args.columns = b.dim(trans_b_ ? b_rank - 2 : b_rank - 1);
    args.a = a.as<const float>();
    args.b = b.as<const float>();
    args.c = c.as<float>();
    args.a_stride = a.pitch;
    args.b_stride = b.pitch;
    args.c_stride = c.pitch;
    const int matrix_axes = a_rank > 1 ? 2 : 1;  // of c
    args.num_axes = c_rank - matrix_axes;
    std::int64_t a_step = a_rows * a.pitch, b_step = b.dim(b_rank - 2) * b.pitch;
    for (int axis = args.num_axes - 1; axis >= 0; --axis) {
      const int from_end = args.num_axes - 1 - axis;
      args.axis_dims[axis] = c.dim(axis);
      args.batch *= c.dim(axis);
      const int a_axis = a_rank - 3 - from_end, b_axis = b_rank - 3 - from_end;
      const std::int64_t a_size = a_axis >= 0 ? a.dim(a_axis) : 1;
      const std::int64_t b_size = b_axis >= 0 ? b.dim(b_axis) : 1;
      args.a_axis_strides[axis] = a_size == 1 ? 0 : a_step;
      args.b_axis_strides[axis] = b_size == 1 ? 0 : b_step;
      a_step *= a_size;
      b_step *= b_size;
    }
    args.c_matrix_stride = args.rows * c.pitch;
    args.tiling = tiling_;
    fold_rows(args);
    finish_.resolve(launch, c.dims, args.finish);
    TENFOLD_FOR_TIER(kGemmKernels).run_batched(args, workers_of(launch));
  }
  bool accepts_pitched_input(int index) const override { return index <= 1 || finish_.reads(index); }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  /// Batch axes that share b are more rows of a: b is then packed once.
  static void fold_rows(BatchedGemmArgs& args) {
    while (args.num_axes > 0 && !args.trans_a) {
      const int axis = args.num_axes - 1;
      const std::int64_t size = args.axis_dims[axis];
      const bool continues = args.b_axis_strides[axis] == 0 && args.a_axis_strides[axis] == args.rows * args.a_stride;
      if (size != 1 && !continues) return;
      if (size == 0) return;
      args.rows *= size;
      args.batch /= size;
      args.c_matrix_stride = args.rows * args.c_stride;
      --args.num_axes;
    }
  }

  bool trans_a_, trans_b_;
  GemmTiling tiling_;
  FinishPlan finish_;
};

void batched_candidates(const Problem& problem, std::vector<Candidate>& out) {
  const MatMul& matmul = matmul_of(problem.op);
  auto refusal = refuses(matmul, problem.inputs, problem.outputs);
  // Weights that rest in the cache while they are timed would hide what packing them in every run costs.
  if (!refusal && problem.constants[1] != nullptr && !packed_refuses(matmul, problem.inputs, Way::plain)) {
    refusal = "b is constant and better packed once";
  }
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const Shape& a = problem.input_shapes[0];
  const std::int64_t rows = a.size() > 1 ? a[a.size() - 2] : 1;
  double rank = 1.1;  // packing
  const std::int64_t depth = matmul.trans_a() && a.size() > 1 ? rows : a.back();
  for (const GemmTiling& tiling :
       promising_tilings(rows, problem.output_shapes[0].back(), depth, {{512, 96}, {256, 192}})) {
    out.push_back({.parameters = parameters_of(tiling), .estimated_us = rank * estimate(problem, tiling)});
    rank += kRankStep;
  }
}

std::unique_ptr<Kernel> batched_make(const KernelSpec& spec) {
  const auto refusal = refuses(matmul_of(spec.op), spec.inputs, spec.outputs);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this MatMul: {}", spec.tactic,
          refusal.value_or(""));
  return std::make_unique<BatchedKernel>(spec);
}

}  // namespace

const CpuTactic kGemmPacked = packed_tactic<Way::plain>("gemm.packed");
const CpuTactic kGemmStrassen = packed_tactic<Way::strassen>("gemm.strassen");
const CpuTactic kGemmBatched{"gemm.batched", "MatMul", batched_candidates, nullptr, batched_make};

}  // namespace tenfold::cpu
