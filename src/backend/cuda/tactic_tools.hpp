// What the tactics of this folder share: estimates, checks, and tactics without parameters and packed weights.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "backend/cuda/cuda_tactic.hpp"
#include "backend/signature.hpp"

namespace tenfold::cuda {

/// Every operand passes through device memory once, and a launch costs what a launch costs in a captured graph.
double estimate_streaming_us(const Problem& problem, const DeviceTraits& traits);

/// float32, float16 or bfloat16: what float kernels load and store, computing in float32.
bool is_device_float(DType dtype);

/// A tactic without parameters and packed weights. `K` is the kernel:
///   static Refusal refuses(const Signature&)        called before everything else, also for what an engine file says
///   static Source source(const KernelSpec&, const DeviceTraits&)
///   K(const KernelSpec&, const LoadedModule&)
template <typename K>
struct PlainTactic {
  static void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
    Candidate candidate;
    if (auto refusal = K::refuses(Signature{*problem.op, problem.inputs, problem.outputs})) {
      candidate.refusal = std::move(*refusal);
    } else {
      candidate.estimated_us = estimate_streaming_us(problem, traits);
    }
    out.push_back(std::move(candidate));
  }
  static void check(const KernelSpec& spec) {
    require(spec.parameters.empty() && spec.weights.empty(), Code::incompatible_engine,
            "tactic '{}' takes no parameters and no weights", spec.tactic);
    require(!spec.outputs.empty(), Code::incompatible_engine, "tactic '{}' needs an output", spec.tactic);
    if (const auto refusal = K::refuses(Signature{*spec.op, spec.inputs, spec.outputs})) {
      throw Error(Code::incompatible_engine, fmt::format("tactic '{}' does not fit: {}", spec.tactic, *refusal));
    }
  }
  static Source source(const KernelSpec& spec, const DeviceTraits& traits) {
    check(spec);
    return K::source(spec, traits);
  }
  static std::unique_ptr<Kernel> make(const KernelSpec& spec, const LoadedModule& module) {
    check(spec);
    return std::make_unique<K>(spec, module);
  }
};
template <typename K>
constexpr CudaTactic plain_tactic(std::string_view name, std::string_view op_type) {
  return {name, op_type, PlainTactic<K>::candidates, nullptr, PlainTactic<K>::source, PlainTactic<K>::make};
}

/// Can `vector` elements, or 16 bytes of them if those are more, be loaded at once at the start of every row?
inline bool is_vector_aligned(const TensorView& view, std::int64_t vector) {
  const std::size_t bytes = std::min<std::size_t>(16, size_of(view.dtype) * static_cast<std::size_t>(vector));
  return reinterpret_cast<std::uintptr_t>(view.data) % bytes == 0 && view.pitch % vector == 0;
}
inline std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace tenfold::cuda
