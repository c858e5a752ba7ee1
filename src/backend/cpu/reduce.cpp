// Reduce*: folds over any set of axes. Neighbouring axes of a kind become one; what is left is
//   outer axes (kept or folded) x [length folded] x [columns kept]   or   outer axes x [rows kept] x [length folded].
// Each task owns its outputs, so results do not depend on the number of threads. Few outputs of long folds are cut into
// pieces of a fixed size whose results are folded in order.
//
// ArgMax and ArgMin: the same along one axis.
#include "backend/cpu/kernels/reduce.hpp"

#include <array>
#include <cmath>
#include <limits>

#include "backend/cpu/tactic_tools.hpp"

namespace tenfold::cpu {

namespace {

constexpr std::int64_t kColumnBlock = 64;
constexpr double kNsPerElement = 0.15;

enum class Finish : std::uint8_t { none, mean, sqrt, log, log_sum_exp };
struct Rule {
  std::string_view type;
  Fold fold;
  Finish finish;
};
constexpr std::array kRules = {
    Rule{"ReduceSum", Fold::sum, Finish::none},       Rule{"ReduceMean", Fold::sum, Finish::mean},
    Rule{"ReduceMax", Fold::max, Finish::none},       Rule{"ReduceMin", Fold::min, Finish::none},
    Rule{"ReduceProd", Fold::product, Finish::none},  Rule{"ReduceL1", Fold::sum_abs, Finish::none},
    Rule{"ReduceL2", Fold::sum_square, Finish::sqrt}, Rule{"ReduceSumSquare", Fold::sum_square, Finish::none},
    Rule{"ReduceLogSum", Fold::sum, Finish::log},     Rule{"ReduceLogSumExp", Fold::sum_exp, Finish::log_sum_exp},
};
const Rule* find_rule(std::string_view type) {
  for (const Rule& rule : kRules) {
    if (rule.type == type) return &rule;
  }
  return nullptr;
}

float start_of(Fold fold) {
  switch (fold) {
    case Fold::max:
      return -std::numeric_limits<float>::infinity();
    case Fold::min:
      return std::numeric_limits<float>::infinity();
    case Fold::product:
      return 1;
    default:
      return 0;
  }
}

/// The loops of one reduction.
struct Plan {
  struct Axis {
    std::int64_t size, in, out;  ///< out 0: folded
  };
  std::array<Axis, kMaxRank> outer;
  int num_outer = 0;
  std::int64_t rows = 1, row_stride = 0;  ///< kept, before a folded innermost axis
  std::int64_t length = 1, length_stride = 1;
  std::int64_t cols = 1;  ///< kept and innermost; 1 when the innermost axis is folded
  std::int64_t num_outputs = 1, num_folded = 1;
  bool is_columns = false;
  std::int64_t pieces = 1;  ///< of `length`

  static constexpr std::int64_t kShortestPiece = 96;  ///< lines, of columns
  std::int64_t piece_length() const { return (length + pieces - 1) / pieces; }
};

Plan make_plan(const TensorView& x, const std::array<bool, kMaxRank>& folded) {
  struct Run {
    std::int64_t size, stride;
    bool is_folded;
  };
  // Backwards: runs[0] is the innermost.
  std::array<Run, kMaxRank> runs;
  int count = 0;
  std::int64_t stride = 1;
  Plan plan;
  for (int a = x.rank() - 1; a >= 0; --a) {
    const std::int64_t size = x.dims[static_cast<std::size_t>(a)];
    const bool is_folded = folded[static_cast<std::size_t>(a)];
    (is_folded ? plan.num_folded : plan.num_outputs) *= size;
    const std::int64_t own = stride;
    stride = a == x.rank() - 1 ? x.pitch : stride * size;
    if (size == 1) continue;
    if (count > 0) {
      Run& inner = runs[static_cast<std::size_t>(count - 1)];
      if (inner.is_folded == is_folded && own == inner.stride * inner.size) {
        inner.size *= size;
        continue;
      }
    }
    runs[static_cast<std::size_t>(count++)] = {size, own, is_folded};
  }
  int next = 0;
  std::int64_t out_stride = 1;
  // A pitched row of one element may leave an innermost stride other than 1: then columns of 1 are read one by one.
  plan.is_columns = count > 0 && (!runs[0].is_folded || runs[0].stride != 1);
  if (plan.is_columns && !runs[0].is_folded && runs[0].stride == 1) {
    plan.cols = runs[0].size;
    out_stride = plan.cols;
    ++next;
  }
  if (next < count && runs[static_cast<std::size_t>(next)].is_folded) {
    plan.length = runs[static_cast<std::size_t>(next)].size;
    plan.length_stride = runs[static_cast<std::size_t>(next)].stride;
    ++next;
    if (!plan.is_columns && next < count && !runs[static_cast<std::size_t>(next)].is_folded) {
      plan.rows = runs[static_cast<std::size_t>(next)].size;
      plan.row_stride = runs[static_cast<std::size_t>(next)].stride;
      out_stride = plan.rows;
      ++next;
    }
  }
  for (; next < count; ++next) {
    const Run& run = runs[static_cast<std::size_t>(next)];
    plan.outer[static_cast<std::size_t>(plan.num_outer++)] = {run.size, run.stride, run.is_folded ? 0 : out_stride};
    if (!run.is_folded) out_stride *= run.size;
  }
  if (plan.num_outer != 0) return plan;
  const std::int64_t elements = plan.length * plan.rows * plan.cols;
  // Pieces help when there are hardly any outputs and nothing else to share out.
  constexpr std::int64_t kPieceElements = 65536, kFewOutputs = 2 * kColumnBlock;
  if (plan.num_outputs < kFewOutputs) plan.pieces = std::max<std::int64_t>(1, elements / kPieceElements);
  // An image whose pixels are averaged comes from threads that made some lines each, and lies in their caches.
  constexpr std::int64_t kManyElements = 32768, kMostPieces = 4;
  if (plan.is_columns && elements >= kManyElements)
    plan.pieces = std::max(plan.pieces, std::min(kMostPieces, plan.length / Plan::kShortestPiece));
  return plan;
}

class ReduceKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (find_rule(signature.op.type()) == nullptr) return "the fold is unknown";
    if (auto refusal = signature.refuses_dtype(0, "the input")) return refusal;
    if (signature.has_input(1)) return "the axes are an input";
    const int rank = signature.inputs[0].rank();
    if (rank > kMaxRank) return fmt::format("rank {} is above {}", rank, kMaxRank);
    for (const std::int64_t axis : signature.op.attributes().get_ints("axes", {})) {
      if (!normalized_axis(axis, rank)) return fmt::format("axis {} is outside rank {}", axis, rank);
    }
    return std::nullopt;
  }
  explicit ReduceKernel(const KernelSpec& spec)
      : rule_(*find_rule(spec.op->type())), kernels_(TENFOLD_FOR_TIER(kReduceKernels)) {
    const Attributes attributes = spec.op->attributes();
    const std::vector<std::int64_t> axes = attributes.get_ints("axes", {});
    const int rank = spec.inputs[0].rank();
    for (const std::int64_t axis : axes) folded_[static_cast<std::size_t>(*normalized_axis(axis, rank))] = true;
    if (axes.empty()) folded_.fill(true);
  }
  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView> outputs) const override {
    // A piece of few outputs has 2^16 elements for fewer than 2^7 of them, others have so many lines; a bound that grows
    // with every dimension.
    std::int64_t floats = inputs[0].num_elements() / Plan::kShortestPiece;
    if (rule_.finish == Finish::log_sum_exp) floats += outputs[0].num_elements();
    return sizeof(float) * static_cast<std::size_t>(floats);
  }
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    auto* out = launch.outputs[0].as<float>();
    const Plan plan = make_plan(x, folded_);
    if (plan.num_outputs == 0) return;
    ThreadPool& pool = pool_of(launch);
    auto* pieces = reinterpret_cast<float*>(launch.workspace.data());
    if (rule_.finish == Finish::log_sum_exp) {
      // log sum e^x = m + log sum e^(x - m), m the maximum. Where that is infinite, it is the answer.
      float* offset = pieces + (plan.pieces > 1 ? plan.pieces * plan.num_outputs : 0);
      fold(plan, Fold::max, x, offset, nullptr, pieces, pool);
      fold(plan, Fold::sum_exp, x, out, offset, pieces, pool);
      for (std::int64_t i = 0; i < plan.num_outputs; ++i) {
        out[i] = std::isinf(offset[i]) ? offset[i] : offset[i] + std::log(out[i]);
      }
      return;
    }
    fold(plan, rule_.fold, x, out, nullptr, pieces, pool);
    finish(plan, out);
  }
  bool accepts_pitched_input(int index) const override { return index == 0; }

 private:
  void fold(const Plan& plan, Fold fold, const TensorView& x, float* out, const float* offset, float* pieces,
            ThreadPool& pool) const {
    const float start = start_of(fold);
    float* target = plan.pieces > 1 ? pieces : out;
    std::fill_n(target, plan.pieces * plan.num_outputs, start);
    if (plan.num_folded == 0) return;
    // A task: one combination of kept outer indices, one piece, and one block of columns or rows.
    std::int64_t kept = 1, folded_outer = 1;
    for (int i = 0; i < plan.num_outer; ++i) {
      const Plan::Axis& axis = plan.outer[static_cast<std::size_t>(i)];
      (axis.out == 0 ? folded_outer : kept) *= axis.size;
    }
    const std::int64_t width = plan.is_columns ? plan.cols : plan.rows;
    const std::int64_t row_block = std::max<std::int64_t>(1, 4096 / plan.length);
    const std::int64_t block = plan.is_columns ? std::min(kColumnBlock, width) : std::min(row_block, width);
    const std::int64_t blocks = (width + block - 1) / block;
    const std::int64_t piece_length = plan.piece_length();
    const auto* in = x.as<const float>();
    split(pool, kept * plan.pieces * blocks,
          kNsPerElement * static_cast<double>(block * piece_length * folded_outer) * (fold == Fold::sum_exp ? 5 : 1),
          [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t task = begin; task < end; ++task) {
              const std::int64_t first = task % blocks * block, count = std::min(block, width - first);
              const std::int64_t piece = task / blocks % plan.pieces;
              const std::int64_t from = piece * piece_length;
              const std::int64_t length = std::min(piece_length, plan.length - from);
              if (length <= 0) continue;
              std::int64_t in_offset = from * plan.length_stride, out_offset = first;
              std::int64_t rest = task / blocks / plan.pieces;
              for (int i = 0; i < plan.num_outer; ++i) {
                const Plan::Axis& axis = plan.outer[static_cast<std::size_t>(i)];
                if (axis.out == 0) continue;
                in_offset += rest % axis.size * axis.in;
                out_offset += rest % axis.size * axis.out;
                rest /= axis.size;
              }
              float* acc = target + piece * plan.num_outputs + out_offset;
              const float* shift = offset == nullptr ? nullptr : offset + out_offset;
              for (std::int64_t o = 0; o < folded_outer; ++o) {
                std::int64_t at = in_offset, left = o;
                for (int i = 0; i < plan.num_outer; ++i) {
                  const Plan::Axis& axis = plan.outer[static_cast<std::size_t>(i)];
                  if (axis.out != 0) continue;
                  at += left % axis.size * axis.in;
                  left /= axis.size;
                }
                if (plan.is_columns) {
                  kernels_.columns(fold, in + at + first, length, plan.length_stride, count, acc, shift);
                } else {
                  kernels_.rows(fold, in + at + first * plan.row_stride, plan.row_stride, count, length, acc, shift);
                }
              }
            }
          });
    if (plan.pieces == 1) return;
    // The pieces' results are one matrix [pieces, outputs], already transformed: plain sums, maxima or products.
    std::fill_n(out, plan.num_outputs, start);
    const Fold joining = fold == Fold::sum_abs || fold == Fold::sum_square || fold == Fold::sum_exp ? Fold::sum : fold;
    kernels_.columns(joining, pieces, plan.pieces, plan.num_outputs, plan.num_outputs, out, nullptr);
  }

  void finish(const Plan& plan, float* out) const {
    const auto count = static_cast<float>(plan.num_folded);
    for (std::int64_t i = 0; i < plan.num_outputs; ++i) {
      if (rule_.finish == Finish::mean) out[i] /= count;
      if (rule_.finish == Finish::sqrt) out[i] = std::sqrt(out[i]);
      if (rule_.finish == Finish::log) out[i] = std::log(out[i]);
    }
  }

  Rule rule_;
  std::array<bool, kMaxRank> folded_{};
  const ReduceKernels& kernels_;
};

class ArgKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (auto refusal = signature.refuses_dtype(0, "the input")) return refusal;
    if (!axis_of(signature)) return "no such axis";
    return std::nullopt;
  }
  explicit ArgKernel(const KernelSpec& spec)
      : axis_(static_cast<std::size_t>(*axis_of({*spec.op, spec.inputs, spec.outputs}))),
        largest_(spec.op->type() == "ArgMax"),
        last_(spec.op->attributes().get_int("select_last_index", 0) != 0),
        kernels_(TENFOLD_FOR_TIER(kReduceKernels)) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    auto* out = launch.outputs[0].as<std::int64_t>();
    if (launch.outputs[0].num_elements() == 0 || x.num_elements() == 0) return;
    const auto* in = x.as<const float>();
    const std::int64_t length = x.dims[axis_], inner = product_of_dims(x.dims, axis_ + 1, x.dims.size());
    const std::int64_t outer = product_of_dims(x.dims, 0, axis_);
    if (inner == 1) {
      split(pool_of(launch), outer, 2 * kNsPerElement * static_cast<double>(length),
            [&](std::int64_t begin, std::int64_t end) {
              kernels_.arg_rows(in + begin * length, length, end - begin, length, largest_, last_, out + begin);
            });
      return;
    }
    const std::int64_t blocks = (inner + kColumnBlock - 1) / kColumnBlock;
    split(pool_of(launch), outer * blocks,
          2 * kNsPerElement * static_cast<double>(length * std::min(kColumnBlock, inner)),
          [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t task = begin; task < end; ++task) {
              const std::int64_t o = task / blocks, c = task % blocks * kColumnBlock;
              kernels_.arg_columns(in + o * length * inner + c, length, inner, std::min(kColumnBlock, inner - c),
                                   largest_, last_, out + o * inner + c);
            }
          });
  }

 private:
  static std::optional<int> axis_of(const Signature& signature) {
    return normalized_axis(signature.op.attributes().get_int("axis", 0), signature.inputs[0].rank());
  }
  std::size_t axis_;
  bool largest_, last_;
  const ReduceKernels& kernels_;
};

}  // namespace

#define TENFOLD_REDUCE_TACTIC(op) const CpuTactic k##op = plain_tactic<ReduceKernel>("reduce.fold", #op);
TENFOLD_REDUCE_TACTIC(ReduceL1)
TENFOLD_REDUCE_TACTIC(ReduceL2)
TENFOLD_REDUCE_TACTIC(ReduceLogSum)
TENFOLD_REDUCE_TACTIC(ReduceLogSumExp)
TENFOLD_REDUCE_TACTIC(ReduceMax)
TENFOLD_REDUCE_TACTIC(ReduceMean)
TENFOLD_REDUCE_TACTIC(ReduceMin)
TENFOLD_REDUCE_TACTIC(ReduceProd)
TENFOLD_REDUCE_TACTIC(ReduceSum)
TENFOLD_REDUCE_TACTIC(ReduceSumSquare)
#undef TENFOLD_REDUCE_TACTIC
const CpuTactic kArgMax = plain_tactic<ArgKernel>("reduce.position", "ArgMax");
const CpuTactic kArgMin = plain_tactic<ArgKernel>("reduce.position", "ArgMin");

}  // namespace tenfold::cpu
