// Several operands walked together over the indices of one shape: what elementwise kernels and copies get as argument.
// The shapes are those of the launch, so one kernel serves every shape of a profile.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "backend/cuda/cuda_tactic.hpp"
#include "backend/movements.hpp"

namespace tenfold::cuda {

inline constexpr int kMaxNestOperands = 33;
/// Axes that may be described; at most kMaxRank must be left when those that go together are joined.
inline constexpr int kMaxNestAxes = 2 * kMaxRank;

/// As the kernels see it (`nest_prelude` declares the same). A kernel of n operands reads the first n of `operands`, so
/// the rest may have any contents.
struct LoopNest {
  struct Operand {
    void* data = nullptr;
    std::int64_t element_bytes = 0;
    std::int64_t strides[kMaxRank] = {};  ///< in elements; innermost: 1, or 0 where the operand repeats, or more
  };
  std::int64_t count = 1;      ///< indices to visit
  std::int32_t rank = 1;       ///< 1 or more
  std::uint32_t repeated = 0;  ///< bit k: operand k has stride 0 on the innermost axis
  std::uint32_t dims[kMaxRank] = {1};
  std::uint32_t magic[kMaxRank] = {1};  ///< n / dims[i] = (umulhi(n, magic[i]) + n) >> shift[i] for n < 2^31
  std::uint32_t shift[kMaxRank] = {};
  Operand operands[kMaxNestOperands];
};

/// One operand: where it begins, and for each axis of the nest how far its neighbour is (0: the element repeats).
struct NestOperand {
  void* data = nullptr;
  std::size_t element_bytes = 0;
  std::array<std::int64_t, kMaxNestAxes> strides{};
};
/// A view broadcast to `dims` (NumPy rules). The view's pitch is honoured.
NestOperand broadcast_operand(const TensorView& view, std::span<const std::int64_t> dims);

/// Axes of size 1 vanish and neighbours that every operand walks alike become one. `num_operands` at most
/// kMaxNestOperands; count 0 if a dim is 0.
LoopNest make_nest(std::span<const std::int64_t> dims, std::span<const NestOperand> operands);
/// Groups `vector` neighbouring elements, if every operand's innermost elements are neighbours or one and the same, all
/// vectors are aligned to their size (16 bytes at most), and the last operand does not repeat. False: nothing changed.
bool vectorise(LoopNest& nest, std::span<const NestOperand> operands, int vector);

/// Enqueues `function`, whose only argument is the nest, with `threads` threads a block and one index a thread. Nests
/// of 2^31 indices or more become several launches.
void launch_nest(CudaStream& stream, CUfunction function, const LoopNest& nest, int num_operands, int threads = 256);

/// Text: struct Nest<N> and void tf::offsets(const Nest<N>&, long long index, long long (&offset)[N]).
std::string_view nest_prelude();

}  // namespace tenfold::cuda
