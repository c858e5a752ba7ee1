// Runs one CUDA tactic on one node and holds it against the reference. Without a GPU the kernel is compiled, if NVRTC
// is here, and must keep its values in registers; without either the text is made and the test says so.
#pragma once

#include <set>

#include "backend/cuda/cubin.hpp"
#include "backend/cuda/cuda_backend.hpp"
#include "kernel_case.hpp"

namespace tenfold::cuda {

/// Device 0 where there is one; else nullptr, and why.
struct TestDevice {
  std::unique_ptr<Backend> backend;
  std::string reason;
  static const TestDevice& get() {
    static const TestDevice device = [] {
      TestDevice found;
      try {
        found.backend = make_cuda_backend(0);
      } catch (const Error& error) {
        found.reason = error.what();
      }
      return found;
    }();
    return device;
  }
};

/// Device memory with canaries around it and garbage inside.
class DeviceTensor {
 public:
  DeviceTensor(const Backend& backend, Stream& stream, DType dtype, Shape dims, std::int64_t extra_pitch)
      : backend_(backend), stream_(stream), dtype_(dtype), dims_(std::move(dims)) {
    pitch_ = (dims_.empty() ? 1 : dims_.back()) + extra_pitch;
    for (std::size_t i = 0; i + 1 < dims_.size(); ++i) rows_ *= dims_[i];
    bytes_.assign(2 * kGuard + static_cast<std::size_t>(rows_ * pitch_) * size_of(dtype_), kPoison);
    buffer_ = backend.allocate(bytes_.size());
    upload();
  }
  TensorView view() { return {static_cast<std::byte*>(buffer_->data()) + kGuard, dtype_, dims_, pitch_}; }
  void fill_from(const Tensor& tensor) {
    each_row([&](std::byte* row, std::size_t count, std::size_t offset) {
      std::copy_n(tensor.data() + offset, count, row);
    });
    upload();
  }
  /// Checks that nothing around the elements was written.
  Tensor to_tensor(const std::string& what) {
    backend_.copy_to_host(bytes_.data(), buffer_->data(), bytes_.size(), stream_);
    stream_.synchronize();
    Tensor tensor(dtype_, dims_);
    std::vector<std::byte> rest = bytes_;
    each_row([&](std::byte* row, std::size_t count, std::size_t offset) {
      std::copy_n(row, count, tensor.mutable_data() + offset);
      std::fill_n(rest.begin() + (row - bytes_.data()), count, kPoison);
    });
    EXPECT_TRUE(std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == kPoison; }))
        << "written around " << what;
    return tensor;
  }

 private:
  static constexpr std::byte kPoison{0xfe};
  static constexpr std::size_t kGuard = 1024;
  void upload() {
    backend_.copy_to_device(buffer_->data(), bytes_.data(), bytes_.size(), stream_);
    stream_.synchronize();
  }
  template <typename F>
  void each_row(F&& f) {
    const std::size_t row_bytes = static_cast<std::size_t>(dims_.empty() ? 1 : dims_.back()) * size_of(dtype_);
    if (row_bytes == 0) return;
    for (std::int64_t r = 0; r < rows_; ++r) {
      f(bytes_.data() + kGuard + static_cast<std::size_t>(r * pitch_) * size_of(dtype_), row_bytes,
        static_cast<std::size_t>(r) * row_bytes);
    }
  }
  const Backend& backend_;
  Stream& stream_;
  DType dtype_;
  Shape dims_;
  std::int64_t pitch_ = 1, rows_ = 1;
  std::vector<std::byte> bytes_;
  std::unique_ptr<Buffer> buffer_;
};

inline std::vector<Tensor> run_on_device(const Backend& backend, const PreparedCase& prepared, const Kernel& kernel,
                                         const std::vector<int>& consumed, const RunOptions& options) {
  const auto stream = backend.make_stream({});
  std::vector<std::unique_ptr<DeviceTensor>> inputs, outputs;
  std::vector<TensorView> input_views, output_views;
  std::vector<const void*> host_inputs;
  for (std::size_t i = 0; i < prepared.inputs.size(); ++i) {
    const Tensor& tensor = prepared.inputs[i];
    inputs.push_back(nullptr);
    input_views.emplace_back();
    host_inputs.push_back(prepared.problem.constants[i] != nullptr ? tensor.data() : nullptr);
    if (tensor.empty()) continue;
    const std::int64_t pitch = tensor.rank() > 0 ? tensor.shape().back() + options.input_pitch : 0;
    const bool pitched =
        tensor.rank() > 0 && kernel.accepts_pitched_input(static_cast<int>(i)) &&
        pitch * static_cast<std::int64_t>(size_of(tensor.dtype())) % kernel.pitched_input_alignment() == 0;
    inputs.back() = std::make_unique<DeviceTensor>(backend, *stream, tensor.dtype(), tensor.shape(),
                                                   pitched ? options.input_pitch : 0);
    inputs.back()->fill_from(tensor);
    input_views.back() = inputs.back()->view();
    if (std::find(consumed.begin(), consumed.end(), static_cast<int>(i)) != consumed.end())
      input_views.back().data = nullptr;
  }
  for (std::size_t i = 0; i < prepared.problem.outputs.size(); ++i) {
    const TensorType& type = prepared.problem.outputs[i];
    outputs.push_back(nullptr);
    if (prepared.problem.op->sets_output_shape()) {
      output_views.emplace_back();  // `resize` makes it
      continue;
    }
    if (options.in_place >= 0 && i == 0) {
      output_views.push_back(input_views[static_cast<std::size_t>(options.in_place)]);
      continue;
    }
    const bool pitched = type.rank() > 0 && kernel.accepts_pitched_output(static_cast<int>(i));
    outputs.back() = std::make_unique<DeviceTensor>(backend, *stream, type.dtype, prepared.problem.output_shapes[i],
                                                    pitched ? options.output_pitch : 0);
    output_views.push_back(outputs.back()->view());
  }
  const auto workspace_bytes = static_cast<std::int64_t>(kernel.workspace_bytes(input_views, output_views));
  DeviceTensor workspace(backend, *stream, DType::uint8, {workspace_bytes}, 0);
  Launch launch;
  launch.inputs = input_views;
  launch.outputs = output_views;
  launch.workspace = {static_cast<std::byte*>(workspace.view().data), static_cast<std::size_t>(workspace_bytes)};
  launch.stream = stream.get();
  launch.host_inputs = host_inputs;
  std::function<const TensorView&(int, const Shape&)> resize = [&](int index, const Shape& dims) -> const TensorView& {
    const auto i = static_cast<std::size_t>(index);
    outputs[i] = std::make_unique<DeviceTensor>(backend, *stream, prepared.problem.outputs[i].dtype, dims, 0);
    return output_views[i] = outputs[i]->view();
  };
  launch.resize = &resize;
  kernel.run(launch);
  stream->synchronize();
  workspace.to_tensor("the workspace");
  std::vector<Tensor> results;
  for (std::size_t i = 0; i < output_views.size(); ++i) {
    const bool in_place = options.in_place >= 0 && i == 0;
    auto& from = in_place ? inputs[static_cast<std::size_t>(options.in_place)] : outputs[i];
    results.push_back(from->to_tensor("output " + std::to_string(i)));
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr || static_cast<int>(i) == options.in_place) continue;
    EXPECT_TRUE(inputs[i]->to_tensor("input").equals(prepared.inputs[i])) << "input " << i << " was changed";
  }
  return results;
}

/// Why kernels cannot even be compiled here; "" if they can.
inline const std::string& why_no_compiler() {
  static const std::string reason = [] {
    try {
      compile_source({"extern \"C\" __global__ void nothing() {}\n", {"nothing"}}, 90);
      return std::string();
    } catch (const Error& error) {
      return std::string(error.what());
    }
  }();
  return reason;
}

/// Every candidate of `tactic` against the reference: also pitched and in place where the kernel allows it.
inline int check_cuda(const KernelCase& c, const std::string& tactic, const Tolerance& tolerance) {
  static const std::unique_ptr<Backend> offline = make_offline_backend(preset_traits("h100"));
  const TestDevice& device = TestDevice::get();
  const Backend& backend = device.backend ? *device.backend : *offline;
  const PreparedCase prepared = prepare(c);
  const Problem& problem = prepared.problem;
  const std::string name = c.op + c.attributes.to_string() + " by " + tactic;
  int ran = 0;
  std::vector<Tensor> wanted;
  for (const Candidate& candidate : backend.candidates(problem)) {
    if (candidate.tactic != tactic) continue;
    if (!candidate.refusal.empty()) {
      ADD_FAILURE() << name << " refuses: " << candidate.refusal;
      continue;
    }
    ++ran;
    const PackedWeights packed = backend.pack(problem, candidate);
    KernelSpec spec;
    spec.op = problem.op;
    spec.tactic = candidate.tactic;
    spec.parameters = candidate.parameters;
    spec.inputs = problem.inputs;
    spec.outputs = problem.outputs;
    for (const auto& blob : packed.blobs) spec.weights.emplace_back(blob);
    if (!device.backend) {
      const CudaTactic* entry = find_tactic(tactic, c.op);
      if (entry->source == nullptr) continue;
      const Source source = entry->source(spec, preset_traits("h100"));
      EXPECT_FALSE(source.text.empty());
      // One of each tactic and pair of types: more would take minutes, and a GPU compiles them all.
      static std::set<std::string> compiled;
      const std::string kind =
          fmt::format("{} {} {}", tactic, to_string(problem.inputs[0].dtype), to_string(problem.outputs[0].dtype));
      if (!why_no_compiler().empty() || !compiled.insert(kind).second) continue;
      try {
        const Cubin cubin = compile_source(source, 90);
        EXPECT_EQ(cubin.log.find("warning"), std::string::npos) << name << "\n" << cubin.log;
        for (std::size_t at = cubin.log.find("bytes spill stores"); at != std::string::npos;
             at = cubin.log.find("bytes spill stores", at + 1)) {
          EXPECT_EQ(cubin.log.substr(at - 3, 2), " 0") << name << "\n" << cubin.log;
        }
      } catch (const Error& error) {
        ADD_FAILURE() << name << ": " << error.what() << "\n" << source.text;
      }
      continue;
    }
    if (wanted.empty()) {
      KernelSpec reference{problem.op, "reference", {}, problem.inputs, problem.outputs, {}};
      wanted = run_kernel(prepared, *cpu_backend().make_kernel(reference), {}, {});
    }
    const auto stream = backend.make_stream({});
    std::vector<std::unique_ptr<Buffer>> weights;
    for (const auto& blob : packed.blobs) {
      weights.push_back(backend.allocate(blob.size()));
      backend.copy_to_device(weights.back()->data(), blob.data(), blob.size(), *stream);
      spec.device_weights.push_back(weights.back()->data());
    }
    stream->synchronize();
    const auto kernel = backend.make_kernel(spec);
    std::vector<RunOptions> variants = {
        {}, {.input_pitch = 8}, {.output_pitch = 8}, {.input_pitch = 3}, {.output_pitch = 5}};
    for (std::size_t i = 0; i < problem.inputs.size(); ++i) {
      if (problem.inputs[i].dtype != DType::undefined && problem.inputs[i] == problem.outputs[0] &&
          kernel->can_run_in_place(static_cast<int>(i)))
        variants.push_back({.in_place = static_cast<int>(i)});
    }
    for (const RunOptions& options : variants) {
      const auto got = run_on_device(backend, prepared, *kernel, packed.consumed_inputs, options);
      for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(difference(got[i], wanted[i], tolerance), "")
            << name << ", output " << i << ", input pitch +" << options.input_pitch << ", output pitch +"
            << options.output_pitch << ", in place " << options.in_place;
      }
    }
  }
  EXPECT_GT(ran, 0) << name << ": no candidate";
  return ran;
}

/// One rounding of the result's type, and what float arithmetic adds: a few units of 2^-24 at the magnitude of the
/// intermediate values (below 16), or for 16-bit results the special-function unit's 2^-11 of the result's scale.
inline Tolerance tolerance_of(DType dtype) {
  if (dtype == DType::float16) return {0x1p-10, 0x1p-10};
  if (dtype == DType::bfloat16) return {0x1p-8, 0x1p-7};
  if (dtype == DType::int8 || dtype == DType::uint8) return {1, 0};  // a tie may be decided either way
  return {64 * 0x1p-24, 16 * 0x1p-24};
}
inline Tensor numbers(DType dtype, const Shape& shape, std::uint32_t seed, double low = -2, double high = 2) {
  return random_tensor(dtype, shape, seed, low, high);
}
inline constexpr std::array kFloats = {DType::float32, DType::float16};
using Ints = std::vector<std::int64_t>;

/// Says what was not tried, if anything.
inline void note_what_is_missing() {
  if (TestDevice::get().backend) return;
  GTEST_SKIP() << "not run on a GPU (" << TestDevice::get().reason << "); "
               << (why_no_compiler().empty() ? "kernels compiled" : "kernels not compiled: " + why_no_compiler());
}

}  // namespace tenfold::cuda
