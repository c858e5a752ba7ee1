#include "ops/checks.hpp"

#include <algorithm>

namespace tenfold {

bool surely_differ(const Dim& a, const Dim& b) {
  if (a == b) return false;
  const Dim difference = a - b;
  return difference.is_constant();
}

void check_num_inputs(const InferContext& context, int least, int most) {
  const int count = context.num_inputs();
  require(count <= most, Code::invalid_model, "takes at most {} inputs, got {}", most, count);
  for (int i = 0; i < least; ++i) {
    require(context.has_input(i), Code::invalid_model, "input {} is missing; at least {} are needed", i, least);
  }
}

void check_num_outputs(const InferContext& context, int least, int most) {
  const int count = context.num_outputs();
  require(least <= count && count <= most, Code::invalid_model, "has {} to {} outputs, got {}", least, most, count);
}

void check_float(const InferContext& context, int index, std::string_view what) {
  const DType dtype = context.input(index).dtype;
  require(is_float(dtype), Code::invalid_model, "{} must be of a floating-point type, got {}", what, to_string(dtype));
}

void check_same_dtype(const InferContext& context, int index, std::string_view what) {
  check_dtype(context, index, context.input(0).dtype, what);
}

void check_dtype(const InferContext& context, int index, DType dtype, std::string_view what) {
  const DType got = context.input(index).dtype;
  require(got == dtype, Code::invalid_model, "{} must be {}, got {}", what, to_string(dtype), to_string(got));
}

void check_rank(const InferContext& context, int index, int rank, std::string_view what) {
  const int got = context.input(index).rank();
  require(got == rank, Code::invalid_model, "{} must have rank {}, got {}", what, rank,
          to_string(context.input(index)));
}

void check_dim(const Dim& got, const Dim& expected, std::string_view what) {
  require(!surely_differ(got, expected), Code::invalid_model, "{} must be {}, got {}", what, expected.to_string(),
          got.to_string());
}

int check_axis(std::int64_t axis, int rank) {
  require(-rank <= axis && axis < rank, Code::invalid_model, "axis {} is outside the input's rank {}", axis, rank);
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

const Dim& check_not_negative(const Dim& dim, std::string_view what) {
  require(!dim.is_constant() || dim.constant() >= 0, Code::invalid_model, "{} comes out as {}, which is negative", what,
          dim.to_string());
  return dim;
}

std::vector<Dim> broadcast_dims(const std::vector<Dim>& a, const std::vector<Dim>& b) {
  const std::size_t rank = std::max(a.size(), b.size());
  std::vector<Dim> result(rank, Dim(1));
  for (std::size_t i = 0; i < rank; ++i) {
    const Dim left = i < a.size() ? a[a.size() - 1 - i] : Dim(1);
    const Dim right = i < b.size() ? b[b.size() - 1 - i] : Dim(1);
    Dim& out = result[rank - 1 - i];
    const auto is_one = [](const Dim& d) { return d.is_constant() && d.constant() == 1; };
    if (left == right || is_one(right)) {
      out = left;
    } else if (is_one(left)) {
      out = right;
    } else if (left.is_constant() && right.is_constant()) {
      throw Error(Code::invalid_model, fmt::format("shapes {} and {} do not broadcast: {} against {} at axis {} from "
                                                   "the end",
                                                   to_string(a), to_string(b), left.constant(), right.constant(), i));
    } else if (left.is_constant()) {
      out = left;  // the other one can only be this number, or 1
    } else if (right.is_constant()) {
      out = right;
    } else {
      out = Dim::max(left, right);  // either they are equal or one of them is 1
    }
  }
  return result;
}

void check_broadcasts_to(const std::vector<Dim>& from, const std::vector<Dim>& to, std::string_view what) {
  bool fits = from.size() <= to.size();
  for (std::size_t i = 0; fits && i < from.size(); ++i) {
    const Dim& have = from[from.size() - 1 - i];
    fits = !surely_differ(have, to[to.size() - 1 - i]) || !surely_differ(have, Dim(1));
  }
  require(fits, Code::invalid_model, "{} of shape {} does not broadcast to {}", what, to_string(from), to_string(to));
}

}  // namespace tenfold
