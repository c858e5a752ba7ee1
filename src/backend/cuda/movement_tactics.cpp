// Operators that move elements without changing them (backend/movements.hpp), as strided copies.
#include "backend/cuda/strided_copy.hpp"
#include "backend/cuda/tactic_tools.hpp"
#include "backend/movements.hpp"

namespace tenfold::cuda {
namespace {

template <typename Movement>
class MovementKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (auto refusal = Movement::refuses(signature)) return refusal;
    if (std::is_same_v<Movement, SliceMovement> && !signature.op.attributes().has("starts")) {
      return "where it starts is computed";
    }
    if (std::is_same_v<Movement, TileMovement> && signature.inputs[0].rank() > kMaxRank / 2) {
      return fmt::format("rank {} is above {}", signature.inputs[0].rank(), kMaxRank / 2);  // two axes for each
    }
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    return strided_copy_source(size_of(spec.inputs[0].dtype));
  }
  MovementKernel(const KernelSpec& spec, const LoadedModule& module)
      : movement_(spec), copy_(size_of(spec.inputs[0].dtype), module) {}
  void run(const Launch& launch) const override {
    movement_.for_each_copy(
        launch.inputs, launch.outputs,
        [&](const CopyAxes& axes, const TensorView& in, std::int64_t from, const TensorView& out, std::int64_t to) {
          copy_.run(axes, element_at(in, from), element_at(out, to), cuda_stream(launch));
        });
  }
  bool accepts_pitched_input(int index) const override {
    return index == 0 || std::is_same_v<Movement, ConcatMovement>;
  }
  bool accepts_pitched_output(int) const override { return true; }

 private:
  Movement movement_;
  StridedCopy copy_;
};

template <typename Movement>
constexpr CudaTactic movement_tactic(std::string_view op_type) {
  return plain_tactic<MovementKernel<Movement>>("copy.strided", op_type);
}

}  // namespace

const CudaTactic kTransposeCopy = movement_tactic<TransposeMovement>("Transpose");
const CudaTactic kConcatCopy = movement_tactic<ConcatMovement>("Concat");
const CudaTactic kSplitCopy = movement_tactic<SplitMovement>("Split");
const CudaTactic kSliceCopy = movement_tactic<SliceMovement>("Slice");
const CudaTactic kExpandCopy = movement_tactic<ExpandMovement>("Expand");
const CudaTactic kTileCopy = movement_tactic<TileMovement>("Tile");
const CudaTactic kDepthToSpaceCopy = movement_tactic<BlockMovement>("DepthToSpace");
const CudaTactic kSpaceToDepthCopy = movement_tactic<BlockMovement>("SpaceToDepth");

}  // namespace tenfold::cuda
