// RNN, GRU and LSTM: the products with all inputs as one matrix product, then step after step the products with the
// state. Threads share the units of a step, or take a direction each when steps are short.
#include "backend/cpu/kernels/recurrent.hpp"

#include <array>
#include <cstring>

#include "backend/cpu/gemm_support.hpp"
#include "backend/cpu/tactic_tools.hpp"
#include "ops/rnn.hpp"

namespace tenfold::cpu {

namespace {

using Kind = Recurrent::Kind;

struct Sizes {
  std::int64_t directions, gates, features, hidden, blocks;
  RecurrentGroups groups() const { return {blocks, vector_floats(tier())}; }
  std::int64_t padded_hidden() const { return blocks * vector_floats(tier()); }
  std::int64_t columns() const { return gates * padded_hidden(); }
  /// Gates of the recurrent product that runs first.
  std::int64_t main_gates(bool splits) const { return splits ? 2 : gates; }
};
Sizes sizes_of(const Recurrent& op, const TensorType& w, const TensorType& r) {
  Sizes sizes{};
  sizes.directions = op.num_directions();
  sizes.gates = op.num_gates();
  sizes.features = w.dims[2].constant();
  sizes.hidden = r.dims[2].constant();
  sizes.blocks = (sizes.hidden + vector_floats(tier()) - 1) / vector_floats(tier());
  return sizes;
}
/// A GRU whose reset gate acts before the product computes the candidate in a second half of the step.
bool splits_step(const Recurrent& op) { return op.spec().kind == Kind::gru && !op.spec().linear_before_reset; }

Refusal refuses(const Signature& signature) {
  const auto* op = dynamic_cast<const Recurrent*>(&signature.op);
  if (op == nullptr) return "it is no recurrent layer";
  constexpr std::array<std::string_view, 3> kNames = {"the input", "the weights", "the recurrent weights"};
  for (std::size_t i = 0; i < 3; ++i) {
    if (auto refusal = signature.refuses_dtype(i, kNames[i])) return refusal;
    if (signature.inputs[i].rank() != 3) return fmt::format("{} has rank {}", kNames[i], signature.inputs[i].rank());
    if (i > 0 && !fits_in_panels(signature.inputs[i])) return fmt::format("{} is not known or too large", kNames[i]);
  }
  const Sizes sizes = sizes_of(*op, signature.inputs[1], signature.inputs[2]);
  const auto has_shape = [&](std::size_t i, std::int64_t rows, std::int64_t depth) {
    const auto& dims = signature.inputs[i].dims;
    return dims[0] == Dim(sizes.directions) && dims[1] == Dim(rows) && dims[2] == Dim(depth);
  };
  if (!has_shape(1, sizes.gates * sizes.hidden, sizes.features) ||
      !has_shape(2, sizes.gates * sizes.hidden, sizes.hidden)) {
    return "the weights do not fit together";
  }
  if (signature.has_input(Recurrent::kBias) &&
      signature.inputs[Recurrent::kBias].dims != std::vector<Dim>{sizes.directions, 2 * sizes.gates * sizes.hidden}) {
    return "the bias does not fit the weights";
  }
  for (const int i : {Recurrent::kInitialH, Recurrent::kInitialC}) {
    if (signature.has_input(static_cast<std::size_t>(i)) &&
        signature.inputs[static_cast<std::size_t>(i)].dims[2] != Dim(sizes.hidden)) {
      return "an initial state does not fit the weights";
    }
  }
  if (signature.has_input(Recurrent::kLengths)) return "the sequences have lengths of their own";
  if (signature.has_input(Recurrent::kPeepholes)) return "there are peepholes";
  if (!op->has_default_activations()) return "the activations are not sigmoid and tanh";
  if (op->spec().clip != 0) return "sums are clipped";
  if (op->spec().input_forget) return "the input and forget gates are coupled";
  return std::nullopt;
}

/// What threads share in each step: units, of which each reads its own weights, and waits for the others' at the end;
/// or sequences, which need not wait, but all read all weights.
enum class Split : std::int64_t { units = 0, sequences = 1 };
/// Parameters: [split], then those of the tiling.
constexpr std::size_t kTiling = 1;
Split split_from(std::span<const std::int64_t> parameters) {
  require(!parameters.empty() && (parameters[0] == 0 || parameters[0] == 1), Code::incompatible_engine,
          "a recurrent layer's first parameter is 0 or 1 (threads share units or sequences), got {}",
          parameters.empty() ? "none" : std::to_string(parameters[0]));
  return static_cast<Split>(parameters[0]);
}

/// The products with the inputs are computed for so many rows (steps x sequences) at a time that the steps find them in
/// the cache.
constexpr std::int64_t kStretchRows = 96;
/// Parts of the next stretch's products for each thread.
constexpr std::int64_t kFillers = 3;

/// Column `j` of the packed order [block][gate][vector] as row of ONNX's [gate * hidden], or -1 for padding.
std::int64_t row_of_column(std::int64_t j, const Sizes& sizes) {
  const std::int64_t width = vector_floats(tier());
  const std::int64_t block = j / (sizes.gates * width), gate = j / width % sizes.gates,
                     unit = block * width + j % width;
  return unit < sizes.hidden ? gate * sizes.hidden + unit : -1;
}

/// Per direction: panels of w, bias in column order, recurrent weights, [candidate's weights], [candidate's bias].
constexpr std::size_t kBlobs = 5;
std::array<std::int64_t, kBlobs> blob_floats(const Recurrent& op, const Sizes& sizes) {
  const bool splits = splits_step(op);
  const bool has_candidate_bias = op.spec().kind == Kind::gru && !splits;
  const std::int64_t matrix = sizes.padded_hidden() * sizes.hidden;
  return {sizes.columns() * sizes.features, sizes.columns(), sizes.main_gates(splits) * matrix, splits ? matrix : 0,
          has_candidate_bias ? sizes.padded_hidden() : 0};
}

class RecurrentKernel final : public Kernel {
 public:
  explicit RecurrentKernel(const KernelSpec& spec)
      : op_(spec.op),
        layer_(dynamic_cast<const Recurrent&>(*spec.op)),
        sizes_(sizes_of(layer_, spec.inputs[1], spec.inputs[2])),
        tiling_(tiling_from(spec.parameters, kTiling)),
        split_(split_from(spec.parameters)),
        kernels_(TENFOLD_FOR_TIER(kRecurrentKernels)) {
    const auto floats = blob_floats(layer_, sizes_);
    require(spec.weights.size() == kBlobs * static_cast<std::size_t>(sizes_.directions), Code::incompatible_engine,
            "a recurrent layer of {} directions has {} packed weights, got {}", sizes_.directions,
            kBlobs * static_cast<std::size_t>(sizes_.directions), spec.weights.size());
    for (std::size_t i = 0; i < spec.weights.size(); ++i) {
      weights_.push_back(floats[i % kBlobs] == 0 ? nullptr : packed_floats(spec, i, floats[i % kBlobs]));
    }
  }

  std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView>) const override {
    const std::int64_t steps = inputs[0].dim(0), batch = inputs[0].dim(1);
    return sizeof(float) *
           static_cast<std::size_t>(sizes_.directions * (num_buffers() * stretch_rows(steps, batch) * sizes_.columns() +
                                                         5 * batch * sizes_.padded_hidden()));
  }

  void run(const Launch& launch) const override {
    const TensorView& x = launch.inputs[0];
    const std::int64_t steps = x.dim(0), batch = x.dim(1), columns = sizes_.columns();
    const std::int64_t state = batch * sizes_.padded_hidden();
    if (batch == 0) return;
    const std::int64_t stretch = stretch_steps(steps, batch);
    auto* sums = reinterpret_cast<float*>(launch.workspace.data());
    const std::int64_t sums_floats = stretch_rows(steps, batch) * columns;
    float* states = sums + num_buffers() * sizes_.directions * sums_floats;

    std::array<RecurrentStep, 2> base{};
    for (std::int64_t d = 0; d < sizes_.directions; ++d) {
      RecurrentStep& s = base[static_cast<std::size_t>(d)];
      s.batch = s.whole_batch = batch;
      s.hidden = sizes_.hidden;
      s.padded_hidden = sizes_.padded_hidden();
      s.weights = blob(d, 2);
      s.candidate_weights = blob(d, 3);
      s.candidate_bias = blob(d, 4);
      s.sums_stride = columns;
      float* own = states + d * 5 * state;
      s.c = own + 2 * state;
      s.reset_h = own + 3 * state;
      s.update = own + 4 * state;
      s.y_stride = sizes_.hidden;
      load_state(operand_of(launch.inputs, Recurrent::kInitialH), d, batch, own);
      load_state(layer_.spec().kind == Kind::lstm ? operand_of(launch.inputs, Recurrent::kInitialC) : TensorView{}, d,
                 batch, s.c);
    }
    auto* y = operand_of(launch.outputs, 0).as<float>();
    ThreadPool& pool = pool_of(launch);
    const auto first_time = [&](std::int64_t d, std::int64_t begin) {
      return runs_backwards(d) ? steps - std::min(steps, begin + stretch) : begin;
    };
    const bool overlaps = pool.num_threads() > 1 && split_ == Split::sequences && batch > kFewSequences;
    const auto sums_at = [&](std::int64_t d, std::int64_t begin) {
      const std::int64_t buffer = overlaps ? begin / stretch % 2 : 0;  // one that is used again is in the cache
      return sums + (buffer * sizes_.directions + d) * sums_floats;
    };
    const Workers workers = workers_of(launch);
    // Part `part` of `parts` of the products of the inputs of the stretch that begins there.
    const auto multiply_inputs = [&](std::int64_t begin, std::int64_t part, std::int64_t parts, const Workers& by) {
      const std::int64_t width = tiling_.tile_vectors * vector_floats(tier()), panels = (columns + width - 1) / width;
      const std::int64_t first = panels * part / parts * width;
      for (std::int64_t d = 0; d < sizes_.directions; ++d) {
        GemmArgs args;
        args.rows = (std::min(steps, begin + stretch) - begin) * batch;
        args.columns = std::min(columns, panels * (part + 1) / parts * width) - first;
        args.depth = sizes_.features;
        args.a = x.as<const float>() + first_time(d, begin) * batch * sizes_.features;
        args.a_stride = sizes_.features;
        args.panels = blob(d, 0) + first * sizes_.features;
        args.c = sums_at(d, begin) + first;
        args.c_stride = columns;
        args.finish.bias = blob(d, 1) + first;
        args.tiling = tiling_;
        TENFOLD_FOR_TIER(kGemmKernels).run(args, by);
      }
    };
    if (overlaps && steps > 0) multiply_inputs(0, 0, 1, workers);
    for (std::int64_t begin = 0; begin < steps; begin += stretch) {
      const std::int64_t end = std::min(steps, begin + stretch);
      const auto step_at = [&](std::int64_t d, std::int64_t i) {
        RecurrentStep s = base[static_cast<std::size_t>(d)];
        const std::int64_t t = runs_backwards(d) ? steps - 1 - i : i;
        float* own = states + d * 5 * state;
        s.downwards = i % 2 == 1;
        s.h = own + i % 2 * state;
        s.next_h = own + (i + 1) % 2 * state;
        s.sums = sums_at(d, begin) + (t - first_time(d, begin)) * batch * columns;
        s.y = y == nullptr ? nullptr : y + (t * sizes_.directions + d) * batch * sizes_.hidden;
        return s;
      };
      if (!overlaps) {
        multiply_inputs(begin, 0, 1, workers);
        run_steps(pool, begin, end, batch, step_at);
        continue;
      }
      // Every thread takes its sequences through the steps, and then parts of the next stretch's products, so that none
      // waits for a slower one.
      const std::int64_t shares = std::min(batch, std::int64_t{pool.num_threads()});
      const std::int64_t fillers = end < steps ? kFillers : 0, of_share = sizes_.directions + fillers;
      pool.run_on_threads(static_cast<int>(shares * of_share), [&](int item, int thread) {
        const std::int64_t share = item / of_share, i = item % of_share;
        if (i < sizes_.directions) {
          const std::int64_t first = batch * share / shares;
          all_steps(step_at, i, begin, end, first, batch * (share + 1) / shares - first);
        } else {
          // The pool is busy, so the product runs on this thread alone, which is the first one of its own.
          const std::size_t skipped = static_cast<std::size_t>(thread) * workers.scratch_bytes;
          multiply_inputs(end, share * fillers + i - sizes_.directions, shares * fillers,
                          {workers.pool, workers.scratch + skipped, workers.scratch_bytes});
        }
      });
    }
    for (std::int64_t d = 0; d < sizes_.directions; ++d) {
      const float* own = states + d * 5 * state;
      store_state(own + steps % 2 * state, operand_of(launch.outputs, 1), d, batch);
      store_state(own + 2 * state, operand_of(launch.outputs, 2), d, batch);
    }
  }

 private:
  static std::int64_t stretch_steps(std::int64_t steps, std::int64_t batch) {
    const std::int64_t most = std::max<std::int64_t>(1, kStretchRows / batch);
    const std::int64_t stretches = std::max<std::int64_t>(1, (steps + most - 1) / most);
    return (steps + stretches - 1) / stretches;
  }
  /// No fewer than a stretch has, and never more for smaller sizes: memory is planned for the largest ones.
  static std::int64_t stretch_rows(std::int64_t steps, std::int64_t batch) {
    return std::min(steps * batch, std::max(kStretchRows, batch));
  }
  /// Of sums: while threads that share sequences read one, they write the next stretch's.
  std::int64_t num_buffers() const { return split_ == Split::sequences ? 2 : 1; }
  bool runs_backwards(std::int64_t d) const {
    return layer_.spec().direction == Recurrent::Direction::reverse || d == 1;
  }

  /// step_at(direction, i) describes a step. Those of a direction for some sequences:
  template <typename StepAt>
  void all_steps(const StepAt& step_at, std::int64_t d, std::int64_t begin, std::int64_t end, std::int64_t first,
                 std::int64_t count) const {
    const std::int64_t groups = sizes_.groups().count();
    for (std::int64_t i = begin; i < end; ++i) {
      const RecurrentStep s = of_sequences(step_at(d, i), first, count);
      for (int phase = 0; phase < num_phases(); ++phase) run_groups(s, phase, 0, groups);
    }
  }
  /// Steps whose threads, if several are worth while, share units or directions.
  template <typename StepAt>
  void run_steps(ThreadPool& pool, std::int64_t begin, std::int64_t end, std::int64_t batch,
                 const StepAt& step_at) const {
    constexpr double kNsPerWeight = 0.04, kWorthwhileNs = 2000;
    const double step_ns = kNsPerWeight * static_cast<double>(sizes_.directions * batch * sizes_.columns()) *
                           static_cast<double>(sizes_.hidden);
    const std::int64_t threads = pool.num_threads(), groups = sizes_.groups().count();
    if (threads > 1 && step_ns / static_cast<double>(threads) > kWorthwhileNs) {
      // Every thread takes its share of the units of all directions in each step.
      const std::int64_t items = sizes_.directions * groups;
      const auto parts = static_cast<int>(std::min(items, threads));
      for (std::int64_t i = begin; i < end; ++i) {
        for (int phase = 0; phase < num_phases(); ++phase) {
          pool.run(parts, [&](int part) {
            for (std::int64_t item = items * part / parts; item < items * (part + 1) / parts;) {
              const std::int64_t d = item / groups, group = item % groups;
              const std::int64_t last = std::min(groups, group + items * (part + 1) / parts - item);
              run_groups(step_at(d, i), phase, group, last);
              item += last - group;
            }
          });
        }
      }
    } else if (sizes_.directions == 2 && threads > 1 &&
               step_ns * static_cast<double>(end - begin) > 2 * kWorthwhileNs) {
      pool.run(2, [&](int d) { all_steps(step_at, d, begin, end, 0, batch); });
    } else {
      for (int d = 0; d < sizes_.directions; ++d) all_steps(step_at, d, begin, end, 0, batch);
    }
  }

  const float* blob(std::int64_t direction, std::size_t index) const {
    return weights_[static_cast<std::size_t>(direction) * kBlobs + index];
  }
  static RecurrentStep of_sequences(RecurrentStep s, std::int64_t first, std::int64_t count) {
    s.batch = count;
    s.sums += first * s.sums_stride;
    for (float** rows : {&s.next_h, &s.c, &s.reset_h, &s.update}) *rows += first * s.padded_hidden;
    s.h += first * s.padded_hidden;
    if (s.y != nullptr) s.y += first * s.y_stride;
    return s;
  }
  int num_phases() const { return splits_step(layer_) ? 2 : 1; }
  void run_groups(const RecurrentStep& step, int phase, std::int64_t begin, std::int64_t end) const {
    switch (layer_.spec().kind) {
      case Kind::rnn:
        return kernels_.rnn(step, begin, end);
      case Kind::lstm:
        return kernels_.lstm(step, begin, end);
      case Kind::gru:
        if (!splits_step(layer_)) return kernels_.gru(step, begin, end);
        return phase == 0 ? kernels_.gru_gates(step, begin, end) : kernels_.gru_candidate(step, begin, end);
    }
  }
  /// Rows of `hidden` floats into padded rows; zeros without an initial state.
  void load_state(const TensorView& initial, std::int64_t d, std::int64_t batch, float* state) const {
    std::memset(state, 0, sizeof(float) * static_cast<std::size_t>(batch * sizes_.padded_hidden()));
    if (initial.data == nullptr) return;
    for (std::int64_t n = 0; n < batch; ++n) {
      std::memcpy(state + n * sizes_.padded_hidden(), initial.as<const float>() + (d * batch + n) * sizes_.hidden,
                  sizeof(float) * static_cast<std::size_t>(sizes_.hidden));
    }
  }
  void store_state(const float* state, const TensorView& out, std::int64_t d, std::int64_t batch) const {
    if (out.data == nullptr) return;
    for (std::int64_t n = 0; n < batch; ++n) {
      std::memcpy(out.as<float>() + (d * batch + n) * sizes_.hidden, state + n * sizes_.padded_hidden(),
                  sizeof(float) * static_cast<std::size_t>(sizes_.hidden));
    }
  }

  OpPtr op_;  // owns layer_
  const Recurrent& layer_;
  Sizes sizes_;
  GemmTiling tiling_;
  Split split_;
  std::vector<const float*> weights_;
  const RecurrentKernels& kernels_;
};

void candidates(const Problem& problem, std::vector<Candidate>& out) {
  auto refusal = refuses({*problem.op, problem.inputs, problem.outputs});
  for (const std::size_t i : {std::size_t{1}, std::size_t{2}, std::size_t{Recurrent::kBias}}) {
    if (refusal || i >= problem.inputs.size() || problem.inputs[i].dtype == DType::undefined) continue;
    if (problem.constants[i] == nullptr) refusal = fmt::format("input {} is computed", i);
  }
  if (refusal) {
    out.push_back({.refusal = *refusal});
    return;
  }
  const auto& layer = dynamic_cast<const Recurrent&>(*problem.op);
  const Sizes sizes = sizes_of(layer, problem.inputs[1], problem.inputs[2]);
  const std::int64_t rows = problem.input_shapes[0][0] * problem.input_shapes[0][1];
  const std::int64_t batch = problem.input_shapes[0][1];
  constexpr double kFlopsPerUs = 30'000;
  const double estimate = 2.0 * static_cast<double>(rows * sizes.columns() * sizes.directions) *
                          static_cast<double>(sizes.features + sizes.hidden) / kFlopsPerUs;
  for (const GemmTiling& tiling : promising_tilings(rows, sizes.columns(), sizes.features, {{512, kStretchRows}})) {
    for (const Split split : {Split::units, Split::sequences}) {
      if (split == Split::sequences && batch <= kFewSequences) continue;
      std::vector<std::int64_t> parameters = {static_cast<std::int64_t>(split)};
      for (const std::int64_t x : parameters_of(tiling)) parameters.push_back(x);
      out.push_back({.parameters = std::move(parameters), .estimated_us = estimate});
    }
  }
}

PackedWeights pack(const Problem& problem, const Candidate& candidate) {
  const auto& layer = dynamic_cast<const Recurrent&>(*problem.op);
  const Sizes sizes = sizes_of(layer, problem.inputs[1], problem.inputs[2]);
  const auto floats = blob_floats(layer, sizes);
  const std::int64_t rows = sizes.gates * sizes.hidden, width = vector_floats(tier());
  const bool has_bias = problem.inputs.size() > Recurrent::kBias && problem.constants[Recurrent::kBias] != nullptr;
  const bool splits = splits_step(layer);
  PackedWeights packed;
  packed.consumed_inputs = {1, 2};
  if (has_bias) packed.consumed_inputs.push_back(Recurrent::kBias);
  for (std::int64_t d = 0; d < sizes.directions; ++d) {
    const float* w = problem.constants[1]->as<float>().data() + d * rows * sizes.features;
    const float* r = problem.constants[2]->as<float>().data() + d * rows * sizes.hidden;
    const float* bias = has_bias ? problem.constants[Recurrent::kBias]->as<float>().data() + d * 2 * rows : nullptr;
    packed.blobs.push_back(pack_panels(sizes.features, sizes.columns(),
                                       tiling_from(candidate.parameters, kTiling).tile_vectors,
                                       [&](std::int64_t k, std::int64_t j) {
                                         const std::int64_t row = row_of_column(j, sizes);
                                         return row < 0 ? 0.0F : w[row * sizes.features + k];
                                       }));
    const auto add_blob = [&](std::int64_t count, const auto& value) {
      std::vector<std::byte> bytes(static_cast<std::size_t>(count) * sizeof(float));
      for (std::int64_t i = 0; i < count; ++i) {
        const float x = value(i);
        std::memcpy(bytes.data() + static_cast<std::size_t>(i) * sizeof x, &x, sizeof x);
      }
      packed.blobs.push_back(std::move(bytes));
    };
    // Both biases at once, except the candidate's recurrent one where the reset gate acts on it.
    const bool keeps_candidate = floats[4] != 0;
    add_blob(floats[1], [&](std::int64_t j) {
      const std::int64_t row = row_of_column(j, sizes);
      if (row < 0 || bias == nullptr) return 0.0F;
      return keeps_candidate && row >= 2 * sizes.hidden ? bias[row] : bias[row] + bias[rows + row];
    });
    // Panels of gates first .. first + gates - 1.
    const auto add_panels = [&](std::int64_t first, std::int64_t gates) {
      std::vector<float> panels;
      const RecurrentGroups groups = sizes.groups();
      const std::int64_t wide = recurrent_panel_vectors(gates, width);
      for (std::int64_t group = 0; group < groups.count(); ++group) {
        const std::int64_t end = groups.first_block(group + 1) * gates;
        for (std::int64_t panel = groups.first_block(group) * gates; panel < end; panel += wide) {
          const std::int64_t columns = std::min(wide, end - panel) * width;
          for (std::int64_t i = 0; i < sizes.hidden * columns; ++i) {
            const std::int64_t k = i / columns, vector = panel + i % columns / width;
            const std::int64_t unit = vector / gates * width + i % width, gate = first + vector % gates;
            panels.push_back(unit < sizes.hidden ? r[(gate * sizes.hidden + unit) * sizes.hidden + k] : 0.0F);
          }
        }
      }
      add_blob(static_cast<std::int64_t>(panels.size()),
               [&](std::int64_t i) { return panels[static_cast<std::size_t>(i)]; });
    };
    add_panels(0, sizes.main_gates(splits));
    if (splits) {
      add_panels(2, 1);
    } else {
      packed.blobs.emplace_back();
    }
    add_blob(floats[4], [&](std::int64_t unit) {
      return unit < sizes.hidden && bias != nullptr ? bias[rows + 2 * sizes.hidden + unit] : 0.0F;
    });
  }
  return packed;
}

std::unique_ptr<Kernel> make(const KernelSpec& spec) {
  const auto refusal = refuses({*spec.op, spec.inputs, spec.outputs});
  require(!refusal, Code::incompatible_engine, "tactic '{}' cannot run this layer: {}", spec.tactic,
          refusal.value_or(""));
  return std::make_unique<RecurrentKernel>(spec);
}

}  // namespace

const CpuTactic kLstm = {"recurrent.steps", "LSTM", &candidates, &pack, &make};
const CpuTactic kGru = {"recurrent.steps", "GRU", &candidates, &pack, &make};
const CpuTactic kRnn = {"recurrent.steps", "RNN", &candidates, &pack, &make};

}  // namespace tenfold::cpu
