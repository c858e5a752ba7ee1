// Epilogues for kernels that produce a matrix of rows and channels: which part runs in registers, which on the tile.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "backend/cpu/kernels/gemm.hpp"
#include "backend/cpu/pointwise_jit.hpp"
#include "ops/pointwise.hpp"

namespace tenfold::cpu {

/// Immutable; made once with the kernel, resolved for the shapes of each run.
class FinishPlan {
 public:
  /// Why an epilogue cannot run this way; nullopt if it can.
  static std::optional<std::string> refuses(const Epilogue& epilogue);
  /// The same, for a node with these inputs, of which the epilogue's begin at `first_input`.
  static std::optional<std::string> refuses(const Epilogue& epilogue, std::span<const TensorType> inputs,
                                            int first_input);
  /// `first_input`: the node's first epilogue input. Throws Error(incompatible_engine) with the refusal above.
  /// `in_registers`: may parts of the program become bias, residual and activation?
  FinishPlan(const Epilogue& epilogue, int first_input, bool in_registers = true);

  /// Fills `args` for a result of shape `dims` (last axis: columns). `args.bias` may already be set.
  /// Never allocates.
  void resolve(const Launch& launch, std::span<const std::int64_t> dims, FinishArgs& args) const;
  /// The input of the result's type that is added in registers, before the result is stored, and then read no more, so
  /// that a kernel which stores every result once may store it there; -1: none. `has_bias`: the node has a bias of its
  /// own.
  int residual_input(std::span<const TensorType> inputs, const TensorType& output, bool has_bias) const;
  /// Does the epilogue read input `index` of the node? It accepts any pitch there.
  bool reads(int index) const { return first_input_ <= index && index < first_input_ + num_operands_; }

 private:
  /// The program without its first additions, which go to bias and residual.
  struct Stage {
    Activation activation;
    int slope_input = 0;                     ///< program input with the slopes of Activation::Kind::leaky; 0: none
    std::optional<LoadedPointwise> program;  ///< what to run instead, if it cannot be done in registers
    int added_input = 0;                     ///< program input that the addition before this stage adds
    std::vector<bool> reads;                 ///< by program input: does what is left of the program read it?
  };

  int first_input_;
  int num_operands_;
  std::vector<Stage> stages_;  ///< [i]: after i additions; never empty
};

}  // namespace tenfold::cpu
