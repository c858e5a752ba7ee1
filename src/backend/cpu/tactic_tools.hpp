// What CPU tactics share: tactics without parameters, static splits over threads, estimates.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include <fmt/format.h>

#include "backend/cpu/cpu_tactic.hpp"
#include "backend/signature.hpp"
#include "base/error.hpp"

namespace tenfold::cpu {

#define TENFOLD_CPU_TACTIC(name) extern const CpuTactic name;
#include "backend/cpu/tactics.inc"
#undef TENFOLD_CPU_TACTIC

/// Touching every operand once at the memory speed of one core.
double estimate_streaming_us(const Problem& problem);

/// A tactic without parameters and packed weights. `K` is the kernel:
///   static Refusal refuses(const Signature&)      called before the constructor, also for what an engine file says
///   explicit K(const KernelSpec&)
///   static double estimate_us(const Problem&)     optional
template <typename K>
struct PlainTactic {
  static void candidates(const Problem& problem, std::vector<Candidate>& out) {
    Candidate candidate;
    if (auto refusal = K::refuses(Signature{*problem.op, problem.inputs, problem.outputs})) {
      candidate.refusal = std::move(*refusal);
    } else if constexpr (requires { K::estimate_us(problem); }) {
      candidate.estimated_us = K::estimate_us(problem);
    } else {
      candidate.estimated_us = estimate_streaming_us(problem);
    }
    out.push_back(std::move(candidate));
  }
  static std::unique_ptr<Kernel> make(const KernelSpec& spec) {
    require(spec.parameters.empty() && spec.weights.empty(), Code::incompatible_engine,
            "tactic '{}' takes no parameters and no weights", spec.tactic);
    if (const auto refusal = K::refuses(Signature{*spec.op, spec.inputs, spec.outputs})) {
      throw Error(Code::incompatible_engine,
                  fmt::format("tactic '{}' cannot run this step: {}", spec.tactic, *refusal));
    }
    return std::make_unique<K>(spec);
  }
};
template <typename K>
constexpr CpuTactic plain_tactic(std::string_view name, std::string_view op_type) {
  return {name, op_type, &PlainTactic<K>::candidates, nullptr, &PlainTactic<K>::make};
}

/// Calls f(begin, end) on contiguous ranges that cover [0, count), each a multiple of `granule` long except the last.
/// Every thread has an equal share, in up to three ranges that grow smaller, so that the other threads wait for the
/// rest of a small one; fewer where a range would take less than a few times what waking a thread costs. `ns_each`:
/// roughly what one item takes.
template <typename F>
void split(ThreadPool& pool, std::int64_t count, double ns_each, const F& f, std::int64_t granule = 1) {
  constexpr double kWorthwhileNs = 3000;
  const std::int64_t blocks = (count + granule - 1) / granule, threads = pool.num_threads();
  const double worthwhile = static_cast<double>(count) * ns_each / kWorthwhileNs;
  std::int64_t parts = worthwhile < static_cast<double>(threads) ? static_cast<std::int64_t>(worthwhile) : threads;
  parts = std::min(parts, blocks);
  if (parts <= 1) {
    if (count > 0) f(std::int64_t{0}, count);
    return;
  }
  constexpr std::int64_t kEnds[] = {0, 3, 5, 6}, kRanges = 3;  // 3 : 2 : 1
  const bool is_cut = parts == threads && worthwhile >= static_cast<double>(kRanges * threads) && blocks >= 6 * threads;
  const auto begin_of = [=](std::int64_t part) {
    const std::int64_t at =
        is_cut ? blocks * (6 * (part / kRanges) + kEnds[part % kRanges]) / (6 * threads) : blocks * part / parts;
    return std::min(at * granule, count);
  };
  pool.run(static_cast<int>(is_cut ? kRanges * threads : parts),
           [&](int part) { f(begin_of(part), begin_of(part + 1)); });
}

}  // namespace tenfold::cpu
