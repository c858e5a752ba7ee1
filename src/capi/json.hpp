// JSON at the edge: options come in, descriptions go out.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenfold/compile.hpp"
#include "tenfold/tenfold.hpp"

namespace tenfold {

/// An empty text stands for {}. Throw Error(invalid_argument) for what is no JSON, for unknown keys (listing the known
/// ones) and for values of the wrong kind.
LoadOptions parse_load_options(std::string_view json);
CompileOptions parse_compile_options(std::string_view json);

std::string describe(const Engine& engine);
std::string describe(const std::vector<StepTime>& steps);

/// Throws Error(invalid_argument) unless a tensor of this shape has so many bytes. Says nothing about names and shapes
/// that the engine refuses anyway.
void check_input_bytes(const std::vector<TensorInfo>& inputs, std::string_view name, std::span<const std::int64_t> dims,
                       std::size_t size_bytes);

}  // namespace tenfold
