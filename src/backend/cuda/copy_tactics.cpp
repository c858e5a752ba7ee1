// Reshape and its like: copies, where they are no views. CheckedSqueeze, whose axis is looked at when it runs; BitCast.
#include "backend/cuda/tactic_tools.hpp"

namespace tenfold::cuda {
namespace {

double bytes_of(const Problem& problem) {
  double bytes = 0;
  for (std::size_t i = 0; i < problem.output_shapes.size(); ++i) {
    bytes += static_cast<double>(num_elements(problem.output_shapes[i])) *
             static_cast<double>(size_of(problem.outputs[i].dtype));
  }
  return bytes;
}
constexpr double kLaunchUs = 2;
double estimate_us(const Problem& problem, const DeviceTraits& traits) {
  constexpr double kBytesPerUsPerGbS = 1000;
  return kLaunchUs + 2 * bytes_of(problem) / (traits.bandwidth_gb_s * kBytesPerUsPerGbS);
}

void check_no_parameters(const KernelSpec& spec) {
  require(spec.parameters.empty() && spec.weights.empty(), Code::incompatible_engine,
          "tactic '{}' takes no parameters and no weights", spec.tactic);
  require(!spec.inputs.empty() && spec.outputs.size() == 1 && spec.inputs[0].dtype != DType::undefined &&
              spec.outputs[0].dtype != DType::undefined,
          Code::incompatible_engine, "tactic '{}' needs an input and one output", spec.tactic);
}

// --- Reshape: the same elements in the same order.

class CopyKernel final : public Kernel {
 public:
  void run(const Launch& launch) const override {
    const TensorView& to = launch.outputs[0];
    cuda_stream(launch).copy(to.data, launch.inputs[0].data,
                             static_cast<std::size_t>(to.num_elements()) * size_of(to.dtype));
  }
};

void offer(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  Candidate candidate;
  candidate.estimated_us = estimate_us(problem, traits);
  out.push_back(std::move(candidate));
}

std::unique_ptr<Kernel> make(const KernelSpec& spec, const LoadedModule&) {
  check_no_parameters(spec);
  require(spec.inputs[0].dtype == spec.outputs[0].dtype, Code::incompatible_engine,
          "tactic '{}' cannot change the element type", spec.tactic);
  return std::make_unique<CopyKernel>();
}

/// BitCast: the same bits under another type of the same size.
std::unique_ptr<Kernel> make_bits(const KernelSpec& spec, const LoadedModule&) {
  check_no_parameters(spec);
  require(size_of(spec.inputs[0].dtype) == size_of(spec.outputs[0].dtype), Code::incompatible_engine,
          "tactic '{}' cannot change the size of an element", spec.tactic);
  return std::make_unique<CopyKernel>();
}

/// CheckedSqueeze: the axis that goes must turn out to have one element.
class CheckedCopyKernel final : public Kernel {
 public:
  explicit CheckedCopyKernel(std::size_t axis) : axis_(axis) {}
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    require(
        x.dims[axis_] == 1, Code::invalid_argument,
        "the model goes on without axis {} if its size is 1; with a size of {} it is not supported. Give the inputs "
        "the sizes that the model is made for",
        axis_, x.dims[axis_]);
    cuda_stream(launch).copy(launch.outputs[0].data, x.data,
                             static_cast<std::size_t>(x.num_elements()) * size_of(x.dtype));
  }

 private:
  std::size_t axis_;
};

std::unique_ptr<Kernel> make_checked(const KernelSpec& spec, const LoadedModule&) {
  check_no_parameters(spec);
  const auto axis = normalized_axis(spec.op->attributes().get_int("axis"), spec.inputs[0].rank());
  require(axis && spec.inputs[0].dtype == spec.outputs[0].dtype, Code::incompatible_engine,
          "tactic '{}' does not fit its operands", spec.tactic);
  return std::make_unique<CheckedCopyKernel>(static_cast<std::size_t>(*axis));
}

}  // namespace

const CudaTactic kReshapeCopy = {"reshape.copy", "Reshape", offer, nullptr, nullptr, make};
const CudaTactic kSqueezeCopy = {"reshape.copy", "Squeeze", offer, nullptr, nullptr, make};
const CudaTactic kUnsqueezeCopy = {"reshape.copy", "Unsqueeze", offer, nullptr, nullptr, make};
const CudaTactic kCheckedSqueezeCopy = {"reshape.checked", "CheckedSqueeze", offer, nullptr, nullptr, make_checked};
const CudaTactic kBitCastCopy = {"reshape.bits", "BitCast", offer, nullptr, nullptr, make_bits};
const CudaTactic kFlattenCopy = {"reshape.copy", "Flatten", offer, nullptr, nullptr, make};

}  // namespace tenfold::cuda
