// What follows the accumulation of a matrix product or convolution, as device text: scale, bias, a pointwise program
// with operands of any broadcast, conversion, a store of neighbouring columns.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "backend/cuda/gemm_schedule.hpp"
#include "ops/pointwise.hpp"

namespace tenfold::cuda {

struct EpilogueSpec {
  enum class Kind : std::uint8_t {
    scalar,     ///< one number
    column,     ///< one number per column
    whole,      ///< of the output's shape
    broadcast,  ///< anything else: strides over up to three axes of rows
  };
  struct Operand {
    Kind kind = Kind::scalar;
    DType dtype = DType::float16;
    bool has_columns = false;  ///< broadcast: varies along the last axis
  };
  bool has_bias = false;
  bool gated = false;  ///< register 1 of the program is the result of another column; see GemmSchedule::gated
  PointwiseProgram program;
  std::vector<Operand> operands;  ///< the program's registers behind its own results

  /// The first whole operand of type `output`, which a schedule may stage; -1: none.
  int stageable(DType output) const;
  /// Whole and broadcast operands: what is read once per result.
  int num_whole() const;
};

/// `inputs[first_input ...]` are the operands of the program (which may be empty), `output` the result. nullopt and a
/// reason in `refusal` when the kernels cannot do it.
std::optional<EpilogueSpec> epilogue_spec(const PointwiseProgram& program, std::span<const TensorType> inputs,
                                          int first_input, const TensorType& output, std::string& refusal,
                                          bool gated = false);

/// Defines kUnit, Out, ChannelValues, RowValues, load_channels, load_rows, complete and finish; see the text's own
/// comments.
/// `unit`: neighbouring columns finished at a time. `is_staged`: the first stageable operand is read from shared
/// memory. Expects both preludes and kGemmArgumentsText before it.
std::string emit_epilogue(const EpilogueSpec& spec, DType output, int unit, bool is_staged);

/// Fills `arguments.operands` from the operands of a launch, and clears `arguments.aligned` when one of them does not
/// allow vectors. `output` is [rows axes..., columns].
void bind_operands(const EpilogueSpec& spec, std::span<const TensorView> inputs, int first_input,
                   const TensorView& output, GemmArguments& arguments);
/// Sets out, out_pitch, n and `aligned` for this output; before bind_operands.
void bind_output(const TensorView& output, int unit, GemmArguments& arguments);

}  // namespace tenfold::cuda
