// integers.packed: MatMulInteger of rows whose zero point is known only when they are, as networks quantised
// dynamically have them, and a constant matrix. Exact.
//
// With a' = a made unsigned and b' = b made signed, both by a shift of 128 that their zero points share:
//   sum (a - za)(b - zb) = sum a' b' - za' sum b' - zb' (sum a' - depth za')
// The first two terms come out of the byte product, whose sums begin with the second one; the third one is 0 for the
// symmetric weights that quantisers make, and else taken off afterwards, row by row. With an epilogue the sums become
// floats where they are made.
#include <algorithm>
#include <cstring>

#include "backend/cpu/byte_finish_plan.hpp"
#include "backend/cpu/byte_support.hpp"
#include "backend/cpu/kernels/byte_product.hpp"
#include "backend/cpu/tactic_tools.hpp"
#include "ops/quantized.hpp"

namespace tenfold::cpu {
namespace {

/// Products of 255 * 255 and less, so many of them fit in 32 bits.
constexpr std::int64_t kMaxDepth = 1 << 15;

/// What makes bytes of A unsigned is added, what makes bytes of B signed taken away.
constexpr std::int32_t kShift = 128;
std::int32_t shift_of_a(DType dtype) { return dtype == DType::int8 ? kShift : 0; }
std::int32_t shift_of_b(DType dtype) { return dtype == DType::uint8 ? kShift : 0; }

struct Sizes {
  std::int64_t depth, columns;
};
Sizes sizes_of(const TensorType& b) {
  const Shape shape = b.static_shape();
  return {shape[shape.size() - 2], shape.back()};
}

const MatMulInteger& product_of(const OpPtr& op) {
  const auto* product = op_cast<MatMulInteger>(op);
  ensure(product != nullptr, "a MatMulInteger tactic was given operator {}", op->type());
  return *product;
}
bool is_finished(const Epilogue& epilogue) { return epilogue.output != DType::undefined; }

Refusal refuses(const Epilogue& epilogue, std::span<const TensorType> inputs) {
  if (inputs.size() < 2 || !is_byte(inputs[0].dtype) || !is_byte(inputs[1].dtype)) return "a factor is no byte";
  const TensorType& b = inputs[1];
  if (inputs[0].rank() < 1 || b.rank() < 2) return "a factor is a vector";
  if (!fits_in_panels(b)) return fmt::format("b of {} is empty, too large or computed", to_string(b));
  for (int axis = 0; axis + 2 < b.rank(); ++axis) {
    if (b.dims[static_cast<std::size_t>(axis)] != Dim(1)) return "b is a batch of matrices";
  }
  if (b.rank() > std::max(2, inputs[0].rank())) return "b has more axes than a";
  const Sizes sizes = sizes_of(b);
  if (sizes.depth > kMaxDepth) return fmt::format("sums of {} products may not fit in 32 bits", sizes.depth);
  if (inputs.size() > 2 && inputs[2].dtype != DType::undefined && inputs[2].num_elements() != Dim(1))
    return "rows have zero points of their own";
  if (inputs.size() > 3 && inputs[3].dtype != DType::undefined && inputs[3].num_elements() != Dim(1) &&
      !(inputs[3].rank() == 1 && inputs[3].dims[0] == Dim(sizes.columns))) {
    return "the zero points of b are neither one nor one for each column";
  }
  if (!is_finished(epilogue)) return std::nullopt;
  if (epilogue.output != DType::float32) return fmt::format("the result is {}", to_string(epilogue.output));
  return ByteFinishPlan::refuses(epilogue, inputs, MatMulInteger::kFirstEpilogueInput);
}

/// [tile rows, tile vectors, row block].
ByteTiling tiling_from(const KernelSpec& spec) {
  const std::vector<std::int64_t>& p = spec.parameters;
  constexpr std::int64_t kMaxBlock = std::int64_t{1} << 40;
  require(p.size() == 3, Code::incompatible_engine, "tactic '{}' has 3 parameters, got {}", spec.tactic, p.size());
  const int vectors = 0 < p[1] && p[1] <= 64 ? static_cast<int>(p[1]) : 0;
  require(vectors > 0 && 0 < p[0] && p[0] <= TENFOLD_FOR_TIER(kByteKernels).max_tile_rows(vectors) && 0 < p[2] &&
              p[2] <= kMaxBlock,
          Code::incompatible_engine, "there is no register tile of bytes of {} x {} vectors, in blocks of {} rows",
          p[0], p[1], p[2]);
  return {.tile_rows = static_cast<int>(p[0]), .tile_vectors = vectors, .row_block = p[2]};
}

class MatMulIntegerKernel final : public Kernel {
 public:
  /// weights: [panels][sums of the columns, padded; zero points of the columns, if one is not 0]
  explicit MatMulIntegerKernel(const KernelSpec& spec)
      : sizes_(sizes_of(spec.inputs[1])),
        a_type_(spec.inputs[0].dtype),
        tiling_(tiling_from(spec)),
        padded_(padded_columns(sizes_.columns)),
        scaling_(product_of(spec.op).epilogue(), kFirstOperand, spec.inputs, spec.outputs[0]) {
    if (is_finished(scaling_.rest())) finish_.emplace(scaling_.rest(), kFirstOperand, spec.inputs, std::nullopt);
    const std::int64_t quads = (sizes_.depth + 3) / 4;
    panels_ = reinterpret_cast<const std::int8_t*>(packed_bytes(spec, 0, padded_ * quads * 4));
    const bool has_zeros = spec.weights.size() > 1 && std::ssize(spec.weights[1]) == 2 * padded_ * kSumBytes;
    sums_ = reinterpret_cast<const std::int32_t*>(packed_bytes(spec, 1, (has_zeros ? 2 : 1) * padded_ * kSumBytes));
    zeros_ = has_zeros ? sums_ + padded_ : nullptr;
    require(!finish_ || !has_zeros, Code::incompatible_engine, "tactic '{}' cannot take zero points of b off floats",
            spec.tactic);
  }
  std::size_t workspace_bytes(std::span<const TensorView>, std::span<const TensorView>) const override {
    return starts_bytes() + scaling_.workspace_bytes(padded_);
  }
  void run(const Launch& launch) const override {
    const TensorView& a = launch.inputs[0];
    const TensorView& c = launch.outputs[0];
    const TensorView point = operand_of(launch.inputs, 2);
    const std::int32_t given = point.data == nullptr ? 0 : byte_at(point.data, a_type_, 0);
    const std::int32_t zero = given + shift_of_a(a_type_);
    ByteProductArgs args;
    args.rows = leading(c.dims);
    args.columns = sizes_.columns;
    args.depth = sizes_.depth;
    args.a = static_cast<const std::uint8_t*>(a.data);
    args.a_stride = a.pitch;
    args.a_is_signed = a_type_ == DType::int8;
    args.zero = static_cast<std::uint8_t>(given);
    args.panels = panels_;
    args.start = scaled_starts(-zero, sums_, padded_, launch.workspace);
    args.c = c.data;
    args.c_stride = c.pitch;
    args.tiling = tiling_;
    args.finish.result = ByteResult::int32;
    if (finish_) {
      scaling_.resolve(launch, sizes_.columns, padded_, launch.workspace.subspan(starts_bytes()), args.finish);
      finish_->resolve(launch, c.dims, args.finish);
    }
    args.has_byte_dot = has_byte_dot();
    TENFOLD_FOR_TIER(kByteKernels).run(args, workers_of(launch));
    if (zeros_ != nullptr) take_off_zeros(args, zero, pool_of(launch));
  }
  bool accepts_pitched_input(int index) const override {
    return index == 0 || scaling_.reads(index) || (finish_ && finish_->reads(index));
  }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  static constexpr std::int64_t kSumBytes = sizeof(std::int32_t);
  static constexpr int kFirstOperand = MatMulInteger::kFirstEpilogueInput;
  std::size_t starts_bytes() const { return static_cast<std::size_t>(padded_ * kSumBytes); }

  void take_off_zeros(const ByteProductArgs& args, std::int32_t zero, ThreadPool& pool) const {
    split(pool, args.rows, 0.1 * static_cast<double>(args.depth + args.columns),
          [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t m = begin; m < end; ++m) {
              const std::uint8_t* row = args.a + m * args.a_stride;
              std::int32_t sum = 0;
              for (std::int64_t k = 0; k < args.depth; ++k) sum += byte_at(row, a_type_, k);
              // Of the bytes made unsigned, less their zero points: the shift falls out.
              const auto rest = static_cast<std::uint32_t>(sum - static_cast<std::int32_t>(args.depth) *
                                                                     (zero - shift_of_a(a_type_)));
              auto* c = static_cast<std::int32_t*>(args.c) + m * args.c_stride;
              // Modulo 2^32: what comes out fits.
              for (std::int64_t n = 0; n < args.columns; ++n)
                c[n] = static_cast<std::int32_t>(static_cast<std::uint32_t>(c[n]) -
                                                 static_cast<std::uint32_t>(zeros_[n]) * rest);
            }
          });
  }

  Sizes sizes_;
  DType a_type_;
  ByteTiling tiling_;
  std::int64_t padded_;
  const std::int8_t* panels_ = nullptr;
  const std::int32_t* sums_ = nullptr;
  const std::int32_t* zeros_ = nullptr;  ///< less the shift of b; nullptr: all are 0
  ComputedScaling scaling_;
  std::optional<ByteFinishPlan> finish_;  ///< behind it; nullopt: the sums are the result
};

/// Less the shift of b, padded to whole vectors; empty if all are 0.
std::vector<std::int32_t> zeros_of_columns(const Problem& problem) {
  const Sizes sizes = sizes_of(problem.inputs[1]);
  const Tensor* points = problem.constants.size() > 3 ? problem.constants[3] : nullptr;
  std::vector<std::int32_t> zeros(static_cast<std::size_t>(padded_columns(sizes.columns)));
  for (std::int64_t n = 0; n < sizes.columns; ++n) {
    const std::int64_t i = points != nullptr && points->num_elements() > 1 ? n : 0;
    const std::int32_t given = points == nullptr ? 0 : byte_at(points->data(), points->dtype(), i);
    zeros[static_cast<std::size_t>(n)] = given - shift_of_b(problem.inputs[1].dtype);
  }
  if (std::all_of(zeros.begin(), zeros.end(), [](std::int32_t zero) { return zero == 0; })) zeros.clear();
  return zeros;
}

void candidates(const Problem& problem, std::vector<Candidate>& out) {
  const Epilogue& epilogue = product_of(problem.op).epilogue();
  Refusal refusal = refuses(epilogue, problem.inputs);
  if (!refusal && problem.constants[1] == nullptr) refusal = "b is computed";
  const bool has_zeros = problem.inputs.size() > 3 && problem.inputs[3].dtype != DType::undefined;
  if (!refusal && has_zeros && problem.constants[3] == nullptr) refusal = "the zero points of b are computed";
  if (!refusal && is_finished(epilogue) && !zeros_of_columns(problem).empty())
    refusal = "the zero points of b are not in the middle of its range, and the sums become floats";
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const Sizes sizes = sizes_of(problem.inputs[1]);
  const std::int64_t vectors = padded_columns(sizes.columns) / vector_floats(tier());
  const double products =
      static_cast<double>(num_elements(problem.output_shapes[0])) * static_cast<double>(sizes.depth);
  double rank = 1;
  for (const int wide : {4, 3, 2, 1}) {
    if (wide > vectors) continue;
    for (const std::int64_t row_block : {96, 384}) {
      const std::int64_t rows = TENFOLD_FOR_TIER(kByteKernels).max_tile_rows(wide);
      out.push_back(
          {.parameters = {rows, wide, row_block},
           .estimated_us = rank * estimate_us(products, static_cast<double>(sizes.depth * sizes.columns), 0.8)});
      rank += kRankStep;
    }
  }
}

PackedWeights pack(const Problem& problem, const Candidate& candidate) {
  const Sizes sizes = sizes_of(problem.inputs[1]);
  const Tensor& b = *problem.constants[1];
  const std::int32_t shift = shift_of_b(b.dtype());
  const auto value = [&](std::int64_t k, std::int64_t n) {
    return static_cast<std::int8_t>(byte_at(b.data(), b.dtype(), k * sizes.columns + n) - shift);
  };
  PackedWeights packed;
  packed.blobs.push_back(
      pack_byte_panels(sizes.depth, sizes.columns, static_cast<int>(candidate.parameters[1]), value));
  std::vector<std::int32_t> sums(static_cast<std::size_t>(padded_columns(sizes.columns)));
  for (std::int64_t k = 0; k < sizes.depth; ++k) {
    for (std::int64_t n = 0; n < sizes.columns; ++n) sums[static_cast<std::size_t>(n)] += value(k, n);
  }
  append(packed.blobs.emplace_back(), sums);
  append(packed.blobs.back(), zeros_of_columns(problem));
  packed.consumed_inputs = {1};
  if (problem.constants.size() > 3 && problem.constants[3] != nullptr) packed.consumed_inputs.push_back(3);
  return packed;
}

std::unique_ptr<Kernel> make(const KernelSpec& spec) {
  const Refusal refusal = refuses(product_of(spec.op).epilogue(), spec.inputs);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this MatMulInteger: {}", spec.tactic,
          refusal.value_or(""));
  return std::make_unique<MatMulIntegerKernel>(spec);
}

}  // namespace

const CpuTactic kMatMulIntegerPacked = {"integers.packed", "MatMulInteger", candidates, pack, make};

}  // namespace tenfold::cpu
