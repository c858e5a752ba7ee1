// Reverses the first sequence_lens[b] elements along the time axis, for each b of the batch axis; the rest stays.
// Attributes: batch_axis, time_axis (0 and 1 in some order). Source: ONNX operator set 10, ReverseSequence.
#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

class ReverseSequence final : public Op {
 public:
  explicit ReverseSequence(bool time_first) : time_first_(time_first) {}
  std::string_view type() const override { return "ReverseSequence"; }
  Attributes attributes() const override {
    return {{"batch_axis", std::int64_t{time_first_ ? 1 : 0}}, {"time_axis", std::int64_t{time_first_ ? 0 : 1}}};
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 2, 2);
    check_num_outputs(context, 1, 1);
    check_types(context, 0, Types::any);
    check_dtype(context, 1, DType::int64, "sequence_lens");
    check_rank(context, 1, 1, "sequence_lens");
    const TensorType& x = context.input(0);
    require(x.rank() >= 2, Code::invalid_model, "the input needs rank 2 or more, got {}", to_string(x));
    check_dim(context.input(1).dims[0], x.dims[time_first_ ? 1 : 0], "the length of sequence_lens");
    context.set_output(0, x);
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    check_output(context, 0, x.dims);
    const std::vector<std::int64_t> lengths = read_integers(context.input(1));
    const std::int64_t times = x.dim(time_first_ ? 0 : 1);
    const std::int64_t batch = x.dim(time_first_ ? 1 : 0);
    require(static_cast<std::int64_t>(lengths.size()) == batch, Code::invalid_argument, "{} lengths for a batch of {}",
            lengths.size(), batch);
    const std::int64_t inner = product_of(x.dims, 2, x.dims.size());
    dispatch_bits(x.dtype, [&]<typename T>() {
      for (std::int64_t b = 0; b < batch; ++b) {
        const std::int64_t length = lengths[static_cast<std::size_t>(b)];
        require(0 <= length && length <= times, Code::invalid_argument, "sequence {} has length {} of {}", b, length,
                times);
        for (std::int64_t t = 0; t < times; ++t) {
          const std::int64_t from = t < length ? length - 1 - t : t;
          const auto offset = [&](std::int64_t time) {
            return (time_first_ ? time * batch + b : b * times + time) * inner;
          };
          std::copy_n(x.as<const T>() + offset(from), inner, context.output(0).as<T>() + offset(t));
        }
      }
    });
  }

 private:
  bool time_first_;
};

OpPtr make_reverse_sequence(const Attributes& attributes) {
  const std::int64_t batch = attributes.get_int("batch_axis", 1);
  const std::int64_t time = attributes.get_int("time_axis", 0);
  require((batch == 0 && time == 1) || (batch == 1 && time == 0), Code::invalid_model,
          "batch_axis and time_axis must be 0 and 1 in some order, got {} and {}", batch, time);
  return std::make_shared<const ReverseSequence>(time == 0);
}

}  // namespace

const OpDef kReverseSequenceDef{"ReverseSequence", make_reverse_sequence, import_plain};

}  // namespace tenfold
