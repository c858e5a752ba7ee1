#include "support/build_and_run.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "ops/interpreter.hpp"
#include "ops/registry.hpp"
#include "runtime/engine_access.hpp"

namespace tenfold::test {

std::vector<Tensor> random_inputs(const Graph& graph, const std::map<std::string, Shape>& shapes, unsigned seed,
                                  std::int64_t integer_limit) {
  std::mt19937 random(seed);
  std::vector<Tensor> inputs;
  for (const ValueId id : graph.inputs()) {
    const Value& input = graph.value(id);
    const auto given = shapes.find(input.name);
    Tensor tensor(input.type.dtype, given != shapes.end() ? given->second : input.type.static_shape());
    dispatch(input.type.dtype, [&]<typename T>() {
      for (T& element : tensor.as_mutable<T>()) {
        if constexpr (std::is_same_v<T, bool>) {
          element = random() % 2 == 0;
        } else if constexpr (std::is_integral_v<T>) {
          element = static_cast<T>(random() % static_cast<unsigned>(integer_limit));
        } else {
          element = T(std::uniform_real_distribution<float>(-1.0F, 1.0F)(random));
        }
      }
    });
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

Engine build_engine(const Graph& graph, const BuildOptions& options, const Backend& backend) {
  BuildResult result = build(graph, backend, options);
  EngineFile file;
  file.plan = std::move(result.plan);
  const auto keep = [](const std::vector<std::byte>& bytes) -> WeightData {
    Tensor copy(DType::uint8, {std::ssize(bytes)});
    if (!bytes.empty()) std::memcpy(copy.mutable_data(), bytes.data(), bytes.size());
    const auto owner = std::make_shared<const Tensor>(std::move(copy));
    return {owner->data(), bytes.size(), owner};
  };
  file.weights = keep(result.weights);
  file.code = keep(result.code);
  file.code_is_trusted = true;  // made here
  return EngineAccess::make(std::move(file), {}, backend);
}

std::vector<Tensor> run_engine(Context& context, const Graph& graph, const std::vector<Tensor>& inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    context.set_input(graph.value(graph.inputs()[i]).name, inputs[i].shape(), inputs[i].data());
  }
  context.run();
  std::vector<Tensor> outputs;
  for (const std::string& name : graph.output_names()) {
    const OutputView view = context.output(name);
    Tensor tensor(view.dtype, view.dims);
    if (view.size_bytes > 0) std::memcpy(tensor.mutable_data(), view.data, view.size_bytes);
    outputs.push_back(std::move(tensor));
  }
  return outputs;
}

double relative_error(const std::vector<Tensor>& expected, const std::vector<Tensor>& got) {
  if (expected.size() != got.size()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (expected[i].dtype() != got[i].dtype() || expected[i].shape() != got[i].shape()) {
      return std::numeric_limits<double>::infinity();
    }
    if (!is_float(expected[i].dtype())) {
      if (!expected[i].equals(got[i])) return std::numeric_limits<double>::infinity();
      continue;
    }
    const std::vector<double> a = expected[i].to_double();
    const std::vector<double> b = got[i].to_double();
    double scale = 1;
    for (const double value : a) scale = std::max(scale, std::abs(value));
    for (std::size_t k = 0; k < a.size(); ++k) {
      const bool same = a[k] == b[k] || (std::isnan(a[k]) && std::isnan(b[k]));
      if (!same) worst = std::max(worst, std::isfinite(b[k]) ? std::abs(a[k] - b[k]) / scale : 1e30);
    }
  }
  return worst;
}

double worst_error(std::string_view text, const ProfileSpec& profile,
                   const std::vector<std::map<std::string, Shape>>& shapes, BuildOptions options) {
  const Graph graph = parse_graph(text);
  if (!profile.empty()) options.profiles = {profile};
  const Engine engine = build_engine(graph, options);
  Context context = engine.make_context();
  double worst = 0;
  unsigned seed = 1;
  for (const std::map<std::string, Shape>& shape : shapes) {
    const std::vector<Tensor> inputs = random_inputs(graph, shape, seed++);
    worst = std::max(worst, relative_error(interpret(graph, inputs), run_engine(context, graph, inputs)));
  }
  return worst;
}

}  // namespace tenfold::test
