// The inputs of a run: from files, from literals, or random.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/tensor.hpp"
#include "session.hpp"
#include "shapes.hpp"
#include "tenfold/tenfold.hpp"

namespace tenfold::cli {

struct InputOptions {
  std::string npz;                    ///< --inputs
  std::vector<std::string> single;    ///< --input NAME=FILE.npy | NAME=NUMBER,...
  std::optional<std::uint64_t> seed;  ///< --random
};
void add_input_options(CLI::App& command, InputOptions& options);

/// Uniform numbers that depend on seed and name only: float in [-1, 1), integers 0 and 1, bool both.
Tensor random_tensor(DType dtype, const Shape& shape, std::uint64_t seed, std::string_view name);

/// One tensor per input, in order. `shapes` decides where neither a file nor the engine does; an input that is in
/// neither takes the optimum of `profile`. With no seed, an input that nothing gives is an Error(invalid_argument), and
/// so is an array with an unknown key, wrong dtype or a shape that the input cannot have.
std::vector<Tensor> gather_inputs(const std::vector<TensorInfo>& infos, const std::vector<ShapeRange>& profile,
                                  const NamedShapes& shapes, const InputOptions& options);

/// The shapes of the arrays in the files that the options name.
NamedShapes shapes_of_files(const InputOptions& options);

/// The first profile that accepts these shapes (by input; those not listed take their optimum); 0 if none does, so that
/// the error comes from where the shape is set.
int choose_profile(const Engine& engine, const NamedShapes& shapes);
/// Sets all inputs; the tensors must outlive the runs.
void bind_inputs(Context& context, const std::vector<TensorInfo>& infos, std::span<const Tensor> tensors);
/// "x: float32[batch, 3, 224, 224]"
std::string describe(const TensorInfo& info);
/// A copy of the output.
Tensor to_tensor(const OutputView& view);

}  // namespace tenfold::cli
