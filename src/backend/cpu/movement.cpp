// Operators that move elements without changing them (backend/movements.hpp), and Reshape, as strided copies.
#include "backend/cpu/strided_copy.hpp"
#include "backend/cpu/tactic_tools.hpp"
#include "backend/movements.hpp"

namespace tenfold::cpu {
namespace {

template <typename Movement>
class MovementKernel final : public Kernel {
 public:
  static double estimate_us(const Problem& problem) { return estimate_streaming_us(problem); }
  static Refusal refuses(const Signature& signature) { return Movement::refuses(signature); }
  explicit MovementKernel(const KernelSpec& spec) : movement_(spec) {}
  void run(const Launch& launch) const override {
    movement_.for_each_copy(
        launch.inputs, launch.outputs,
        [&](const CopyAxes& axes, const TensorView& in, std::int64_t from, const TensorView& out, std::int64_t to) {
          StridedCopy copy(size_of(in.dtype));
          for (std::size_t a = 0; a < static_cast<std::size_t>(axes.rank); ++a) {
            copy.add_axis(axes.dims[a], axes.from[a], axes.to[a]);
          }
          copy.run(element_at(in, from), element_at(out, to), pool_of(launch));
        });
  }
  bool accepts_pitched_input(int index) const override {
    return index == 0 || std::is_same_v<Movement, ConcatMovement>;
  }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  Movement movement_;
};

/// Reshape and the like: the same elements in the same order.
class ReshapeKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (!signature.has_input(0) || !signature.has_output(0)) return "operands are missing";
    return std::nullopt;
  }
  explicit ReshapeKernel(const KernelSpec&) {}
  void run(const Launch& launch) const override {
    const TensorView& in = launch.inputs[0];
    StridedCopy copy(size_of(in.dtype));
    copy.add_axis(in.num_elements(), 1, 1);
    copy.run(in.data, launch.outputs[0].data, pool_of(launch));
  }
};

template <typename Movement>
constexpr CpuTactic movement_tactic(std::string_view op_type) {
  return plain_tactic<MovementKernel<Movement>>("copy.strided", op_type);
}

}  // namespace

const CpuTactic kTransposeCopy = movement_tactic<TransposeMovement>("Transpose");
const CpuTactic kReshapeCopy = plain_tactic<ReshapeKernel>("copy.strided", "Reshape");
const CpuTactic kConcatCopy = movement_tactic<ConcatMovement>("Concat");
const CpuTactic kSplitCopy = movement_tactic<SplitMovement>("Split");
const CpuTactic kSliceCopy = movement_tactic<SliceMovement>("Slice");
const CpuTactic kExpandCopy = movement_tactic<ExpandMovement>("Expand");
const CpuTactic kTileCopy = movement_tactic<TileMovement>("Tile");
const CpuTactic kDepthToSpaceCopy = movement_tactic<BlockMovement>("DepthToSpace");
const CpuTactic kSpaceToDepthCopy = movement_tactic<BlockMovement>("SpaceToDepth");

}  // namespace tenfold::cpu
