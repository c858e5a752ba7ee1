// RNN, GRU and LSTM, step by step. The products with the inputs do not wait for each other: one kernel makes those of
// all steps. Then one kernel a step (two for a GRU whose reset gate acts before its product) multiplies the state: a
// warp takes one unit of up to four sequences, reads the unit's rows of recurrent weights once, and finishes its gates.
// State and sums are float32.
#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "ops/rnn.hpp"

namespace tenfold::cuda {
namespace {

using Kind = Recurrent::Kind;

constexpr int kWarps = 8;      // of a block of a step
constexpr int kSequences = 4;  // of a warp
constexpr int kTile = 64;      // of the products with the inputs

constexpr std::string_view kArgumentsText = R"(
struct Arguments {
  const T* x;
  const T* w;
  const T* r;
  const T* bias;
  const int* lengths;
  const T* initial_h;
  const T* initial_c;
  const T* peepholes;
  T* y;
  T* last_h;
  T* last_c;
  float* sums;     // [steps, batch, directions, gates * hidden]
  float* h[2];     // [directions, batch, hidden]: before and after a step, in turn
  float* c;
  float* update;   // a GRU's gate, and the state times the other one
  float* reset_h;
  int steps, batch, features, hidden, directions, first_backward;
};
TF_FN float limit(float x) { return kClip == 0.0f ? x : fminf(fmaxf(x, -kClip), kClip); }
TF_FN float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
)";

constexpr std::string_view kInputsText = R"(
// sums = x w^T + the bias of w: 64 x 64 results a block, 4 x 4 a thread.
extern "C" __global__ void __launch_bounds__(256) inputs(const __grid_constant__ Arguments a) {
  tf::begin_early();
  __shared__ float xs[16][68], ws[16][68];
  const int direction = blockIdx.z, columns = kGates * a.hidden;
  const long long rows = (long long)a.steps * a.batch, row0 = blockIdx.x * 64ll;
  const int column0 = blockIdx.y * 64;
  const T* w = a.w + (long long)direction * columns * a.features;
  float sum[4][4] = {};
  for (int k0 = 0; k0 < a.features; k0 += 16) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int line = threadIdx.x / 16 + 16 * i, k = threadIdx.x % 16;
      const bool inside = k0 + k < a.features;
      xs[k][line] = inside && row0 + line < rows ? tf::to_float(a.x[(row0 + line) * a.features + k0 + k]) : 0.0f;
      ws[k][line] = inside && column0 + line < columns ? tf::to_float(w[(long long)(column0 + line) * a.features + k0 + k]) : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < 16; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[i][j] += xs[k][threadIdx.x / 16 * 4 + i] * ws[k][threadIdx.x % 16 * 4 + j];
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const long long row = row0 + threadIdx.x / 16 * 4 + i;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int column = column0 + threadIdx.x % 16 * 4 + j;
      if (row >= rows || column >= columns) continue;
      const float bias = a.bias ? tf::to_float(a.bias[direction * 2 * columns + column]) : 0.0f;
      a.sums[(row * a.directions + direction) * columns + column] = sum[i][j] + bias;
    }
  }
}
extern "C" __global__ void __launch_bounds__(256) begin(const __grid_constant__ Arguments a) {
  tf::begin_early();
  tf::for_each_thread((long long)a.directions * a.batch * a.hidden, [&](long long i) {
    a.h[0][i] = a.initial_h ? tf::to_float(a.initial_h[i]) : 0.0f;
    if (a.c) a.c[i] = a.initial_c ? tf::to_float(a.initial_c[i]) : 0.0f;
  });
}
extern "C" __global__ void __launch_bounds__(256) finish(const __grid_constant__ Arguments a, int from) {
  tf::begin_early();
  tf::for_each_thread((long long)a.directions * a.batch * a.hidden, [&](long long i) {
    if (a.last_h) a.last_h[i] = tf::from_float<T>(a.h[from][i]);
    if (a.last_c) a.last_c[i] = tf::from_float<T>(a.c[i]);
  });
}
// Products of one unit's rows with the state of up to four sequences, the same in all lanes of a warp.
template <int First, int Count>
TF_FN void multiply(const Arguments& a, const float* state, int direction, int unit, int sequence, float (&sum)[Count][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int g = 0; g < Count; ++g) {
#pragma unroll
    for (int n = 0; n < 4; ++n) sum[g][n] = 0.0f;
  }
  const float* h = state + ((long long)direction * a.batch + sequence) * a.hidden;
  const T* r = a.r + ((long long)direction * kGates * a.hidden + First * a.hidden + unit) * a.hidden;
  for (int k = lane; k < a.hidden; k += 32) {
    float weight[Count];
#pragma unroll
    for (int g = 0; g < Count; ++g) weight[g] = tf::to_float(r[(long long)g * a.hidden * a.hidden + k]);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      if (sequence + n >= a.batch) break;
      const float value = h[(long long)n * a.hidden + k];
#pragma unroll
      for (int g = 0; g < Count; ++g) sum[g][n] += weight[g] * value;
    }
  }
#pragma unroll
  for (int g = 0; g < Count; ++g) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int step = 16; step > 0; step /= 2) sum[g][n] += __shfl_xor_sync(0xffffffffu, sum[g][n], step);
    }
  }
}
// One sequence of the warp's four, by the lane of its number.
struct Place {
  int direction, unit, sequence, time;
  bool runs;
  long long state;     // of [directions, batch, hidden]
  const float* sums;   // of the unit's first gate
  const T* bias;       // of r
};
TF_FN Place place_of(const Arguments& a, int step, int direction, int unit, int sequence) {
  Place p;
  p.direction = direction;
  p.unit = unit;
  p.sequence = sequence;
  int length = a.lengths ? a.lengths[sequence] : a.steps;
  length = length < 0 ? 0 : length > a.steps ? a.steps : length;
  p.runs = step < length;
  p.time = p.runs && direction >= a.first_backward ? length - 1 - step : step;
  p.state = ((long long)direction * a.batch + sequence) * a.hidden + unit;
  p.sums = a.sums + (((long long)p.time * a.batch + sequence) * a.directions + direction) * kGates * a.hidden + unit;
  p.bias = a.bias ? a.bias + ((long long)direction * 2 + 1) * kGates * a.hidden + unit : nullptr;
  return p;
}
TF_FN float bias_of(const Arguments& a, const Place& p, int gate) { return p.bias ? tf::to_float(p.bias[gate * a.hidden]) : 0.0f; }
// Beyond a sequence's end the state stays and the result is 0.
TF_FN void leave(const Arguments& a, const Place& p, int from) {
  a.h[1 - from][p.state] = a.h[from][p.state];
  if (a.y) a.y[(((long long)p.time * a.directions + p.direction) * a.batch + p.sequence) * a.hidden + p.unit] = tf::from_float<T>(0.0f);
}
TF_FN void put(const Arguments& a, const Place& p, int from, float h) {
  a.h[1 - from][p.state] = h;
  if (a.y) a.y[(((long long)p.time * a.directions + p.direction) * a.batch + p.sequence) * a.hidden + p.unit] = tf::from_float<T>(h);
}
)";

std::string activation_text(const Recurrent::Activation& activation) {
  const std::string alpha = float_literal(static_cast<float>(activation.alpha)),
                    beta = float_literal(static_cast<float>(activation.beta));
  if (activation.name == "sigmoid") return "sigmoid(x)";
  if (activation.name == "tanh") return "tanhf(x)";
  if (activation.name == "relu") return "fmaxf(x, 0.0f)";
  if (activation.name == "affine") return fmt::format("{} * x + {}", alpha, beta);
  if (activation.name == "leakyrelu") return fmt::format("x < 0.0f ? {} * x : x", alpha);
  if (activation.name == "thresholdedrelu") return fmt::format("x > {} ? x : 0.0f", alpha);
  if (activation.name == "scaledtanh") return fmt::format("{} * tanhf({} * x)", alpha, beta);
  if (activation.name == "hardsigmoid") return fmt::format("fminf(fmaxf({} * x + {}, 0.0f), 1.0f)", alpha, beta);
  if (activation.name == "elu") return fmt::format("x < 0.0f ? {} * expm1f(x) : x", alpha);
  if (activation.name == "softsign") return "x / (1.0f + fabsf(x))";
  return "fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)))";  // softplus
}

/// float activate<i>(direction, x): the i-th activation of each direction.
std::string activations_text(const Recurrent& op) {
  const auto& all = op.spec().activations;
  const std::size_t count = all.size() / static_cast<std::size_t>(op.num_directions());
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string first = activation_text(all[i]);
    const std::string second = op.num_directions() == 2 ? activation_text(all[count + i]) : first;
    text += fmt::format("TF_FN float activate{}(int direction, float x) {{ return direction == 0 ? {} : {}; }}\n", i,
                        first, second);
  }
  return text;
}

/// A kernel that multiplies gates [first, first + count) with `state` and then runs `body` for one sequence a lane.
std::string step_kernel(std::string_view name, std::string_view state, int first, int count, std::string_view body) {
  return fmt::format(R"(
extern "C" __global__ void __launch_bounds__(256) {}(const __grid_constant__ Arguments a, int step, int from) {{
  tf::begin_early();
  const int direction = blockIdx.z, unit = blockIdx.x * 8 + threadIdx.x / 32, first = blockIdx.y * 4;
  if (unit >= a.hidden) return;  // whole warps
  float sum[{}][4];
  multiply<{}, {}>(a, {}, direction, unit, first, sum);
#pragma unroll
  for (int n = 0; n < 4; ++n) {{
    if ((int)(threadIdx.x % 32) != n || first + n >= a.batch) continue;
    const Place p = place_of(a, step, direction, unit, first + n);
{}
  }}
}}
)",
                     name, count, first, count, state, body);
}

std::string steps_text(const Recurrent& op) {
  const Recurrent::Spec& spec = op.spec();
  const std::string_view leave = "    if (!p.runs) {\n      leave(a, p, from);\n      continue;\n    }\n";
  const auto sum = [](int gate, int index) {
    return fmt::format("p.sums[{0} * a.hidden] + sum[{1}][n] + bias_of(a, p, {0})", gate, index);
  };
  if (spec.kind == Kind::rnn) {
    return step_kernel("step", "a.h[from]", 0, 1,
                       fmt::format("{}    put(a, p, from, activate0(direction, limit({})));", leave, sum(0, 0)));
  }
  if (spec.kind == Kind::gru && spec.linear_before_reset) {
    return step_kernel(
        "step", "a.h[from]", 0, 3,
        fmt::format(
            "{}    const float update = activate0(direction, limit({})), reset = activate0(direction, limit({}));\n"
            "    const float next = activate1(direction, limit(p.sums[2 * a.hidden] + reset * (sum[2][n] + "
            "bias_of(a, p, 2))));\n"
            "    put(a, p, from, (1.0f - update) * next + update * a.h[from][p.state]);",
            leave, sum(0, 0), sum(1, 1)));
  }
  if (spec.kind == Kind::gru) {
    return step_kernel("gates", "a.h[from]", 0, 2,
                       fmt::format("    a.update[p.state] = activate0(direction, limit({}));\n    a.reset_h[p.state] = "
                                   "activate0(direction, limit({})) * a.h[from][p.state];",
                                   sum(0, 0), sum(1, 1))) +
           step_kernel(
               "step", "a.reset_h", 2, 1,
               fmt::format("{}    const float update = a.update[p.state];\n    put(a, p, from, (1.0f - update) * "
                           "activate1(direction, limit({})) + update * a.h[from][p.state]);",
                           leave, sum(2, 0)));
  }
  const std::string forget =
      spec.input_forget ? "1.0f - in" : fmt::format("activate0(direction, limit({} + peep(2, c)))", sum(2, 2));
  return step_kernel(
      "step", "a.h[from]", 0, 4,
      fmt::format(
          R"({}    const T* peepholes = a.peepholes ? a.peepholes + (long long)direction * 3 * a.hidden + unit : nullptr;
    const auto peep = [&](int gate, float cell) {{ return peepholes ? tf::to_float(peepholes[gate * a.hidden]) * cell : 0.0f; }};
    float c = a.c[p.state];
    const float in = activate0(direction, limit({} + peep(0, c)));
    const float forget = {};
    c = forget * c + in * activate1(direction, limit({}));
    a.c[p.state] = c;
    const float out = activate0(direction, limit({} + peep(1, c)));
    put(a, p, from, out * activate2(direction, c));)",
          leave, sum(0, 0), forget, sum(3, 3), sum(1, 1)));
}

struct Arguments {
  const void* x = nullptr;
  const void* w = nullptr;
  const void* r = nullptr;
  const void* bias = nullptr;
  const void* lengths = nullptr;
  const void* initial_h = nullptr;
  const void* initial_c = nullptr;
  const void* peepholes = nullptr;
  void* y = nullptr;
  void* last_h = nullptr;
  void* last_c = nullptr;
  float* sums = nullptr;
  float* h[2] = {};
  float* c = nullptr;
  float* update = nullptr;
  float* reset_h = nullptr;
  std::int32_t steps = 0, batch = 0, features = 0, hidden = 0, directions = 0, first_backward = 0;
};

class RecurrentKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    const auto* op = dynamic_cast<const Recurrent*>(&signature.op);
    if (op == nullptr) return "it is no recurrent layer";
    for (const std::size_t i : {0, 1, 2}) {
      if (!signature.has_input(i)) return "operands are missing";
    }
    const DType dtype = signature.inputs[0].dtype;
    if (!is_device_float(dtype)) return fmt::format("no kernel for {}", to_string(dtype));
    for (std::size_t i = 1; i < signature.inputs.size(); ++i) {
      if (signature.has_input(i) && signature.inputs[i].dtype != (i == Recurrent::kLengths ? DType::int32 : dtype))
        return "the operands differ in type";
    }
    for (std::size_t i = 0; i < signature.outputs.size(); ++i) {
      if (signature.has_output(i) && signature.outputs[i].dtype != dtype) return "the results differ in type";
    }
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const auto& op = dynamic_cast<const Recurrent&>(*spec.op);
    Source source;
    source.entries = {"inputs", "begin", "step", "finish"};
    if (has_two_kernels(op)) source.entries.emplace_back("gates");
    source.text = fmt::format("{}{}typedef {} T;\nconstexpr int kGates = {};\nconstexpr float kClip = {};\n{}{}{}{}",
                              device_prelude(), element_prelude(), device_type(spec.inputs[0].dtype), op.num_gates(),
                              float_literal(static_cast<float>(op.spec().clip)), kArgumentsText, kInputsText,
                              activations_text(op), steps_text(op));
    return source;
  }
  RecurrentKernel(const KernelSpec& spec, const LoadedModule& module)
      : op_(spec.op),
        recurrent_(dynamic_cast<const Recurrent&>(*op_)),
        inputs_(module.function("inputs")),
        begin_(module.function("begin")),
        step_(module.function("step")),
        finish_(module.function("finish")) {
    if (has_two_kernels(recurrent_)) gates_ = module.function("gates");
  }
  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView>) const override {
    const std::int64_t sums =
        inputs[0].dim(0) * inputs[0].dim(1) * recurrent_.num_directions() * recurrent_.num_gates() * inputs[2].dim(2);
    return static_cast<std::size_t>(sums + kStates * state_size(inputs)) * sizeof(float);
  }
  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const std::int64_t state = state_size(launch.inputs);
    Arguments a;
    const auto data = [&](std::size_t i) -> const void* { return operand_of(launch.inputs, i).data; };
    a.x = data(0), a.w = data(1), a.r = data(2);
    a.bias = data(Recurrent::kBias), a.lengths = data(Recurrent::kLengths);
    a.initial_h = data(Recurrent::kInitialH);
    const bool is_lstm = recurrent_.spec().kind == Kind::lstm;
    if (is_lstm) a.initial_c = data(Recurrent::kInitialC), a.peepholes = data(Recurrent::kPeepholes);
    a.y = operand_of(launch.outputs, 0).data;
    a.last_h = operand_of(launch.outputs, 1).data;
    a.last_c = operand_of(launch.outputs, 2).data;
    a.steps = static_cast<std::int32_t>(x.dim(0));
    a.batch = static_cast<std::int32_t>(x.dim(1));
    a.features = static_cast<std::int32_t>(x.dim(2));
    a.hidden = static_cast<std::int32_t>(launch.inputs[2].dim(2));
    a.directions = recurrent_.num_directions();
    a.first_backward = recurrent_.spec().direction == Recurrent::Direction::reverse ? 0 : 1;
    if (state == 0) return;
    auto* floats = reinterpret_cast<float*>(launch.workspace.data());
    for (float** part : {&a.h[0], &a.h[1], &a.c, &a.update, &a.reset_h}) {
      *part = floats;
      floats += state;
    }
    a.sums = floats;
    if (!is_lstm) a.c = nullptr;

    CudaStream& stream = cuda_stream(launch);
    const auto early = [](LaunchConfig config) {
      config.pdl = true;
      return config;
    };
    const std::int64_t rows = std::int64_t{a.steps} * a.batch,
                       columns = std::int64_t{recurrent_.num_gates()} * a.hidden;
    LaunchConfig config;
    config.function = inputs_;
    config.grid = {static_cast<unsigned>(divide_up(rows, kTile)), static_cast<unsigned>(divide_up(columns, kTile)),
                   static_cast<unsigned>(a.directions)};
    config.block.x = 256;
    stream.launch(early(config), a);
    stream.launch(early(one_thread_each(begin_, state)), a);
    config.grid = {static_cast<unsigned>(divide_up(a.hidden, kWarps)),
                   static_cast<unsigned>(divide_up(a.batch, kSequences)), static_cast<unsigned>(a.directions)};
    int from = 0;
    for (std::int32_t step = 0; step < a.steps; ++step) {
      if (has_two_kernels(recurrent_)) {
        config.function = gates_;
        stream.launch(early(config), a, step, from);
      }
      config.function = step_;
      stream.launch(early(config), a, step, from);
      from = 1 - from;
    }
    if (a.last_h != nullptr || a.last_c != nullptr) stream.launch(early(one_thread_each(finish_, state)), a, from);
  }

 private:
  static constexpr std::int64_t kStates = 5;
  static bool has_two_kernels(const Recurrent& op) {
    return op.spec().kind == Kind::gru && !op.spec().linear_before_reset;
  }
  std::int64_t state_size(std::span<const TensorView> inputs) const {
    return recurrent_.num_directions() * inputs[0].dim(1) * inputs[2].dim(2);
  }
  OpPtr op_;
  const Recurrent& recurrent_;
  Function inputs_, begin_, step_, finish_, gates_;
};

}  // namespace

const CudaTactic kRnnSteps = plain_tactic<RecurrentKernel>("recurrent.steps", "RNN");
const CudaTactic kGruSteps = plain_tactic<RecurrentKernel>("recurrent.steps", "GRU");
const CudaTactic kLstmSteps = plain_tactic<RecurrentKernel>("recurrent.steps", "LSTM");

}  // namespace tenfold::cuda
