// One step of each kind, * the product with a matrix and . elementwise:
//   RNN   h' = f(x*W + h*R + b)
//   GRU   z = f(..), r = f(..), n = g(x*Wn + (r . h)*Rn + b)  or  g(x*Wn + bw + r . (h*Rn + br)),
//         h' = (1 - z) . n + z . h
//   LSTM  i = f(.. + Pi . c), f = f(.. + Pf . c), c' = f . c + i . g(..), o = f(.. + Po . c'), h' = o . h(c')
// Source: ONNX operator sets 7 to 22, RNN, GRU, LSTM.
#include "ops/rnn.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"
#include "ops/registry.hpp"

namespace tenfold {
namespace {

using Kind = Recurrent::Kind;
using Direction = Recurrent::Direction;

constexpr std::array<std::string_view, 3> kTypes{"RNN", "GRU", "LSTM"};
constexpr std::array<std::string_view, 3> kDirections{"forward", "reverse", "bidirectional"};

/// ONNX's activations with their defaults; NaN: takes no such parameter.
struct ActivationInfo {
  std::string_view name;
  double alpha, beta;
};
constexpr std::array<ActivationInfo, 11> kActivations{{{"relu", NAN, NAN},
                                                       {"tanh", NAN, NAN},
                                                       {"sigmoid", NAN, NAN},
                                                       {"affine", 1, 0},
                                                       {"leakyrelu", 0.01, NAN},
                                                       {"thresholdedrelu", 1, NAN},
                                                       {"scaledtanh", 1, 1},
                                                       {"hardsigmoid", 0.2, 0.5},
                                                       {"elu", 1, NAN},
                                                       {"softsign", NAN, NAN},
                                                       {"softplus", NAN, NAN}}};

const ActivationInfo* find_activation(std::string_view name) {
  const auto* found = std::find_if(kActivations.begin(), kActivations.end(),
                                   [&](const ActivationInfo& info) { return info.name == name; });
  return found == kActivations.end() ? nullptr : found;
}

int activations_per_direction(Kind kind) { return static_cast<int>(kind) + 1; }

std::vector<std::string> default_names(Kind kind, int directions) {
  std::vector<std::string> names;
  for (int d = 0; d < directions; ++d) {
    if (kind != Kind::rnn) names.emplace_back("sigmoid");
    names.emplace_back("tanh");
    if (kind == Kind::lstm) names.emplace_back("tanh");
  }
  return names;
}

bool flag_from(const Attributes& attributes, std::string_view name) { return attributes.get_int(name, 0) != 0; }

template <Kind kind>
OpPtr make(const Attributes& attributes) {
  Recurrent::Spec spec{.kind = kind};
  const std::string direction = attributes.get_string("direction", "forward");
  const auto* found = std::find(kDirections.begin(), kDirections.end(), direction);
  require(found != kDirections.end(), Code::invalid_model,
          "direction must be forward, reverse or bidirectional, got '{}'", direction);
  spec.direction = static_cast<Direction>(found - kDirections.begin());
  const int directions = spec.direction == Direction::bidirectional ? 2 : 1;
  std::vector<std::string> names = attributes.get_strings("activations", default_names(kind, directions));
  const std::vector<double> alphas = attributes.get_floats("activation_alpha", {});
  const std::vector<double> betas = attributes.get_floats("activation_beta", {});
  require(std::ssize(names) == directions * activations_per_direction(kind), Code::invalid_model,
          "{} activations are needed, got {}", directions * activations_per_direction(kind), names.size());
  std::size_t next_alpha = 0;
  std::size_t next_beta = 0;
  for (std::string& name : names) {
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    const ActivationInfo* info = find_activation(name);
    require(info != nullptr, Code::unsupported, "activation '{}' is not known", name);
    // The lists hold parameters only for those that take one.
    Recurrent::Activation activation{.name = name};
    if (!std::isnan(info->alpha)) activation.alpha = next_alpha < alphas.size() ? alphas[next_alpha++] : info->alpha;
    if (!std::isnan(info->beta)) activation.beta = next_beta < betas.size() ? betas[next_beta++] : info->beta;
    spec.activations.push_back(activation);
  }
  spec.clip = attributes.get_float("clip", 0);
  require(spec.clip >= 0, Code::invalid_model, "clip must be 0 or more, got {}", spec.clip);
  spec.input_forget = flag_from(attributes, "input_forget");
  spec.linear_before_reset = flag_from(attributes, "linear_before_reset");
  return std::make_shared<const Recurrent>(std::move(spec));
}

/// Batch-first models are imported with transpositions around the layer.
void import_recurrent(ImportNode& node) {
  Attributes attributes = node.attributes();
  const bool batch_first = flag_from(attributes, "layout");
  attributes.erase("layout");
  attributes.erase("hidden_size");  // the weights say it
  std::vector<ValueId> inputs = node.inputs();
  while (!inputs.empty() && inputs.back() == kNoValue) inputs.pop_back();
  require(inputs.size() >= 3 && inputs[0] != kNoValue && inputs[1] != kNoValue && inputs[2] != kNoValue,
          Code::invalid_model, "input, weights and recurrent weights are needed");
  const auto transpose = [&](ValueId value, std::vector<std::int64_t> order) {
    return node.add(make_op("Transpose", {{"perm", std::move(order)}}), {value});
  };
  if (batch_first) {
    inputs[0] = transpose(inputs[0], {1, 0, 2});
    for (const int state : {Recurrent::kInitialH, Recurrent::kInitialC}) {
      const auto i = static_cast<std::size_t>(state);
      if (i < inputs.size() && inputs[i] != kNoValue) inputs[i] = transpose(inputs[i], {1, 0, 2});
    }
  }
  const int num_outputs = node.num_outputs();
  const ValueId first = node.add(make_op(node.op_type(), attributes), inputs, num_outputs);
  for (int i = 0; i < num_outputs; ++i) {
    if (!node.wants_output(i)) continue;
    ValueId output = first + i;
    if (batch_first) {
      output = i == 0 ? transpose(output, {2, 0, 1, 3}) : transpose(output, {1, 0, 2});
    }
    node.set_output(i, output);
  }
}

double dot(const double* a, const double* b, std::int64_t count) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

/// The layer's operands as doubles, and one sequence in one direction.
class Run {
 public:
  Run(const Recurrent& op, EvalContext& context) : op_(op), context_(context) {
    const TensorView& x = context.input(0);
    steps_ = x.dim(0);
    batch_ = x.dim(1);
    features_ = x.dim(2);
    hidden_ = context.input(2).dim(2);
    gates_ = op.num_gates();
    directions_ = op.num_directions();
    const std::array<Shape, 8> shapes{{{steps_, batch_, features_},
                                       {directions_, gates_ * hidden_, features_},
                                       {directions_, gates_ * hidden_, hidden_},
                                       {directions_, 2 * gates_ * hidden_},
                                       {batch_},
                                       {directions_, batch_, hidden_},
                                       {directions_, batch_, hidden_},
                                       {directions_, 3 * hidden_}}};
    for (int i = 0; i < context.num_inputs(); ++i) {
      if (!context.has_input(i)) continue;
      const auto& dims = context.input(i).dims;
      const Shape& expected = shapes[static_cast<std::size_t>(i)];
      ensure(std::equal(dims.begin(), dims.end(), expected.begin(), expected.end()), "input {} has shape {}, not {}", i,
             to_string(Shape(dims.begin(), dims.end())), to_string(expected));
      operands_[static_cast<std::size_t>(i)] = load_doubles(context.input(i));
    }
    y_.assign(static_cast<std::size_t>(steps_ * directions_ * batch_ * hidden_), 0);
    last_h_.assign(static_cast<std::size_t>(directions_ * batch_ * hidden_), 0);
    last_c_ = last_h_;
  }

  void run() {
    for (std::int64_t d = 0; d < directions_; ++d) {
      for (std::int64_t n = 0; n < batch_; ++n) run_sequence(d, n);
    }
    const std::array<const std::vector<double>*, 3> results{&y_, &last_h_, &last_c_};
    for (int i = 0; i < 3; ++i) {
      if (context_.wants_output(i)) store_doubles(*results[static_cast<std::size_t>(i)], context_.output(i));
    }
  }

 private:
  const double* operand(int index, std::int64_t offset) const {
    const std::vector<double>& values = operands_[static_cast<std::size_t>(index)];
    return values.empty() ? nullptr : values.data() + offset;
  }
  double limit(double x) const {
    const double clip = op_.spec().clip;
    return clip == 0 ? x : std::clamp(x, -clip, clip);
  }
  /// x*W + bw, and below h*R + br, for one gate and unit.
  double input_sum(std::int64_t d, std::int64_t row, const double* x) const {
    const std::int64_t rows = gates_ * hidden_;
    const double* bias = operand(Recurrent::kBias, d * 2 * rows);
    return dot(x, operand(1, (d * rows + row) * features_), features_) + (bias == nullptr ? 0 : bias[row]);
  }
  double recurrent_sum(std::int64_t d, std::int64_t row, const double* h) const {
    const std::int64_t rows = gates_ * hidden_;
    const double* bias = operand(Recurrent::kBias, d * 2 * rows + rows);
    return dot(h, operand(2, (d * rows + row) * hidden_), hidden_) + (bias == nullptr ? 0 : bias[row]);
  }

  void run_sequence(std::int64_t d, std::int64_t n) {
    const auto size = static_cast<std::size_t>(hidden_);
    std::vector<double> h(size, 0);
    std::vector<double> c(size, 0);
    const std::int64_t state = (d * batch_ + n) * hidden_;
    if (const double* initial = operand(Recurrent::kInitialH, state)) std::copy_n(initial, size, h.begin());
    if (const double* initial = operand(Recurrent::kInitialC, state)) std::copy_n(initial, size, c.begin());
    std::int64_t length = steps_;
    if (const double* lengths = operand(Recurrent::kLengths, n)) {
      length = std::clamp<std::int64_t>(static_cast<std::int64_t>(*lengths), 0, steps_);
    }
    const bool backwards = op_.spec().direction == Direction::reverse || d == 1;
    for (std::int64_t i = 0; i < length; ++i) {
      const std::int64_t t = backwards ? length - 1 - i : i;
      step(d, operand(0, (t * batch_ + n) * features_), h, c);
      std::copy(h.begin(), h.end(), y_.begin() + ((t * directions_ + d) * batch_ + n) * hidden_);
    }
    std::copy(h.begin(), h.end(), last_h_.begin() + state);
    std::copy(c.begin(), c.end(), last_c_.begin() + state);
  }

  void step(std::int64_t d, const double* x, std::vector<double>& h, std::vector<double>& c) const {
    const Recurrent::Spec& spec = op_.spec();
    const auto first = static_cast<std::size_t>(d) * spec.activations.size() / static_cast<std::size_t>(directions_);
    const Recurrent::Activation* activation = spec.activations.data() + first;
    std::vector<double> next(h.size());
    const auto sum = [&](std::int64_t gate, std::int64_t unit, const std::vector<double>& hidden) {
      return input_sum(d, gate * hidden_ + unit, x) + recurrent_sum(d, gate * hidden_ + unit, hidden.data());
    };
    if (spec.kind == Kind::rnn) {
      for (std::int64_t u = 0; u < hidden_; ++u) next[static_cast<std::size_t>(u)] = activation[0](limit(sum(0, u, h)));
    } else if (spec.kind == Kind::gru) {
      std::vector<double> update(h.size()), reset(h.size()), reset_h(h.size());
      for (std::int64_t u = 0; u < hidden_; ++u) {
        const auto i = static_cast<std::size_t>(u);
        update[i] = activation[0](limit(sum(0, u, h)));
        reset[i] = activation[0](limit(sum(1, u, h)));
        reset_h[i] = reset[i] * h[i];
      }
      for (std::int64_t u = 0; u < hidden_; ++u) {
        const auto i = static_cast<std::size_t>(u);
        const double candidate = spec.linear_before_reset ? input_sum(d, 2 * hidden_ + u, x) +
                                                                reset[i] * recurrent_sum(d, 2 * hidden_ + u, h.data())
                                                          : sum(2, u, reset_h);
        next[i] = (1 - update[i]) * activation[1](limit(candidate)) + update[i] * h[i];
      }
    } else {
      const double* peepholes = operand(Recurrent::kPeepholes, d * 3 * hidden_);
      const auto peep = [&](std::int64_t gate, std::int64_t unit, double cell) {
        return peepholes == nullptr ? 0 : peepholes[gate * hidden_ + unit] * cell;
      };
      for (std::int64_t u = 0; u < hidden_; ++u) {
        const auto i = static_cast<std::size_t>(u);
        const double in = activation[0](limit(sum(0, u, h) + peep(0, u, c[i])));
        const double forget = spec.input_forget ? 1 - in : activation[0](limit(sum(2, u, h) + peep(2, u, c[i])));
        const double candidate = activation[1](limit(sum(3, u, h)));
        c[i] = forget * c[i] + in * candidate;
        const double out = activation[0](limit(sum(1, u, h) + peep(1, u, c[i])));
        next[i] = out * activation[2](c[i]);
      }
    }
    h = std::move(next);
  }

  const Recurrent& op_;
  EvalContext& context_;
  std::int64_t steps_ = 0, batch_ = 0, features_ = 0, hidden_ = 0, gates_ = 0, directions_ = 0;
  std::array<std::vector<double>, 8> operands_;
  std::vector<double> y_, last_h_, last_c_;
};

}  // namespace

double Recurrent::Activation::operator()(double x) const {
  if (name == "sigmoid") return 1 / (1 + std::exp(-x));
  if (name == "tanh") return std::tanh(x);
  if (name == "relu") return std::max(x, 0.0);
  if (name == "affine") return alpha * x + beta;
  if (name == "leakyrelu") return x < 0 ? alpha * x : x;
  if (name == "thresholdedrelu") return x > alpha ? x : 0;
  if (name == "scaledtanh") return alpha * std::tanh(beta * x);
  if (name == "hardsigmoid") return std::clamp(alpha * x + beta, 0.0, 1.0);
  if (name == "elu") return x < 0 ? alpha * std::expm1(x) : x;
  if (name == "softsign") return x / (1 + std::abs(x));
  if (name == "softplus") return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
  throw Error(Code::internal, fmt::format("unknown activation '{}'", name));
}

bool Recurrent::has_default_activations() const {
  const std::vector<std::string> names = default_names(spec_.kind, num_directions());
  return std::equal(names.begin(), names.end(), spec_.activations.begin(), spec_.activations.end(),
                    [](const std::string& name, const Activation& activation) { return name == activation.name; });
}

std::string_view Recurrent::type() const { return kTypes[static_cast<std::size_t>(spec_.kind)]; }

Attributes Recurrent::attributes() const {
  Attributes attributes{{"direction", std::string(kDirections[static_cast<std::size_t>(spec_.direction)])}};
  std::vector<std::string> names;
  std::vector<double> alphas, betas;
  for (const Activation& activation : spec_.activations) {
    const ActivationInfo* info = find_activation(activation.name);
    names.push_back(activation.name);
    if (!std::isnan(info->alpha)) alphas.push_back(activation.alpha);
    if (!std::isnan(info->beta)) betas.push_back(activation.beta);
  }
  attributes.set("activations", names);
  if (!alphas.empty()) attributes.set("activation_alpha", alphas);
  if (!betas.empty()) attributes.set("activation_beta", betas);
  if (spec_.clip != 0) attributes.set("clip", spec_.clip);
  if (spec_.input_forget) attributes.set("input_forget", std::int64_t{1});
  if (spec_.linear_before_reset) attributes.set("linear_before_reset", std::int64_t{1});
  return attributes;
}

void Recurrent::infer(InferContext& context) const {
  const bool is_lstm = spec_.kind == Kind::lstm;
  check_num_inputs(context, 3, is_lstm ? 8 : 6);
  check_num_outputs(context, 0, is_lstm ? 3 : 2);
  check_float(context, 0, "the input");
  for (int i = 0; i < 3; ++i) check_rank(context, i, 3, i == 0 ? "the input" : "the weights");
  const TensorType& x = context.input(0);
  const Dim& steps = x.dims[0];
  const Dim& batch = x.dims[1];
  const Dim hidden = context.input(2).dims[2];
  const Dim directions = num_directions();
  const Dim rows = hidden * num_gates();
  const std::array<std::vector<Dim>, 8> expected{{x.dims,
                                                  {directions, rows, x.dims[2]},
                                                  {directions, rows, hidden},
                                                  {directions, rows * 2},
                                                  {batch},
                                                  {directions, batch, hidden},
                                                  {directions, batch, hidden},
                                                  {directions, hidden * 3}}};
  constexpr std::array<std::string_view, 8> kNames{"the input",        "the weights",      "the recurrent weights",
                                                   "the bias",         "sequence lengths", "the initial state",
                                                   "the initial cell", "peepholes"};
  for (int i = 0; i < context.num_inputs(); ++i) {
    if (!context.has_input(i)) continue;
    const auto n = static_cast<std::size_t>(i);
    if (i == kLengths) {
      check_dtype(context, i, DType::int32, kNames[n]);
    } else {
      check_same_dtype(context, i, kNames[n]);
    }
    check_rank(context, i, static_cast<int>(expected[n].size()), kNames[n]);
    for (std::size_t a = 0; a < expected[n].size(); ++a) {
      require(!surely_differ(context.input(i).dims[a], expected[n][a]), Code::invalid_model,
              "{} must have shape {}, got {}", kNames[n], to_string(expected[n]), to_string(context.input(i).dims));
    }
  }
  if (context.wants_output(0)) context.set_output(0, {x.dtype, {steps, directions, batch, hidden}});
  for (int i = 1; i < 3; ++i) {
    if (context.wants_output(i)) context.set_output(i, {x.dtype, {directions, batch, hidden}});
  }
}

void Recurrent::evaluate(EvalContext& context) const { Run(*this, context).run(); }

double Recurrent::flops(std::span<const TensorType> inputs, std::span<const TensorType>) const {
  if (inputs.size() < 3 || !inputs[0].is_static() || !inputs[1].is_static() || !inputs[2].is_static()) return 0;
  const auto size = [](const TensorType& type) {
    double elements = 1;
    for (const Dim& dim : type.dims) elements *= static_cast<double>(dim.constant());
    return elements;
  };
  const auto positions = static_cast<double>(inputs[0].dims[0].constant() * inputs[0].dims[1].constant());
  return 2 * positions * (size(inputs[1]) + size(inputs[2]));
}

const OpDef kGRUDef{"GRU", make<Kind::gru>, import_recurrent};
const OpDef kLSTMDef{"LSTM", make<Kind::lstm>, import_recurrent};
const OpDef kRNNDef{"RNN", make<Kind::rnn>, import_recurrent};

}  // namespace tenfold
