#include "backend/cpu/tactic_tools.hpp"

namespace tenfold::cpu {

double estimate_streaming_us(const Problem& problem) {
  double bytes = 0;
  const auto count = [&bytes](const std::vector<TensorType>& types, const std::vector<Shape>& shapes) {
    for (std::size_t i = 0; i < types.size() && i < shapes.size(); ++i) {
      if (types[i].dtype == DType::undefined) continue;
      double elements = 1;
      for (const std::int64_t d : shapes[i]) elements *= static_cast<double>(d);
      bytes += elements * static_cast<double>(size_of(types[i].dtype));
    }
  };
  count(problem.inputs, problem.input_shapes);
  count(problem.outputs, problem.output_shapes);
  constexpr double kBytesPerUs = 10'000;
  return 0.3 + bytes / kBytesPerUs;
}

}  // namespace tenfold::cpu
