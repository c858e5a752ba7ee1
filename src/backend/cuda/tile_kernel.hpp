// What the tiled products of MatMul and Conv share on the host: the schedules worth timing, packing, the launch.
#pragma once

#include <functional>
#include <vector>

#include "backend/cuda/cuda_tactic.hpp"
#include "backend/cuda/gemm_kernel.hpp"
#include "backend/cuda/tile_text.hpp"

namespace tenfold::cuda {

/// A product at the profile's optimum.
struct TileShape {
  std::int64_t m = 1, n = 1, k = 1;
  std::int64_t batches = 1;   ///< or groups
  double input_bytes = 0;     ///< of a (and a computed b) in memory
  int num_whole = 0;          ///< epilogue operands of the output's size
  RowSource rows = RowSource::matrix;
  ColumnSource columns = ColumnSource::packed;
  DType element = DType::float16;
  DType output = DType::float16;
  bool tf32 = false;
  int vector_bytes = 16;
};

/// The largest power of two up to 16 that divides every one of `bytes`.
int vector_bytes_of(std::initializer_list<std::int64_t> bytes);

/// Appends a candidate for each of the best schedules by a model of the device, or a refusal.
void offer_tiles(const TileShape& shape, const DeviceTraits& traits, std::vector<Candidate>& out);
/// float16, bfloat16, float32, 8-bit integers, results as the products of gemm_kernel.hpp. nullopt: fine.
std::optional<std::string> refuses_tile_elements(DType a, DType b, DType result);

/// Constant b: [groups][columns padded to a tile][k padded to slices], rows permuted by column_of, rounded to tf32 where
/// the schedule says so. `place(group, column, k)`: the element's place in `data`, -1 for a zero.
std::vector<std::byte> pack_tiles(
    const TileSchedule& schedule, std::int64_t groups, std::int64_t n, std::int64_t k, const std::byte* data,
    const std::function<std::int64_t(std::int64_t, std::int64_t, std::int64_t)>& place);
std::int64_t packed_tiles_bytes(const TileSchedule& schedule, std::int64_t groups, std::int64_t n, std::int64_t k);
std::int64_t padded_columns(const TileSchedule& schedule, std::int64_t n);
std::int64_t slices_of(const TileSchedule& schedule, std::int64_t k);

class TileLauncher {
 public:
  TileLauncher(const TileSchedule& schedule, EpilogueSpec epilogue, const LoadedModule& module);
  const TileSchedule& schedule() const { return schedule_; }
  const EpilogueSpec& epilogue() const { return epilogue_; }
  /// `arguments`: m and what an image needs are set; `operands`: all but `steps`. `n`: columns of a batch or group.
  void run(const Launch& launch, GemmArguments& arguments, TileOperands& operands, std::int64_t n, std::int64_t batches,
           int first_input) const;

 private:
  TileSchedule schedule_;
  EpilogueSpec epilogue_;
  Function function_;
};

}  // namespace tenfold::cuda
