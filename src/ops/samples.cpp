#include "ops/samples.hpp"

#include "ops/checks.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

OpPtr make_samples(const Attributes&) { return std::make_shared<const Samples>(); }

}  // namespace

void Samples::infer(InferContext& context) const {
  const std::span<Graph> blocks = context.blocks();
  require(blocks.size() == 1, Code::invalid_model, "needs one block, got {}", blocks.size());
  Graph& block = blocks[0];
  const auto num_inputs = static_cast<std::size_t>(context.num_inputs());
  const auto num_outputs = static_cast<std::size_t>(context.num_outputs());
  require(num_inputs > 0 && block.inputs().size() == num_inputs && block.outputs().size() == num_outputs,
          Code::invalid_model, "{} inputs and {} outputs, but the block has {} and {}", num_inputs, num_outputs,
          block.inputs().size(), block.outputs().size());
  std::optional<Dim> num_samples;
  for (std::size_t i = 0; i < num_inputs; ++i) {
    require(context.has_input(static_cast<int>(i)), Code::invalid_model, "input {} is missing", i);
    TensorType type = context.input(static_cast<int>(i));
    require(type.rank() > 0, Code::invalid_model, "input {} has no axis for samples", i);
    if (num_samples) check_dim(type.dims[0], *num_samples, "the number of samples");
    if (!num_samples || type.dims[0].is_constant()) num_samples = type.dims[0];
    type.dims[0] = Dim(1);
    Value& value = block.value(block.inputs()[i]);
    value.type = std::move(type);
    value.integers.reset();
  }
  block.infer_types();
  for (std::size_t i = 0; i < num_outputs; ++i) {
    TensorType type = block.value(block.outputs()[i]).type;
    require(type.rank() > 0 && type.dims[0] == Dim(1), Code::invalid_model,
            "output {} of the block is {}, which is not one sample", i, to_string(type));
    type.dims[0] = *num_samples;
    context.set_output(static_cast<int>(i), std::move(type));
  }
}

void Samples::evaluate(EvalContext&) const {
  throw Error(Code::internal, "Samples holds a block, which only the interpreter and the runtime run");
}

const OpDef kSamplesDef{"Samples", make_samples, nullptr};

}  // namespace tenfold
