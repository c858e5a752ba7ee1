// Runs one CPU tactic on one node and holds it against the reference: every promise that a kernel makes is tried.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backend/backend.hpp"
#include "backend/cpu/tier.hpp"
#include "graph/graph.hpp"
#include "ops/registry.hpp"

namespace tenfold {

struct KernelCase {
  std::string op;
  Attributes attributes;
  std::vector<Tensor> inputs;  ///< an empty tensor is an omitted input
  std::vector<bool> constant;  ///< per input; missing: computed at run time
  int num_outputs = 1;
  bool bf16 = false;  ///< may factors be rounded to bfloat16?
};

/// How far a kernel may be from the reference: |got - wanted| <= absolute + relative * |wanted|. NaN and infinity must
/// agree exactly.
struct Tolerance {
  double absolute = 0;
  double relative = 0;
};

/// Uniform in [low, high); integers and booleans are rounded down. Depends on `seed` only.
inline Tensor random_tensor(DType dtype, const Shape& shape, std::uint32_t seed, double low = -2, double high = 2) {
  Tensor tensor(dtype, shape);
  std::uint64_t state = seed * 0x9E3779B97F4A7C15ULL + 1;
  dispatch(dtype, [&]<typename T>() {
    for (T& value : tensor.as_mutable<T>()) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      const double x = low + (high - low) * static_cast<double>(state >> 40) * 0x1p-24;
      if constexpr (std::is_same_v<T, bool>) {
        value = std::floor(x) != 0;
      } else if constexpr (std::is_integral_v<T>) {
        value = static_cast<T>(std::floor(x));
      } else {
        value = static_cast<T>(static_cast<float>(x));
      }
    }
  });
  return tensor;
}

namespace kernel_case_detail {

/// Memory for a view with room around it: before, between and after the rows lie canaries that a kernel must not touch.
class GuardedBuffer {
 public:
  GuardedBuffer(DType dtype, Shape dims, std::int64_t extra_pitch) : dtype_(dtype), dims_(std::move(dims)) {
    pitch_ = (dims_.empty() ? 1 : dims_.back()) + extra_pitch;
    rows_ = 1;
    for (std::size_t i = 0; i + 1 < dims_.size(); ++i) rows_ *= dims_[i];
    const std::size_t bytes = static_cast<std::size_t>(rows_ * pitch_) * size_of(dtype_);
    bytes_.assign(kGuard + bytes + kGuard + 64, kPoison);
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data());
    start_ = kGuard + (64 - address % 64) % 64;
  }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  TensorView view() { return {bytes_.data() + start_, dtype_, dims_, dims_.empty() ? 1 : pitch_}; }
  void fill_from(const Tensor& tensor) {
    for_each_row([&](std::byte* row, std::size_t row_bytes, std::size_t offset) {
      if (row_bytes != 0) std::memcpy(row, tensor.data() + offset, row_bytes);
    });
  }
  Tensor to_tensor() {
    Tensor tensor(dtype_, dims_);
    for_each_row([&](std::byte* row, std::size_t row_bytes, std::size_t offset) {
      if (row_bytes != 0) std::memcpy(tensor.mutable_data() + offset, row, row_bytes);
    });
    return tensor;
  }
  /// Are all bytes outside of the elements as they were?
  bool is_intact() {
    std::vector<std::byte> copy = bytes_;
    for_each_row([&](std::byte* row, std::size_t row_bytes, std::size_t) {
      const auto at = static_cast<std::size_t>(row - bytes_.data());
      std::fill_n(copy.begin() + static_cast<std::ptrdiff_t>(at), row_bytes, kPoison);
    });
    return std::all_of(copy.begin(), copy.end(), [](std::byte b) { return b == kPoison; });
  }

 private:
  // As float this is about -3e38, as integer far from small: a result that used it would stand out.
  static constexpr std::byte kPoison{0xfe};
  static constexpr std::size_t kGuard = 256;

  template <typename F>
  void for_each_row(F&& f) {
    const std::size_t row_bytes = static_cast<std::size_t>(dims_.empty() ? 1 : dims_.back()) * size_of(dtype_);
    for (std::int64_t r = 0; r < rows_; ++r) {
      f(bytes_.data() + start_ + static_cast<std::size_t>(r * pitch_) * size_of(dtype_), row_bytes,
        static_cast<std::size_t>(r) * row_bytes);
    }
  }

  DType dtype_;
  Shape dims_;
  std::int64_t pitch_ = 1, rows_ = 1;
  std::vector<std::byte> bytes_;
  std::size_t start_ = 0;
};

inline std::vector<std::int64_t> dims_of(const TensorType& type) { return type.static_shape(); }

}  // namespace kernel_case_detail

/// The node of a case with its types, as the builder sees it.
struct PreparedCase {
  Problem problem;
  std::vector<Tensor> inputs;
};
inline PreparedCase prepare(const KernelCase& c) {
  Graph graph;
  std::vector<ValueId> ids;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const Tensor& tensor = c.inputs[i];
    if (tensor.empty()) {
      ids.push_back(kNoValue);
    } else if (i < c.constant.size() && c.constant[i]) {
      ids.push_back(graph.add_constant("c" + std::to_string(i), tensor));
    } else {
      ids.push_back(graph.add_input("x" + std::to_string(i), tensor.type()));
    }
  }
  const NodeId id = graph.add_node(make_op(c.op, c.attributes), ids, c.num_outputs, "node");
  graph.infer_types(id);
  const Node& node = graph.node(id);
  PreparedCase prepared;
  prepared.problem.op = node.op;
  prepared.inputs = c.inputs;
  prepared.problem.bf16 = c.bf16;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const Tensor& tensor = c.inputs[i];
    prepared.problem.inputs.push_back(tensor.empty() ? TensorType{} : tensor.type());
    prepared.problem.input_shapes.push_back(tensor.empty() ? Shape{} : tensor.shape());
    // The graph goes; the tensors stay where they are, also when the case moves.
    prepared.problem.constants.push_back(graph.constant(ids[i]) == nullptr ? nullptr : &prepared.inputs[i]);
  }
  for (const ValueId output : node.outputs) {
    prepared.problem.outputs.push_back(graph.value(output).type);
    const TensorType& type = prepared.problem.outputs.back();
    prepared.problem.output_shapes.push_back(type.is_static() ? type.static_shape() : Shape{});
  }
  return prepared;
}

struct RunOptions {
  int num_threads = 1;
  std::int64_t input_pitch = 0;  ///< elements added to each row of every input that may have a pitch
  std::int64_t output_pitch = 0;
  int in_place = -1;  ///< the input whose memory output 0 takes
};

/// Runs the kernel once, with canaries around every operand and garbage in the workspace.
inline std::vector<Tensor> run_kernel(const PreparedCase& prepared, const Kernel& kernel,
                                      const std::vector<int>& consumed, const RunOptions& options) {
  using kernel_case_detail::GuardedBuffer;
  const Problem& problem = prepared.problem;
  std::vector<std::unique_ptr<GuardedBuffer>> inputs, outputs;
  std::vector<TensorView> input_views, output_views;
  for (std::size_t i = 0; i < prepared.inputs.size(); ++i) {
    const Tensor& tensor = prepared.inputs[i];
    const bool is_consumed = std::find(consumed.begin(), consumed.end(), static_cast<int>(i)) != consumed.end();
    if (tensor.empty()) {
      inputs.push_back(nullptr);
      input_views.emplace_back();
      continue;
    }
    const bool pitched = tensor.rank() > 0 && kernel.accepts_pitched_input(static_cast<int>(i));
    inputs.push_back(
        std::make_unique<GuardedBuffer>(tensor.dtype(), tensor.shape(), pitched ? options.input_pitch : 0));
    inputs.back()->fill_from(tensor);
    input_views.push_back(inputs.back()->view());
    if (is_consumed) input_views.back().data = nullptr;
  }
  for (std::size_t i = 0; i < problem.outputs.size(); ++i) {
    const TensorType& type = problem.outputs[i];
    if (options.in_place >= 0 && i == 0) {
      outputs.push_back(nullptr);
      output_views.push_back(input_views[static_cast<std::size_t>(options.in_place)]);
      continue;
    }
    const bool pitched = type.rank() > 0 && kernel.accepts_pitched_output(static_cast<int>(i));
    // A size that the kernel itself decides starts as 0.
    Shape dims;
    for (const Dim& dim : type.dims) dims.push_back(dim.is_constant() ? dim.constant() : 0);
    outputs.push_back(std::make_unique<GuardedBuffer>(type.dtype, dims, pitched ? options.output_pitch : 0));
    output_views.push_back(outputs.back()->view());
  }
  const std::size_t workspace_bytes = kernel.workspace_bytes(input_views, output_views);
  GuardedBuffer workspace(DType::uint8, {static_cast<std::int64_t>(workspace_bytes)}, 0);
  const auto stream = cpu_backend().make_stream({.num_threads = options.num_threads});
  std::function<const TensorView&(int, const Shape&)> resize = [&](int index, const Shape& dims) -> const TensorView& {
    const auto i = static_cast<std::size_t>(index);
    outputs[i] = std::make_unique<GuardedBuffer>(problem.outputs[i].dtype, dims, 0);
    output_views[i] = outputs[i]->view();
    return output_views[i];
  };
  Launch launch;
  launch.inputs = input_views;
  launch.outputs = output_views;
  launch.workspace = {static_cast<std::byte*>(workspace.view().data), workspace_bytes};
  launch.stream = stream.get();
  launch.resize = &resize;
  launch.next_weights = kernel.first_weights();  // as if the same step followed
  kernel.run(launch);
  stream->synchronize();

  EXPECT_TRUE(workspace.is_intact()) << "written beyond the workspace of " << workspace_bytes << " bytes";
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr) continue;
    EXPECT_TRUE(inputs[i]->is_intact()) << "written around input " << i;
    if (static_cast<int>(i) != options.in_place) {
      EXPECT_TRUE(inputs[i]->to_tensor().equals(prepared.inputs[i])) << "input " << i << " was changed";
    }
  }
  std::vector<Tensor> results;
  for (std::size_t i = 0; i < output_views.size(); ++i) {
    if (options.in_place >= 0 && i == 0) {
      results.push_back(inputs[static_cast<std::size_t>(options.in_place)]->to_tensor());
      continue;
    }
    EXPECT_TRUE(outputs[i]->is_intact()) << "written around output " << i;
    results.push_back(outputs[i]->to_tensor());
  }
  return results;
}

/// Empty when they agree, else the first difference in words.
inline std::string difference(const Tensor& got, const Tensor& wanted, const Tolerance& tolerance) {
  if (got.dtype() != wanted.dtype() || got.shape() != wanted.shape()) {
    return to_string(got.type()) + " instead of " + to_string(wanted.type());
  }
  const std::vector<double> a = got.to_double(), b = wanted.to_double();
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    if (std::abs(a[i] - b[i]) <= tolerance.absolute + tolerance.relative * std::abs(b[i]) && !std::isinf(a[i]))
      continue;
    return "element " + std::to_string(i) + " of " + to_string(got.type()) + " is " + std::to_string(a[i]) +
           " instead of " + std::to_string(b[i]);
  }
  return "";
}

/// The kernel of a candidate, over `packed`, which must outlive it.
inline std::unique_ptr<Kernel> make_kernel(const Problem& problem, const Candidate& candidate, PackedWeights& packed) {
  packed = cpu_backend().pack(problem, candidate);
  KernelSpec spec{problem.op, candidate.tactic, candidate.parameters, problem.inputs, problem.outputs, {}};
  for (const auto& blob : packed.blobs) spec.weights.emplace_back(blob);
  return cpu_backend().make_kernel(spec);
}

/// What the first candidate of `tactic` that does not refuse gives; empty if all do.
inline std::vector<Tensor> run_tactic(const KernelCase& c, const std::string& tactic) {
  const PreparedCase prepared = prepare(c);
  for (const Candidate& candidate : cpu_backend().candidates(prepared.problem)) {
    if (candidate.tactic != tactic || !candidate.refusal.empty()) continue;
    PackedWeights packed;
    const auto kernel = make_kernel(prepared.problem, candidate, packed);
    return run_kernel(prepared, *kernel, packed.consumed_inputs, {});
  }
  return {};
}

/// What the reference gives.
inline std::vector<Tensor> run_reference(const PreparedCase& prepared) {
  PackedWeights nothing;
  Candidate reference;
  reference.tactic = "reference";
  return run_kernel(prepared, *make_kernel(prepared.problem, reference, nothing), {}, {});
}

/// Runs a candidate and checks: equal to what is wanted within the tolerance, with pitched operands too where the
/// kernel says it can; bit-identical for 1, 2 and 3 threads and in place; nothing written outside.
inline void check_candidate(const PreparedCase& prepared, const Candidate& candidate, const std::vector<Tensor>& wanted,
                            const Tolerance& tolerance) {
  const Problem& problem = prepared.problem;
  const std::string what =
      std::string(problem.op->type()) + problem.op->attributes().to_string() + " by " + candidate.tactic;
  PackedWeights packed;
  const auto kernel = make_kernel(problem, candidate, packed);
  // Weights must lie 64-byte aligned, as in an engine.
  std::vector<Tensor> first;
  std::vector<RunOptions> variants = {{.num_threads = 1}, {.num_threads = 2}, {.num_threads = 3}};
  variants.push_back({.num_threads = 2, .input_pitch = 3, .output_pitch = 0});
  variants.push_back({.num_threads = 1, .input_pitch = 0, .output_pitch = 5});
  for (std::size_t i = 0; i < problem.inputs.size(); ++i) {
    if (!kernel->can_run_in_place(static_cast<int>(i)) || problem.outputs.empty()) continue;
    if (problem.inputs[i] == problem.outputs[0] && problem.inputs[i].dtype != DType::undefined) {
      variants.push_back({.num_threads = 2, .in_place = static_cast<int>(i)});
    }
  }
  for (const RunOptions& options : variants) {
    const auto got = run_kernel(prepared, *kernel, packed.consumed_inputs, options);
    if (first.empty()) {
      first = got;
      for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(difference(got[i], wanted[i], tolerance), "") << what << ", output " << i;
      }
    }
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (options.input_pitch != 0 || options.output_pitch != 0) {
        // Other strides may merge other axes, and so change the order of a sum.
        EXPECT_EQ(difference(got[i], wanted[i], tolerance), "")
            << what << " with input pitch +" << options.input_pitch << ", output pitch +" << options.output_pitch;
        continue;
      }
      // Compared as bits: even the sign of a zero must not depend on how the work was split.
      EXPECT_TRUE(got[i].equals(first[i])) << what << " depends on: threads " << options.num_threads << ", in place "
                                           << options.in_place << "; " << difference(got[i], first[i], {});
    }
  }
}

/// Checks all candidates of `tactic`. Returns how many ran.
inline int check_tactic(const KernelCase& c, const std::string& tactic, const Tolerance& tolerance) {
  if (cpu::tier() == cpu::Tier::none) return 1;
  const PreparedCase prepared = prepare(c);
  const std::vector<Tensor> wanted = run_reference(prepared);
  int ran = 0;
  for (const Candidate& candidate : cpu_backend().candidates(prepared.problem)) {
    if (candidate.tactic != tactic) continue;
    if (!candidate.refusal.empty()) {
      ADD_FAILURE() << c.op << ": " << tactic << " refuses: " << candidate.refusal;
      continue;
    }
    ++ran;
    check_candidate(prepared, candidate, wanted, tolerance);
  }
  EXPECT_GT(ran, 0) << c.op << ": no candidate of " << tactic;
  return ran;
}

/// The kernel of such a spec is refused with a sentence that holds `word`.
inline void expect_refused(const KernelSpec& spec, const std::string& word) {
  try {
    cpu_backend().make_kernel(spec);
    ADD_FAILURE() << "accepted although " << word;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::incompatible_engine);
    EXPECT_NE(error.message().find(word), std::string::npos) << error.message();
  }
}

/// The refusal of the first candidate of `tactic`, or "" if it accepts.
inline std::string refusal_of(const KernelCase& c, const std::string& tactic) {
  for (const Candidate& candidate : cpu_backend().candidates(prepare(c).problem)) {
    if (candidate.tactic == tactic) return candidate.refusal;
  }
  return "there is no tactic " + tactic;
}

}  // namespace tenfold
