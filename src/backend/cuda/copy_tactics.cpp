// Operators that only copy or convert elements.
#include "backend/cuda/cuda_tactic.hpp"

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

// --- Cast

/// "unsigned char" for uint8 and so on; 16-bit floats are stored as bits.
std::string_view cast_type(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "float";
    case DType::float64:
      return "double";
    case DType::float16:
      return "f16";
    case DType::bfloat16:
      return "bf16";
    case DType::int8:
      return "signed char";
    case DType::uint8:
      return "unsigned char";
    case DType::int16:
      return "short";
    case DType::uint16:
      return "unsigned short";
    case DType::int32:
      return "int";
    case DType::uint32:
      return "unsigned";
    case DType::int64:
      return "long long";
    case DType::uint64:
      return "unsigned long long";
    case DType::boolean:
      return "bool";
    case DType::undefined:
      break;
  }
  return "";
}

Source cast_source(const KernelSpec& spec, const DeviceTraits& /*traits*/) {
  check_no_parameters(spec);
  Source source;
  source.entries = {"cast"};
  source.text = fmt::format(R"({prelude}
// One element a thread and turn: neighbours read and write neighbouring elements.
extern "C" __global__ void __launch_bounds__(256) cast(const {from}* __restrict__ from, {to}* __restrict__ to,
                                                       long long count) {{
  for (long long i = blockIdx.x * 256LL + threadIdx.x; i < count; i += gridDim.x * 256LL) to[i] = convert<{to}>(from[i]);
}}
)",
                            fmt::arg("prelude", kernel_prelude()), fmt::arg("from", cast_type(spec.inputs[0].dtype)),
                            fmt::arg("to", cast_type(spec.outputs[0].dtype)));
  return source;
}

class CastKernel final : public Kernel {
 public:
  explicit CastKernel(const LoadedModule& module) : function_(module.function("cast")), num_sms_(module.traits().num_sms) {}
  void run(const Launch& launch) const override {
    constexpr std::int64_t kThreads = 256, kBlocksPerSm = 8;
    const std::int64_t count = launch.outputs[0].num_elements();
    const std::int64_t blocks = std::min((count + kThreads - 1) / kThreads, kBlocksPerSm * num_sms_);
    LaunchConfig config;
    config.function = function_;
    config.grid.x = static_cast<unsigned>(blocks);
    config.block.x = kThreads;
    cuda_stream(launch).launch(config, launch.inputs[0].data, launch.outputs[0].data, static_cast<long long>(count));
  }

 private:
  Function function_;
  std::int64_t num_sms_;
};

void offer(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  Candidate candidate;
  candidate.estimated_us = estimate_us(problem, traits);
  out.push_back(std::move(candidate));
}

}  // namespace

const CudaTactic kReshapeCopy = {"reshape.copy", "Reshape", offer, nullptr, nullptr,
                                 [](const KernelSpec& spec, const LoadedModule&) -> std::unique_ptr<Kernel> {
                                   check_no_parameters(spec);
                                   require(spec.inputs[0].dtype == spec.outputs[0].dtype, Code::incompatible_engine,
                                           "tactic '{}' cannot change the element type", spec.tactic);
                                   return std::make_unique<CopyKernel>();
                                 }};
const CudaTactic kCastElements = {"cast.elements", "Cast", offer, nullptr, cast_source,
                                  [](const KernelSpec& spec, const LoadedModule& module) -> std::unique_ptr<Kernel> {
                                    check_no_parameters(spec);
                                    return std::make_unique<CastKernel>(module);
                                  }};

}  // namespace tenfold::cuda
