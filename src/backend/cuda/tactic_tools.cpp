#include "backend/cuda/tactic_tools.hpp"

namespace tenfold::cuda {

double estimate_streaming_us(const Problem& problem, const DeviceTraits& traits) {
  constexpr double kLaunchUs = 1.5, kBytesPerUsPerGbS = 1000, kReachable = 0.85;
  double bytes = 0;
  for (std::size_t i = 0; i < problem.input_shapes.size(); ++i) {
    if (problem.inputs[i].dtype == DType::undefined) continue;
    bytes += static_cast<double>(num_elements(problem.input_shapes[i])) *
             static_cast<double>(size_of(problem.inputs[i].dtype));
  }
  for (std::size_t i = 0; i < problem.output_shapes.size(); ++i) {
    if (problem.outputs[i].dtype == DType::undefined) continue;
    bytes += static_cast<double>(num_elements(problem.output_shapes[i])) *
             static_cast<double>(size_of(problem.outputs[i].dtype));
  }
  return kLaunchUs + bytes / (kReachable * traits.bandwidth_gb_s * kBytesPerUsPerGbS);
}

bool is_device_float(DType dtype) {
  return dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}

}  // namespace tenfold::cuda
