// How a CPU kernel is offered: one entry per tactic, listed in tactics.inc; cpu_backend.cpp does the rest.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "backend/backend.hpp"
#include "base/thread_pool.hpp"

namespace tenfold::cpu {

struct CpuTactic {
  std::string_view name;     ///< "softmax.rows"; stored in engines, never reused for something else
  std::string_view op_type;  ///< the operator it computes
  /// Appends one candidate for each set of parameters worth timing, or one with a refusal. Called only for op_type.
  void (*candidates)(const Problem& problem, std::vector<Candidate>& out);
  /// nullptr: keeps no constants of its own.
  PackedWeights (*pack)(const Problem& problem, const Candidate& candidate);
  /// Validates parameters, types and weight sizes; throws Error(incompatible_engine).
  std::unique_ptr<Kernel> (*make)(const KernelSpec& spec);
};

#define TENFOLD_CPU_TACTIC(name) extern const CpuTactic name;
#include "backend/cpu/tactics.inc"
#undef TENFOLD_CPU_TACTIC

/// The stream of the CPU backend: runs at once, on its pool.
class CpuStream final : public Stream {
 public:
  /// Scratch memory of each thread, for what a kernel keeps in cache: packed blocks, transformed tiles. A kernel that
  /// needs more asks for workspace.
  static constexpr std::size_t kScratchBytes = std::size_t{4} << 20;

  explicit CpuStream(int num_threads) : pool_(num_threads) {}
  ThreadPool& pool() { return pool_; }
  /// kScratchBytes for each thread, 64-byte aligned; block t is for thread t of ThreadPool::run_on_threads. It
  /// belongs to the calling thread: contexts that run at the same time share the stream, but never their scratch memory.
  /// Allocates on a thread's first call, and throws Error(out_of_memory).
  std::byte* scratch() {
    if (lent_scratch_ != nullptr) return lent_scratch_;
    thread_local std::unique_ptr<Buffer> memory;
    const std::size_t bytes = kScratchBytes * static_cast<std::size_t>(pool_.num_threads());
    if (!memory || memory->size_bytes() < bytes) {
      memory.reset();
      memory = cpu_backend().allocate(bytes);
    }
    return static_cast<std::byte*>(memory->data());
  }
  void synchronize() override {}

  int num_threads() const override { return pool_.num_threads(); }
  std::unique_ptr<Stream> make_lane() const override { return std::make_unique<CpuStream>(1); }
  /// Lane i works with block i of the calling thread's scratch memory.
  void run_lanes(std::span<const std::unique_ptr<Stream>> lanes, const std::function<void(int lane)>& f) override {
    std::byte* memory = scratch();
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      static_cast<CpuStream&>(*lanes[i]).lent_scratch_ = memory + i * kScratchBytes;
    }
    pool_.run(static_cast<int>(lanes.size()), f);
  }

 private:
  ThreadPool pool_;
  std::byte* lent_scratch_ = nullptr;  ///< of a lane, while its stream runs
};
inline ThreadPool& pool_of(const Launch& launch) { return static_cast<CpuStream*>(launch.stream)->pool(); }

}  // namespace tenfold::cpu
