// CheckedSqueeze: drops an axis whose size must turn out to be 1 when the network runs.
//
// An exporter writes "squeeze this axis if its size is 1" as an If whose branches differ in rank. Ranks are fixed here,
// so import takes the squeezed branch; if the size is another one after all, running it fails with a sentence instead
// of going on with a tensor that nothing behind it could read.
#include <cstring>

#include "ops/checks.hpp"
#include "ops/registry.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

class CheckedSqueeze final : public Op {
 public:
  explicit CheckedSqueeze(std::int64_t axis) : axis_(axis) {}
  std::string_view type() const override { return "CheckedSqueeze"; }
  Attributes attributes() const override { return {{"axis", axis_}}; }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    // A size known to be wrong is no mistake yet: this may stand in a branch that such sizes never take.
    TensorType type = context.input(0);
    type.dims.erase(type.dims.begin() + check_axis(axis_, type.rank()));
    context.set_output(0, std::move(type));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const int axis = check_axis(axis_, x.rank());
    require(
        x.dim(axis) == 1, Code::invalid_argument,
        "the model goes on without axis {} if its size is 1; with a size of {} it is not supported. Give the inputs "
        "the sizes that the model is made for",
        axis, x.dim(axis));
    const TensorView& y = context.output(0);
    ensure(y.num_elements() == x.num_elements(), "squeezing changes the number of elements");
    const std::size_t bytes = static_cast<std::size_t>(x.num_elements()) * size_of(x.dtype);
    if (bytes > 0) std::memcpy(y.data, x.data, bytes);
  }

 private:
  std::int64_t axis_;
};

OpPtr make_checked_squeeze(const Attributes& attributes) {
  return std::make_shared<const CheckedSqueeze>(attributes.get_int("axis"));
}

}  // namespace

const OpDef kCheckedSqueezeDef{"CheckedSqueeze", make_checked_squeeze, nullptr};

}  // namespace tenfold
