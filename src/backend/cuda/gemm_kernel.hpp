// What the tensor-core products of MatMul and Conv share on the host: packing, checks and the launch.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/cuda/cuda_tactic.hpp"
#include "backend/cuda/epilogue_text.hpp"
#include "backend/cuda/gemm_candidates.hpp"
#include "backend/cuda/gemm_text.hpp"

namespace tenfold::cuda {

/// Constant b as the kernels want it: [columns padded to tile_n][loads * row_elements], rows permuted by column_of.
/// `n`: columns of the result.
/// `index_of(column, position, channel)` is the element's place in `data`.
std::vector<std::byte> pack_columns(
    const GemmSchedule& schedule, std::int64_t n, std::int64_t channels, std::int64_t positions, const std::byte* data,
    const std::function<std::int64_t(std::int64_t, std::int64_t, std::int64_t)>& index_of);
/// One float per column, padded with zeros like the columns.
std::vector<std::byte> pack_vector(const GemmSchedule& schedule, std::int64_t n, const Tensor* values);
std::int64_t packed_columns_bytes(const GemmSchedule& schedule, std::int64_t n, std::int64_t channels,
                                  std::int64_t positions);
std::int64_t padded_columns(const GemmSchedule& schedule, std::int64_t n);

/// Every tactic of this family needs sm_90 and types that tensor cores multiply. nullopt: fine.
std::optional<std::string> refuses_device(const DeviceTraits& traits);
std::optional<std::string> refuses_elements(DType a, DType b, DType result);
/// float32 keeps its digits unless the build permits tf32; sums of float8 keep theirs if the build is strict.
std::optional<std::string> refuses_digits(const Problem& problem);
/// To 11 bits, halves away from zero: what tensor cores take of a float32.
void round_to_tf32(std::span<std::byte> floats);
MapType map_type(DType dtype);
MapSwizzle swizzle_of(int row_bytes);
void offer_refusal(std::string reason, std::vector<Candidate>& out);

/// Appends a candidate for each ranked schedule.
void offer_schedules(const GemmShape& shape, const DeviceTraits& traits, std::vector<Candidate>& out);

/// Launches gemm_text's kernel. The owner fills what depends on its operands.
class GemmLauncher {
 public:
  GemmLauncher(const GemmSchedule& schedule, EpilogueSpec epilogue, const LoadedModule& module);
  const GemmSchedule& schedule() const { return schedule_; }
  const EpilogueSpec& epilogue() const { return epilogue_; }

  /// Of the packed b of [n][loads_k * row_elements].
  TensorMap packed_map(const void* weights, std::int64_t n, std::int64_t loads_k) const;
  /// Of a matrix [batches][rows][columns] with `pitch` elements from row to row, for loads of `box_rows` rows.
  TensorMap matrix_map(const void* data, std::int64_t batches, std::int64_t rows, std::int64_t columns,
                       std::int64_t pitch, int box_columns, int box_rows) const;
  /// `arguments`: m, batches and what an image needs are set; the rest is filled here. `output`: [rows ..., n].
  void run(const Launch& launch, GemmArguments& arguments, const TensorMap& a, const TensorMap& b, std::int64_t loads_k,
           std::span<const TensorView> inputs, int first_input, const TensorView& output) const;

 private:
  GemmSchedule schedule_;
  EpilogueSpec epilogue_;
  Function function_;
  int num_sms_;
};

}  // namespace tenfold::cuda
