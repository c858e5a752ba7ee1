// Runs the candidates of one CUDA tactic on one node and holds them against the reference, which computes in double
// from the same (rounded) operands. Without a GPU every test that uses this is skipped, with the reason.
#pragma once

#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/cuda_tactic.hpp"
#include "unit/kernel_case.hpp"

namespace tenfold {

/// The device and one stream of it, or why there is none.
class TestDevice {
 public:
  static TestDevice& instance() {
    static TestDevice device;
    return device;
  }
  bool exists() const { return backend_ != nullptr; }
  const std::string& reason() const { return reason_; }
  const Backend& backend() const { return *backend_; }
  Stream& stream() { return *stream_; }

 private:
  TestDevice() {
    try {
      backend_ = cuda::make_cuda_backend(0);
      stream_ = backend_->make_stream({});
    } catch (const Error& error) {
      backend_.reset();
      reason_ = error.what();
    }
  }
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Stream> stream_;
  std::string reason_;
};

#define TENFOLD_NEEDS_GPU() \
  if (!TestDevice::instance().exists()) GTEST_SKIP() << "no GPU: " << TestDevice::instance().reason()

inline Tensor cast_tensor(const Tensor& from, DType dtype) {
  if (from.empty() || from.dtype() == dtype) return from;
  Tensor to(dtype, from.shape());
  const std::vector<double> values = from.to_double();
  dispatch(dtype, [&]<typename T>() {
    auto out = to.as_mutable<T>();
    for (std::size_t i = 0; i < out.size(); ++i) {
      if constexpr (std::is_integral_v<T>)
        out[i] = static_cast<T>(values[i]);
      else
        out[i] = static_cast<T>(static_cast<float>(values[i]));
    }
  });
  return to;
}

/// A case with its float32 operands and results in other types on the device.
struct DeviceCase {
  KernelCase reference;  ///< float32 everywhere, rounded to the device's types
  Problem problem;
  std::vector<Tensor> inputs;
};
/// `input_types`: one for each input, undefined for operands that are no floats.
inline std::shared_ptr<DeviceCase> device_case(KernelCase c, const std::vector<DType>& input_types, DType output_type) {
  auto result = std::make_shared<DeviceCase>();
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    Tensor& tensor = c.inputs[i];
    if (tensor.empty() || tensor.dtype() != DType::float32) {
      result->inputs.push_back(tensor);
      continue;
    }
    result->inputs.push_back(cast_tensor(tensor, input_types[i]));
    tensor = cast_tensor(result->inputs.back(), DType::float32);
  }
  result->reference = c;
  result->problem = prepare(c).problem;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    if (!result->inputs[i].empty()) result->problem.inputs[i] = result->inputs[i].type();
    if (result->problem.constants[i] != nullptr) result->problem.constants[i] = &result->inputs[i];
  }
  for (TensorType& type : result->problem.outputs) {
    if (type.dtype == DType::float32) type.dtype = output_type;
  }
  return result;
}

/// A kernel with its weights on the device.
struct DeviceKernel {
  PackedWeights packed;
  std::vector<std::unique_ptr<Buffer>> weights;
  std::unique_ptr<Kernel> kernel;
};
inline DeviceKernel make_device_kernel(const Problem& problem, const Candidate& candidate) {
  TestDevice& device = TestDevice::instance();
  DeviceKernel made;
  made.packed = device.backend().pack(problem, candidate);
  KernelSpec spec;
  spec.op = problem.op;
  spec.tactic = candidate.tactic;
  spec.parameters = candidate.parameters;
  spec.inputs = problem.inputs;
  spec.outputs = problem.outputs;
  for (const auto& blob : made.packed.blobs) {
    spec.weights.emplace_back(blob);
    made.weights.push_back(device.backend().allocate(blob.size()));
    device.backend().copy_to_device(made.weights.back()->data(), blob.data(), blob.size(), device.stream());
    spec.device_weights.push_back(made.weights.back()->data());
  }
  device.stream().synchronize();
  made.kernel = device.backend().make_kernel(spec);
  return made;
}

/// Device memory for a view, with poison before, between and behind its rows.
class DeviceOperand {
 public:
  DeviceOperand(DType dtype, Shape dims, std::int64_t extra_pitch)
      : dtype_(dtype), dims_(std::move(dims)), pitch_((dims_.empty() ? 1 : dims_.back()) + extra_pitch) {
    for (std::size_t i = 0; i + 1 < dims_.size(); ++i) rows_ *= dims_[i];
    host_.assign(2 * kGuard + static_cast<std::size_t>(rows_ * pitch_) * size_of(dtype_), kPoison);
    buffer_ = TestDevice::instance().backend().allocate(host_.size());
    upload();
  }
  TensorView view() { return {static_cast<std::byte*>(buffer_->data()) + kGuard, dtype_, dims_, pitch_}; }
  void fill_from(const Tensor& tensor) {
    for_each_row([&](std::byte* row, std::size_t bytes, std::size_t offset) {
      std::memcpy(row, tensor.data() + offset, bytes);
    });
    upload();
  }
  Tensor download() {
    TestDevice& device = TestDevice::instance();
    device.backend().copy_to_host(host_.data(), buffer_->data(), host_.size(), device.stream());
    device.stream().synchronize();
    Tensor tensor(dtype_, dims_);
    for_each_row([&](std::byte* row, std::size_t bytes, std::size_t offset) {
      std::memcpy(tensor.mutable_data() + offset, row, bytes);
    });
    return tensor;
  }
  /// After download(): are all bytes around the elements as they were?
  bool is_intact() {
    std::vector<std::byte> copy = host_;
    for_each_row([&](std::byte* row, std::size_t bytes, std::size_t) {
      std::fill_n(copy.begin() + (row - host_.data()), bytes, kPoison);
    });
    return std::all_of(copy.begin(), copy.end(), [](std::byte b) { return b == kPoison; });
  }

 private:
  static constexpr std::byte kPoison{0xff};  // NaN in every float type
  static constexpr std::size_t kGuard = 1024;

  void upload() {
    TestDevice& device = TestDevice::instance();
    device.backend().copy_to_device(buffer_->data(), host_.data(), host_.size(), device.stream());
    device.stream().synchronize();
  }
  template <typename F>
  void for_each_row(F&& f) {
    const std::size_t bytes = static_cast<std::size_t>(dims_.empty() ? 1 : dims_.back()) * size_of(dtype_);
    if (bytes == 0) return;
    for (std::int64_t r = 0; r < rows_; ++r) {
      f(host_.data() + kGuard + static_cast<std::size_t>(r * pitch_) * size_of(dtype_), bytes,
        static_cast<std::size_t>(r) * bytes);
    }
  }
  DType dtype_;
  Shape dims_;
  std::int64_t pitch_, rows_ = 1;
  std::vector<std::byte> host_;
  std::unique_ptr<Buffer> buffer_;
};

/// The first difference in words that exceeds `absolute` + `relative` * |wanted|, or "".
inline std::string device_difference(const Tensor& got, const Tensor& wanted, const Tolerance& tolerance) {
  return difference(cast_tensor(got, DType::float32), cast_tensor(wanted, DType::float32), tolerance);
}

using Offers = std::function<std::vector<Candidate>(const Problem&)>;
/// What another device would be offered, for kernels that run here too.
inline Offers offers_for(const std::string& preset) {
  return [preset](const Problem& problem) {
    return cuda::make_offline_backend(cuda::preset_traits(preset))->candidates(problem);
  };
}

/// Every candidate of `tactic`, once with contiguous operands and once with pitched ones where it accepts them: within
/// the tolerance of the reference, nothing written outside, the same bits when it runs again. `offers`: none for those
/// of the device.
inline int check_device_tactic(const KernelCase& c, const std::string& tactic, const Tolerance& tolerance,
                               const std::vector<DType>& input_types, DType output_type, const Offers& offers = {}) {
  TestDevice& device = TestDevice::instance();
  const auto test = device_case(c, input_types, output_type);
  const PreparedCase reference = prepare(test->reference);
  KernelSpec reference_spec;
  reference_spec.op = reference.problem.op;
  reference_spec.tactic = "reference";
  reference_spec.inputs = reference.problem.inputs;
  reference_spec.outputs = reference.problem.outputs;
  std::vector<Tensor> wanted = run_kernel(reference, *cpu_backend().make_kernel(reference_spec), {}, {});
  if (size_of(output_type) == 1) {
    const float low = output_type == DType::float8e4m3 ? -448.0F : output_type == DType::int8 ? -128.0F : 0.0F;
    const float high = output_type == DType::float8e4m3 ? 448.0F : low + 255;
    for (Tensor& tensor : wanted) {
      if (tensor.dtype() != DType::float32) continue;  // the reference has stored it so itself
      Tensor limited(DType::float32, tensor.shape());
      for (std::int64_t i = 0; i < tensor.num_elements(); ++i) {
        limited.as_mutable<float>()[static_cast<std::size_t>(i)] =
            std::clamp(tensor.as<float>()[static_cast<std::size_t>(i)], low, high);
      }
      tensor = limited;
    }
  }

  int ran = 0;
  for (const Candidate& candidate :
       offers ? offers(test->problem) : device.backend().candidates(test->problem)) {
    if (candidate.tactic != tactic) continue;
    if (!candidate.refusal.empty()) {
      ADD_FAILURE() << c.op << ": " << tactic << " refuses: " << candidate.refusal;
      continue;
    }
    ++ran;
    std::string what = c.op + c.attributes.to_string() + " by " + tactic + " with";
    for (const std::int64_t p : candidate.parameters) what += " " + std::to_string(p);
    DeviceKernel made = make_device_kernel(test->problem, candidate);
    std::vector<Tensor> first;
    for (const std::int64_t extra_pitch : {std::int64_t{0}, std::int64_t{0}, std::int64_t{8}, std::int64_t{3}}) {
      std::vector<std::unique_ptr<DeviceOperand>> operands;
      std::vector<TensorView> inputs, outputs;
      for (std::size_t i = 0; i < test->inputs.size(); ++i) {
        const Tensor& tensor = test->inputs[i];
        const bool is_consumed = std::find(made.packed.consumed_inputs.begin(), made.packed.consumed_inputs.end(),
                                           static_cast<int>(i)) != made.packed.consumed_inputs.end();
        if (tensor.empty() || is_consumed) {
          inputs.emplace_back();
          continue;
        }
        const std::int64_t pitch = (tensor.rank() > 0 ? tensor.shape().back() : 1) + extra_pitch;
        const bool pitched =
            made.kernel->accepts_pitched_input(static_cast<int>(i)) &&
            pitch * static_cast<std::int64_t>(size_of(tensor.dtype())) % made.kernel->pitched_input_alignment() == 0;
        operands.push_back(std::make_unique<DeviceOperand>(tensor.dtype(), tensor.shape(), pitched ? extra_pitch : 0));
        operands.back()->fill_from(tensor);
        inputs.push_back(operands.back()->view());
      }
      const std::size_t first_output = operands.size();
      for (std::size_t i = 0; i < test->problem.outputs.size(); ++i) {
        const bool pitched = made.kernel->accepts_pitched_output(static_cast<int>(i));
        operands.push_back(std::make_unique<DeviceOperand>(test->problem.outputs[i].dtype,
                                                           test->problem.output_shapes[i], pitched ? extra_pitch : 0));
        outputs.push_back(operands.back()->view());
      }
      const std::size_t workspace_bytes = made.kernel->workspace_bytes(inputs, outputs);
      DeviceOperand workspace(DType::uint8, {static_cast<std::int64_t>(workspace_bytes)}, 0);
      Launch launch;
      launch.inputs = inputs;
      launch.outputs = outputs;
      launch.workspace = {static_cast<std::byte*>(workspace.view().data), workspace_bytes};
      launch.stream = &device.stream();
      made.kernel->run(launch);
      device.stream().synchronize();
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        const Tensor got = operands[first_output + i]->download();
        EXPECT_TRUE(operands[first_output + i]->is_intact()) << "written around output " << i << ": " << what;
        EXPECT_EQ(device_difference(got, wanted[i], tolerance), "") << what << ", pitch +" << extra_pitch;
        if (first.size() <= i) first.push_back(got);
        EXPECT_TRUE(got.equals(first[i]))
            << "another result when it runs again, or with pitch +" << extra_pitch << ": " << what;
      }
      if (workspace_bytes > 0) {
        workspace.download();
        EXPECT_TRUE(workspace.is_intact()) << "written beyond the workspace: " << what;
      }
    }
  }
  EXPECT_GT(ran, 0) << c.op << ": no candidate of " << tactic;
  return ran;
}
/// All floats in one type.
inline int check_device_tactic(const KernelCase& c, const std::string& tactic, const Tolerance& tolerance,
                               DType dtype = DType::float16, const Offers& offers = {}) {
  return check_device_tactic(c, tactic, tolerance, std::vector<DType>(c.inputs.size(), dtype), dtype, offers);
}

}  // namespace tenfold
