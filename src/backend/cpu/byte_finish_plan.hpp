// Epilogues of products of 8-bit integers: what runs in registers, and the numbers that it needs.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "backend/cpu/finish_plan.hpp"
#include "backend/cpu/kernels/byte_product.hpp"

namespace tenfold::cpu {

/// A program of the form that ByteFinish describes.
struct ByteForm {
  std::vector<double> scale, offset;  ///< one for each column, or one for all
  bool rounds_first = false;
  double first_low = 0, first_high = 0, factor = 1, shift = 0;
  int residual_input = 0;  ///< of the program; 0: none
  double residual_scale = 0;
  double low = 0, high = 0;
  double zero_point = 0;
  std::vector<int> constants;  ///< inputs of the program that are in scale and offset
};

/// Immutable; made once with the kernel, resolved for the shapes of each run.
class ByteFinishPlan {
 public:
  /// Why an epilogue cannot run at all. `first_input`: the node's first epilogue input.
  static std::optional<std::string> refuses(const Epilogue& epilogue, std::span<const TensorType> inputs,
                                            int first_input);
  /// The form of the epilogue of a node with these types, or nullopt: then the program runs on tiles. `constants`:
  /// those of the node's inputs; empty where they are packed already, and then the numbers of columns are made up.
  static std::optional<ByteForm> form_of(const Epilogue& epilogue, int first_input, std::span<const TensorType> inputs,
                                         const TensorType& output, std::span<const Tensor* const> constants);

  /// `form`: nullopt to run the program.
  ByteFinishPlan(const Epilogue& epilogue, int first_input, std::span<const TensorType> inputs,
                 std::optional<ByteForm> form);
  /// Fills all but scale, offset and `fits`, which it reads, for a result of shape `dims`. Never allocates.
  void resolve(const Launch& launch, std::span<const std::int64_t> dims, ByteFinish& finish) const;
  /// Do results, not limited yet, fit in 32 bits with these numbers of the columns, for sums of `depth` products?
  /// Without a form, or as floats: false.
  bool fits(std::span<const float> scale, std::span<const float> offset, std::int64_t depth) const;
  bool reads(int index) const;

 private:
  int first_input_;
  ByteResult result_;
  std::optional<ByteForm> form_;
  std::optional<FinishPlan> program_;
  std::vector<ByteResult> operand_types_;  ///< of the program's inputs from 1 on
};

/// What an epilogue begins with, done in registers although its numbers are computed, as those of networks quantised
/// dynamically are: sum * scale + offset + residual, the first two one number or one for each column. To the last bit
/// as the program that it was.
class ComputedScaling {
 public:
  /// `first_input`: the node's first epilogue input. The result must be float32, else all is left to the rest.
  ComputedScaling(const Epilogue& epilogue, int first_input, std::span<const TensorType> inputs,
                  const TensorType& output);
  /// None: all is left to the rest.
  explicit ComputedScaling(const Epilogue& epilogue) : rest_(epilogue) {}
  /// The epilogue of what comes out.
  const Epilogue& rest() const { return rest_; }
  /// Of numbers for so many columns; a multiple of the width of a vector.
  std::size_t workspace_bytes(std::int64_t padded) const;
  /// Fills scale, offset and residual, if they are there; ByteFinishPlan::resolve of the rest follows.
  void resolve(const Launch& launch, std::int64_t columns, std::int64_t padded, std::span<std::byte> workspace,
               ByteFinish& finish) const;
  /// It accepts any pitch there.
  bool reads(int index) const { return residual_ != 0 && index == first_input_ + residual_ - 1; }

 private:
  const TensorType& type_of(int operand, std::span<const TensorType> inputs) const;

  int first_input_ = 0;
  bool is_there_ = false;
  int scale_ = 0, offset_ = 0, residual_ = 0;  ///< inputs of the program; 0: none
  Epilogue rest_;
};

/// nullopt for other types than float32, uint8 and int8.
std::optional<ByteResult> byte_result(DType dtype);

}  // namespace tenfold::cpu
