// Checks that shape rules share: number, element type and sizes of the inputs. All throw Error(invalid_model).
#pragma once

#include <cstdint>
#include <string_view>

#include "graph/op.hpp"

namespace tenfold {

/// Are the two dimensions different whatever their symbols are? Unknown sizes are given the benefit of the doubt here
/// and checked when they are numbers.
bool surely_differ(const Dim& a, const Dim& b);

/// Between `least` and `most` inputs, and the first `least` of them are there.
void check_num_inputs(const InferContext& context, int least, int most);
/// Between `least` and `most` outputs.
void check_num_outputs(const InferContext& context, int least, int most);
/// float32, float64, float16 or bfloat16.
void check_float(const InferContext& context, int index, std::string_view what);
/// Input `index` has the same element type as input 0.
void check_same_dtype(const InferContext& context, int index, std::string_view what);
void check_dtype(const InferContext& context, int index, DType dtype, std::string_view what);
void check_rank(const InferContext& context, int index, int rank, std::string_view what);
/// Throws if `got` cannot be `expected`.
void check_dim(const Dim& got, const Dim& expected, std::string_view what);
/// The axis counted from the front; accepts -rank .. rank-1.
int check_axis(std::int64_t axis, int rank);
/// Throws if the dimension is a negative number: an operator was asked for an impossible size.
const Dim& check_not_negative(const Dim& dim, std::string_view what);

/// The dimensions that NumPy's broadcasting gives. Throws if two of them cannot go together.
std::vector<Dim> broadcast_dims(const std::vector<Dim>& a, const std::vector<Dim>& b);
/// Throws unless `from` broadcasts to exactly `to`.
void check_broadcasts_to(const std::vector<Dim>& from, const std::vector<Dim>& to, std::string_view what);

}  // namespace tenfold
