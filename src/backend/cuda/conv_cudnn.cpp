// Channels-last convolution by cuDNN: y = relu(conv(x, w) + residual + bias).
//
// By the backend ("graph") interface of cuDNN 9: the older calls (cudnnConvolutionBiasActivationForward) are deprecated
// there, know one algorithm with an activation, and do not let one name the kernel that was chosen. Here a kernel is an
// engine with its knobs, which are numbers; the engine file keeps them, and the plan is made from them again.
//
// The operations stand in the order conv, residual, bias, ReLU, for which cuDNN has kernels that were compiled
// beforehand; a bias of zeros stands where the model has none. A plan is for one shape, and making one takes
// milliseconds, or seconds where cuDNN compiles: so images of an open shape are refused, and plans are made when an
// engine is loaded. A run makes a small description of its pointers (the library allocates a few hundred bytes on the
// host for it) and holds the handle of the device, which has one stream at a time, for as long as it enqueues; a
// recorded run does neither.
#include <algorithm>
#include <array>
#include <cfloat>
#include <cstring>
#include <map>
#include <mutex>

#include <fmt/format.h>

#include "backend/cuda/conv_filter.hpp"
#include "backend/cuda/cudnn_api.hpp"
#include "backend/cuda/vendor_epilogue.hpp"
#include "backend/cuda/vendor_library.hpp"

namespace tenfold::cuda {
namespace {

namespace number = cudnn_number;

constexpr VendorLibrary kLibrary = VendorLibrary::cudnn;
constexpr int kMostCandidates = 6, kMostTried = 64;
constexpr std::int64_t kAlignment = 16;  // bytes, of all operands

/// Why cuDNN is not asked. `epilogue` is what it shall do behind the convolution.
Refusal refuses(const Conv& conv, const std::vector<TensorType>& inputs, const std::vector<TensorType>& outputs,
                VendorEpilogue& epilogue) {
  if (auto refusal = refuses_conv(conv, inputs, outputs)) return refusal;
  if (auto refusal = refuses_quarantined(kLibrary, cudnn().version, {conv, inputs, outputs})) return refusal;
  const DType element = inputs[0].dtype;
  if (number::data_type_of(element) < 0)
    return fmt::format("cuDNN convolves float32, float16 and bfloat16 here, not {}", to_string(element));
  if (inputs[1].dtype != element || outputs[0].dtype != element ||
      (has_bias(inputs) && inputs[kConvBias].dtype != element))
    return fmt::format("cuDNN's weights, bias and result have the image's type here, {}", to_string(element));
  if (has_bias(inputs) && num_elements(inputs[kConvBias].static_shape()) != filter_sizes(inputs[1]).n)
    return "the bias is not one number for each channel";
  if (!inputs[0].is_static() || !outputs[0].is_static()) return "a plan of cuDNN is for one shape, this one is open";
  if (num_elements(outputs[0].static_shape()) == 0 || num_elements(inputs[0].static_shape()) == 0)
    return "the image is empty";
  std::string reason;
  const auto spec = epilogue_spec(conv.epilogue().program, inputs, Conv::kFirstEpilogueInput, outputs[0], reason);
  if (!spec) return reason;
  const auto found = vendor_epilogue(spec->program, spec->operands, reason);
  if (!found) return reason;
  if (found->alpha != 1 || found->bias >= 0) return "cuDNN adds the convolution's own bias here, and has no factor";
  if (found->activation == VendorEpilogue::Activation::gelu_tanh) return "cuDNN is asked for ReLU here, not for GELU";
  if (found->residual >= 0 && spec->operands[static_cast<std::size_t>(found->residual)].dtype != element)
    return fmt::format("cuDNN adds a residual of the image's type here, {}", to_string(element));
  epilogue = *found;
  return std::nullopt;
}

/// All that a plan depends on; as numbers, because it is a key as well.
struct ConvShape {
  std::int64_t type = 0;                           ///< cudnnDataType_t
  std::int64_t n = 0, h = 0, w = 0, c = 0;         ///< of the image
  std::int64_t k = 0, r = 0, s = 0, filter_c = 0;  ///< of the filter
  std::int64_t p = 0, q = 0;                       ///< of the result
  std::array<std::int64_t, 2> stride{}, dilation{}, pad_before{}, pad_after{};
  bool has_bias = false, has_residual = false, has_relu = false;

  auto operator<=>(const ConvShape&) const = default;
};
ConvShape conv_shape(const Conv& conv, const std::vector<TensorType>& inputs, const std::vector<TensorType>& outputs,
                     const VendorEpilogue& epilogue) {
  const Shape x = inputs[0].static_shape(), y = outputs[0].static_shape();
  const FilterSizes filter = filter_sizes(inputs[1]);
  ConvShape shape{.type = number::data_type_of(inputs[0].dtype),
                  .n = x[0],
                  .h = x[1],
                  .w = x[2],
                  .c = x[3],
                  .k = filter.n,
                  .r = filter.kernel_h,
                  .s = filter.kernel_w,
                  .filter_c = filter.channels,
                  .p = y[1],
                  .q = y[2]};
  const Window& window = conv.window();
  const std::array kernel{filter.kernel_h, filter.kernel_w};
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const auto pad = window.padding(static_cast<int>(axis), x[axis + 1], kernel[axis]);
    shape.stride[axis] = window.strides[axis];
    shape.dilation[axis] = window.dilations[axis];
    shape.pad_before[axis] = pad[0];
    shape.pad_after[axis] = pad[1];
  }
  shape.has_residual = epilogue.residual >= 0;
  shape.has_relu = epilogue.activation == VendorEpilogue::Activation::relu;
  shape.has_bias = has_bias(inputs) || shape.has_residual || shape.has_relu;
  return shape;
}

/// What the build lets a kernel do to numbers.
struct Permissions {
  static constexpr std::int64_t kTf32 = 1, kShortcuts = 2;  ///< bits
  std::int64_t bits = 0;

  /// `notes`: of an engine.
  bool allow(const std::vector<std::int32_t>& notes, std::int64_t type) const {
    return std::none_of(notes.begin(), notes.end(), [&](std::int32_t note) {
      if (note == number::kNoteReducedSums || note == number::kNoteNondeterministic) return true;
      if (note == number::kNoteFft || (number::kNoteWinograd <= note && note <= number::kNoteWinogradLast))
        return (bits & kShortcuts) == 0;
      const bool rounds =
          note == number::kNoteRoundsInputs || (note == number::kNoteTensorCore && type == number::kFloat32);
      return rounds && (bits & kTf32) == 0;
    });
  }
};

/// A kernel of cuDNN.
struct Choice {
  std::int64_t engine = 0;
  std::vector<std::array<std::int64_t, 2>> knobs;  ///< cudnnBackendKnobType_t, value
  auto operator<=>(const Choice&) const = default;
};

/// Names of tensors in a graph and in what a run binds.
constexpr std::int64_t kX = 'x', kW = 'w', kY = 'y', kZ = 'z', kB = 'b', kFirstVirtual = 1000;

/// The operations as cuDNN is told them.
class ConvGraph {
 public:
  /// Throws Error(device_failure).
  ConvGraph(const ConvShape& shape, CudnnHandle handle) {
    const std::array y{shape.n, shape.k, shape.p, shape.q};
    const std::int64_t type = shape.type;
    CudnnDescriptor x = tensor(kX, type, {shape.n, shape.c, shape.h, shape.w}, false);
    CudnnDescriptor w = tensor(kW, type, {shape.k, shape.filter_c, shape.r, shape.s}, false);
    std::vector<CudnnDescriptor> operations;
    std::int64_t remaining = (shape.has_residual ? 1 : 0) + (shape.has_bias ? 1 : 0) + (shape.has_relu ? 1 : 0);
    std::int64_t next_virtual = kFirstVirtual;
    // What lies between operations is float32 and has no memory; the last result is y.
    const auto result = [&] {
      return remaining-- == 0 ? tensor(kY, type, y, false) : tensor(next_virtual++, number::kFloat32, y, true);
    };

    CudnnDescriptor convolution(number::kConvolution);
    convolution.set(number::kConvolutionPrecision, number::kTypeDataType, number::kFloat32);
    convolution.set(number::kConvolutionMode, number::kTypeConvolutionMode, number::kCrossCorrelation);
    convolution.set(number::kConvolutionSpatialDims, std::int64_t{2});
    convolution.set(number::kConvolutionPrePaddings, std::span<const std::int64_t>(shape.pad_before));
    convolution.set(number::kConvolutionPostPaddings, std::span<const std::int64_t>(shape.pad_after));
    convolution.set(number::kConvolutionDilations, std::span<const std::int64_t>(shape.dilation));
    convolution.set(number::kConvolutionStrides, std::span<const std::int64_t>(shape.stride));
    convolution.finalize("describing a convolution");
    CudnnDescriptor value = result();
    CudnnDescriptor forward(number::kOperationConvolution);
    forward.set(number::kForwardX, x);
    forward.set(number::kForwardW, w);
    forward.set(number::kForwardY, value);
    forward.set(number::kForwardConvolution, convolution);
    forward.set(number::kForwardAlpha, 1.0F);
    forward.set(number::kForwardBeta, 0.0F);
    forward.finalize("describing a convolution");
    operations.push_back(std::move(forward));
    keep(std::move(x), std::move(w), std::move(convolution));

    const auto pointwise = [&](std::int32_t mode, CudnnDescriptor* other) {
      CudnnDescriptor function(number::kPointwise);
      function.set(number::kPointwiseMode, number::kTypePointwiseMode, mode);
      function.set(number::kPointwisePrecision, number::kTypeDataType, number::kFloat32);
      if (mode == number::kReluForward) {
        function.set(number::kReluLowerClip, 0.0);
        function.set(number::kReluUpperClip, static_cast<double>(FLT_MAX));
        function.set(number::kReluLowerSlope, 0.0);
      }
      function.finalize("describing an epilogue");
      CudnnDescriptor made = result();
      CudnnDescriptor operation(number::kOperationPointwise);
      operation.set(number::kPointwiseDescriptor, function);
      operation.set(number::kPointwiseX, value);
      if (other != nullptr) operation.set(number::kPointwiseB, *other);
      operation.set(number::kPointwiseY, made);
      operation.set(number::kPointwiseAlpha1, 1.0F);
      operation.set(number::kPointwiseAlpha2, 1.0F);
      operation.finalize("describing an epilogue");
      operations.push_back(std::move(operation));
      keep(std::move(function), std::move(value));
      value = std::move(made);
    };
    if (shape.has_residual) {
      CudnnDescriptor z = tensor(kZ, type, y, false);
      pointwise(number::kAdd, &z);
      keep(std::move(z));
    }
    if (shape.has_bias) {
      CudnnDescriptor b = tensor(kB, type, {1, shape.k, 1, 1}, false);
      pointwise(number::kAdd, &b);
      keep(std::move(b));
    }
    if (shape.has_relu) pointwise(number::kReluForward, nullptr);
    keep(std::move(value));

    graph_ = CudnnDescriptor(number::kOperationGraph);
    graph_.set(number::kGraphOperations, operations);
    graph_.set_handle(number::kGraphHandle, handle);
    for (CudnnDescriptor& operation : operations) keep(std::move(operation));
    status_ = graph_.try_finalize();
  }
  const CudnnDescriptor& descriptor() const { return graph_; }
  /// Not 0: cuDNN knows no such graph.
  int status() const { return status_; }

 private:
  /// `dims` [N, C, H, W], stored channels last.
  static CudnnDescriptor tensor(std::int64_t id, std::int64_t type, const std::array<std::int64_t, 4>& dims,
                                bool is_virtual) {
    const auto& [n, c, h, w] = dims;
    const std::array<std::int64_t, 4> strides{c * h * w, 1, c * w, c};
    CudnnDescriptor made(number::kTensor);
    made.set(number::kTensorDataType, number::kTypeDataType, static_cast<std::int32_t>(type));
    made.set(number::kTensorDims, std::span<const std::int64_t>(dims));
    made.set(number::kTensorStrides, std::span<const std::int64_t>(strides));
    made.set(number::kTensorId, id);
    made.set(number::kTensorAlignment, kAlignment);
    if (is_virtual) made.set(number::kTensorIsVirtual, true);
    made.finalize("describing a tensor");
    return made;
  }
  template <typename... Descriptors>
  void keep(Descriptors&&... descriptors) {
    (parts_.push_back(std::forward<Descriptors>(descriptors)), ...);
  }

  std::vector<CudnnDescriptor> parts_;  ///< what the graph is made of
  CudnnDescriptor graph_;
  int status_ = 0;
};

/// A kernel ready to run on one shape.
class ConvPlan {
 public:
  /// nullptr and the library's words in `reason` where cuDNN refuses, or the engine does what `permissions` forbid.
  static std::shared_ptr<const ConvPlan> make(const ConvShape& shape, const Choice& choice,
                                              const Permissions& permissions, CudnnHandle handle, std::string& reason) {
    auto plan = std::make_shared<ConvPlan>(shape, handle);
    reason = plan->build(choice, permissions, shape.type, handle);
    return reason.empty() ? plan : nullptr;
  }
  ConvPlan(const ConvShape& shape, CudnnHandle handle) : graph_(shape, handle) {}
  void* handle() const { return plan_.get(); }
  std::int64_t workspace_bytes() const { return workspace_bytes_; }

 private:
  std::string build(const Choice& choice, const Permissions& permissions, std::int64_t type, CudnnHandle handle) {
    const auto words = [](int status) { return status == 0 ? std::string() : cudnn().error_string(status); };
    if (graph_.status() != 0) return words(graph_.status());
    engine_ = CudnnDescriptor(number::kEngine);
    engine_.set(number::kEngineGraph, graph_.descriptor());
    engine_.set(number::kEngineIndex, choice.engine);
    if (const int status = engine_.try_finalize()) return words(status);
    if (!permissions.allow(
            engine_.get_enums(number::kEngineNumericalNotes, number::kTypeNumericalNote, number::kMostNotes), type))
      return "the engine rounds more than the build permits";
    config_ = CudnnDescriptor(number::kEngineConfig);
    config_.set(number::kConfigEngine, engine_);
    for (const auto& [knob, value] : choice.knobs) {
      CudnnDescriptor& made = knobs_.emplace_back(number::kKnobChoice);
      made.set(number::kKnobType, number::kTypeKnob, static_cast<std::int32_t>(knob));
      made.set(number::kKnobValue, value);
      if (const int status = made.try_finalize()) return words(status);
    }
    if (!knobs_.empty()) config_.set(number::kConfigKnobs, knobs_);
    if (const int status = config_.try_finalize()) return words(status);
    plan_ = CudnnDescriptor(number::kExecutionPlan);
    plan_.set_handle(number::kPlanHandle, handle);
    plan_.set(number::kPlanConfig, config_);
    if (const int status = plan_.try_finalize()) return words(status);
    workspace_bytes_ = plan_.get_int64(number::kPlanWorkspaceBytes);
    return workspace_bytes_ < 0 ? "the plan asks for a negative number of bytes" : "";
  }

  ConvGraph graph_;
  CudnnDescriptor engine_;
  std::vector<CudnnDescriptor> knobs_;
  CudnnDescriptor config_, plan_;
  std::int64_t workspace_bytes_ = 0;
};

/// The library's own ranking for a shape, best first.
std::vector<Choice> ranked_choices(const ConvGraph& graph, std::int32_t mode) {
  CudnnDescriptor heuristic(number::kEngineHeuristic);
  heuristic.set(number::kHeuristicGraph, graph.descriptor());
  heuristic.set(number::kHeuristicMode, number::kTypeHeuristicMode, mode);
  if (heuristic.try_finalize() != 0) return {};
  const std::int64_t count =
      std::clamp<std::int64_t>(heuristic.count_descriptors(number::kHeuristicResults), 0, kMostTried);
  if (count == 0) return {};
  std::vector<Choice> choices;
  for (const CudnnDescriptor& config :
       heuristic.get_descriptors(number::kHeuristicResults, number::kEngineConfig, static_cast<std::size_t>(count))) {
    const std::vector<CudnnDescriptor> engines = config.get_descriptors(number::kConfigEngine, number::kEngine, 1);
    if (engines.empty()) continue;
    Choice choice{engines[0].get_int64(number::kEngineIndex), {}};
    for (const CudnnDescriptor& knob :
         config.get_descriptors(number::kConfigKnobs, number::kKnobChoice, number::kMostKnobs)) {
      choice.knobs.push_back({knob.get_enum(number::kKnobType, number::kTypeKnob), knob.get_int64(number::kKnobValue)});
    }
    if (std::find(choices.begin(), choices.end(), choice) == choices.end()) choices.push_back(std::move(choice));
  }
  return choices;
}

/// Plans of this process: a build asks for the same ones several times, and engines share them. Kept until the process
/// ends.
class PlanStore {
 public:
  static PlanStore& instance() {
    // Never destroyed: when statics are, the driver may be gone, and cuDNN frees what its plans hold on the device.
    static PlanStore& store = *std::make_unique<PlanStore>().release();
    return store;
  }
  /// Kernels that can do it, best guess first, at most kMostCandidates. Empty and why in `reason`.
  std::vector<Choice> choices(const ConvShape& shape, const Permissions& permissions, std::string& reason) {
    const std::lock_guard lock(mutex_);
    CudnnSession& session = CudnnSession::current();
    const auto [entry, is_new] = choices_.try_emplace({&session, shape, permissions.bits});
    Offered& offered = entry->second;
    if (is_new) {
      session.use([&](CudnnHandle handle) {
        const ConvGraph graph(shape, handle);
        if (graph.status() != 0) {
          offered.reason = cudnn().error_string(graph.status());
          return;
        }
        for (const std::int32_t mode : {number::kHeuristicModeA, number::kHeuristicModeFallback}) {
          for (Choice& choice : ranked_choices(graph, mode)) {
            if (offered.choices.size() == kMostCandidates) break;
            auto plan = ConvPlan::make(shape, choice, permissions, handle, offered.reason);
            if (plan == nullptr) continue;
            plans_.try_emplace({&session, shape, permissions.bits, choice}, std::move(plan));
            offered.choices.push_back(std::move(choice));
          }
          if (!offered.choices.empty()) break;  // the fallbacks are slow
        }
        if (offered.choices.empty() && offered.reason.empty()) offered.reason = "it has no engine for it";
      });
    }
    reason = offered.reason;
    return offered.choices;
  }
  /// nullptr and why in `reason`.
  std::shared_ptr<const ConvPlan> plan(const ConvShape& shape, const Permissions& permissions, const Choice& choice,
                                       std::string& reason) {
    const std::lock_guard lock(mutex_);
    CudnnSession& session = CudnnSession::current();
    const std::tuple key(&session, shape, permissions.bits, choice);
    if (const auto known = plans_.find(key); known != plans_.end()) return known->second;
    std::shared_ptr<const ConvPlan> made;
    session.use([&](CudnnHandle handle) { made = ConvPlan::make(shape, choice, permissions, handle, reason); });
    if (made != nullptr) plans_.emplace(key, made);
    return made;
  }

 private:
  struct Offered {
    std::vector<Choice> choices;
    std::string reason;
  };
  std::mutex mutex_;
  std::map<std::tuple<CudnnSession*, ConvShape, std::int64_t>, Offered> choices_;
  std::map<std::tuple<CudnnSession*, ConvShape, std::int64_t, Choice>, std::shared_ptr<const ConvPlan>> plans_;
};

/// What an engine keeps of a candidate: the library's version, permissions, the engine, pairs of knobs and values.
std::vector<std::int64_t> encode(const Permissions& permissions, const Choice& choice) {
  std::vector<std::int64_t> numbers{static_cast<std::int64_t>(cudnn().version), permissions.bits, choice.engine};
  for (const auto& knob : choice.knobs) numbers.insert(numbers.end(), knob.begin(), knob.end());
  return numbers;
}
std::pair<Permissions, Choice> decode(const KernelSpec& spec) {
  constexpr std::size_t kNumbers = 3;
  const std::vector<std::int64_t>& numbers = spec.parameters;
  require(numbers.size() >= kNumbers && (numbers.size() - kNumbers) % 2 == 0 &&
              (numbers.size() - kNumbers) / 2 <= number::kMostKnobs,
          Code::incompatible_engine, "tactic '{}' has {} parameters and pairs of more, not {} numbers", spec.tactic,
          kNumbers, numbers.size());
  require_vendor_version(kLibrary, numbers[0], spec.tactic);
  const Permissions permissions{numbers[1]};
  Choice choice{numbers[2], {}};
  constexpr std::int64_t kMostBits = Permissions::kTf32 | Permissions::kShortcuts, kMost = 1 << 30;
  bool fits = permissions.bits >= 0 && permissions.bits <= kMostBits && choice.engine >= 0 && choice.engine < kMost;
  for (std::size_t i = kNumbers; i < numbers.size(); i += 2) {
    choice.knobs.push_back({numbers[i], numbers[i + 1]});
    fits = fits && numbers[i] >= 0 && numbers[i] < static_cast<std::int64_t>(number::kMostKnobs);
  }
  require(fits, Code::incompatible_engine, "tactic '{}': its parameters name no kernel", spec.tactic);
  return {permissions, std::move(choice)};
}

class CudnnKernel final : public Kernel {
 public:
  CudnnKernel(std::shared_ptr<const ConvPlan> plan, int residual, const void* weights, const void* bias)
      : plan_(std::move(plan)),
        residual_(residual),
        weights_(weights),
        bias_(bias),
        session_(CudnnSession::current()) {}

  std::size_t workspace_bytes(std::span<const TensorView>, std::span<const TensorView>) const override {
    return vendor_workspace_bytes(static_cast<std::size_t>(plan_->workspace_bytes()));
  }
  void run(const Launch& launch) const override {
    CudaStream& stream = cuda_stream(launch);
    stream.make_current();
    std::array<void*, 5> pointers{launch.inputs[0].data, const_cast<void*>(weights_), launch.outputs[0].data};
    std::array<std::int64_t, 5> ids{kX, kW, kY};
    std::size_t count = 3;
    const auto add = [&](std::int64_t id, void* data) {
      ids[count] = id;
      pointers[count++] = data;
    };
    if (residual_ >= 0) add(kZ, launch.inputs[static_cast<std::size_t>(Conv::kFirstEpilogueInput + residual_)].data);
    if (bias_ != nullptr) add(kB, const_cast<void*>(bias_));
    void* workspace = plan_->workspace_bytes() > 0 ? aligned_workspace(launch.workspace) : nullptr;
    CudnnDescriptor operands(number::kVariantPack);
    operands.set_raw(number::kPackPointers, number::kTypePointer, static_cast<std::int64_t>(count), pointers.data());
    operands.set(number::kPackIds, std::span<const std::int64_t>(ids).first(count));
    operands.set_raw(number::kPackWorkspace, number::kTypePointer, 1, &workspace);
    operands.finalize("describing operands");
    session_.use(stream.handle(), [&](CudnnHandle handle) {
      check_cudnn(cudnn().execute(handle, plan_->handle(), operands.get()), "convolving");
    });
  }

 private:
  std::shared_ptr<const ConvPlan> plan_;
  int residual_;
  const void *weights_, *bias_;
  CudnnSession& session_;
};

void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  const Conv& conv = conv_of(problem.op);
  VendorEpilogue epilogue;
  auto refusal = refuses(conv, problem.inputs, problem.outputs, epilogue);
  if (!refusal &&
      (problem.constants[1] == nullptr || (has_bias(problem.inputs) && problem.constants[kConvBias] == nullptr))) {
    refusal = "the weights are computed";
  }
  if (refusal) {
    offer_refusal(*refusal, out);
    return;
  }
  Permissions permissions;
  if (problem.tf32) permissions.bits |= Permissions::kTf32;
  if (!problem.strict) permissions.bits |= Permissions::kShortcuts;
  std::string reason;
  const std::vector<Choice> choices =
      PlanStore::instance().choices(conv_shape(conv, problem.inputs, problem.outputs, epilogue), permissions, reason);
  for (std::size_t rank = 0; rank < choices.size(); ++rank) {
    Candidate candidate;
    candidate.parameters = encode(permissions, choices[rank]);
    candidate.estimated_us = estimate_ranked_us(problem, traits, rank);
    out.push_back(std::move(candidate));
  }
  if (choices.empty()) offer_refusal(fmt::format("cuDNN: {}", reason), out);
}

/// [n, h, w, channels], as cuDNN reads filters of channels-last images.
std::vector<std::byte> pack_filter(const Tensor& weights, const FilterSizes& sizes) {
  const std::size_t element = size_of(weights.dtype());
  std::vector<std::byte> packed(weights.size_bytes());
  std::byte* to = packed.data();
  for (std::int64_t n = 0; n < sizes.n; ++n) {
    for (std::int64_t position = 0; position < sizes.positions(); ++position) {
      for (std::int64_t c = 0; c < sizes.channels; ++c, to += element) {
        const std::int64_t from = (n * sizes.channels + c) * sizes.positions() + position;
        std::memcpy(to, weights.data() + static_cast<std::size_t>(from) * element, element);
      }
    }
  }
  return packed;
}

std::size_t bias_bytes(const std::vector<TensorType>& inputs) {
  return static_cast<std::size_t>(filter_sizes(inputs[1]).n) * size_of(inputs[0].dtype);
}

PackedWeights pack(const Problem& problem, const Candidate&) {
  VendorEpilogue epilogue;
  const Conv& conv = conv_of(problem.op);
  const auto refusal = refuses(conv, problem.inputs, problem.outputs, epilogue);
  ensure(!refusal, "weights are packed for a tactic that refuses: {}", refusal.value_or(""));
  PackedWeights packed;
  packed.consumed_inputs = {1};
  packed.blobs.push_back(pack_filter(*problem.constants[1], filter_sizes(problem.inputs[1])));
  if (!conv_shape(conv, problem.inputs, problem.outputs, epilogue).has_bias) return packed;
  std::vector<std::byte>& bias = packed.blobs.emplace_back(bias_bytes(problem.inputs));  // zeros
  if (has_bias(problem.inputs)) {
    const Tensor& values = *problem.constants[kConvBias];
    ensure(values.size_bytes() == bias.size(), "a bias of {} bytes for {}", values.size_bytes(), bias.size());
    std::memcpy(bias.data(), values.data(), bias.size());
    packed.consumed_inputs.push_back(kConvBias);
  }
  return packed;
}

std::unique_ptr<Kernel> make(const KernelSpec& spec, const LoadedModule& module) {
  const auto [permissions, choice] = decode(spec);
  const Conv& conv = conv_of(spec.op);
  VendorEpilogue epilogue;
  const auto refusal = refuses(conv, spec.inputs, spec.outputs, epilogue);
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this Conv: {}", spec.tactic,
          refusal.value_or(""));
  const ConvShape shape = conv_shape(conv, spec.inputs, spec.outputs, epilogue);
  const std::size_t filter = static_cast<std::size_t>(num_elements(spec.inputs[1].static_shape())) *
                             size_of(spec.inputs[1].dtype),
                    bias = bias_bytes(spec.inputs);
  require(spec.weights.size() == (shape.has_bias ? 2U : 1U) && spec.weights[0].size() == filter &&
              (!shape.has_bias || spec.weights[1].size() == bias),
          Code::incompatible_engine, "tactic '{}' expects a filter of {} bytes and a bias of {} bytes or none",
          spec.tactic, filter, bias);
  std::string reason;
  auto plan = PlanStore::instance().plan(shape, permissions, choice, reason);
  require(plan != nullptr, Code::incompatible_engine, "tactic '{}': cuDNN has no such kernel: {}", spec.tactic, reason);
  return std::make_unique<CudnnKernel>(std::move(plan), epilogue.residual, module.weight(0),
                                       shape.has_bias ? module.weight(1) : nullptr);
}

}  // namespace

const CudaTactic kConvCudnn{"conv.cudnn", "Conv", candidates, pack, nullptr, make, kLibrary};

}  // namespace tenfold::cuda
