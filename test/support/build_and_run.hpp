// For tests: builds an engine from a graph, runs it, and compares it with the reference interpreter.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "build/builder.hpp"
#include "graph/graph.hpp"
#include "tenfold/tenfold.hpp"

namespace tenfold::test {

/// Random contents for the graph's inputs: floats in [-1, 1), integers in [0, `integer_limit`), from the seed.
std::vector<Tensor> random_inputs(const Graph& graph, const std::map<std::string, Shape>& shapes, unsigned seed,
                                  std::int64_t integer_limit = 4);

Engine build_engine(const Graph& graph, const BuildOptions& options, const Backend& backend = cpu_backend());

/// Sets inputs, runs, copies the outputs.
std::vector<Tensor> run_engine(Context& context, const Graph& graph, const std::vector<Tensor>& inputs);

/// Largest |got - expected| / (1 + max |expected|) over float outputs; infinity if shapes, types or integers differ.
double relative_error(const std::vector<Tensor>& expected, const std::vector<Tensor>& got);

/// Builds `text` with one profile, runs it at each shape set, and returns the worst relative error.
double worst_error(std::string_view text, const ProfileSpec& profile,
                   const std::vector<std::map<std::string, Shape>>& shapes, BuildOptions options = {});

}  // namespace tenfold::test
