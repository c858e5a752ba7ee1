// A fork-join pool for one engine's kernels: static split, workers that spin shortly and then sleep on a futex.
#pragma once

#include <cstdint>
#include <memory>

namespace tenfold {

class ThreadPool {
 public:
  /// `num_threads` counts the caller: 1 makes no worker. Requires 1 <= num_threads <= 256.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;

  /// Calls f(part) for part = 0 .. num_parts-1, spread over the threads; returns when all are done.
  /// If another thread is using the pool at this moment, or from within f, all parts run here, one after the other:
  /// callers never wait for each other. f must not throw. Never allocates. In a forked child everything runs here.
  /// All threads compute in the caller's floating-point mode, see float_mode.hpp.
  template <typename F>
  void run(int num_parts, const F& f) {
    run_parts(
        num_parts, [](const void* context, int part, int) { (*static_cast<const F*>(context))(part); }, &f);
  }
  /// The same with f(part, thread): thread 0 is the caller, and no two parts run at once on one thread. Thread t begins
  /// with the t-th of the equal shares of the parts, whatever the job, so that what it left in its caches is found
  /// again.
  template <typename F>
  void run_on_threads(int num_parts, const F& f) {
    run_parts(
        num_parts, [](const void* context, int part, int thread) { (*static_cast<const F*>(context))(part, thread); },
        &f);
  }

  /// Splits [0, count) into contiguous ranges, a multiple of `grain` long except the last, and calls f(begin, end).
  /// Which range a call gets depends on the number of threads, so results must not.
  template <typename F>
  void parallel_for(std::int64_t count, std::int64_t grain, const F& f) {
    const std::int64_t blocks = (count + grain - 1) / grain;
    const std::int64_t parts = blocks < num_threads() ? blocks : num_threads();
    if (parts <= 1) {
      if (count > 0) f(std::int64_t{0}, count);
      return;
    }
    run(static_cast<int>(parts), [&](int part) {
      const std::int64_t begin = blocks * part / parts * grain;
      const std::int64_t end = blocks * (part + 1) / parts * grain;
      f(begin, end < count ? end : count);
    });
  }

 private:
  void run_parts(int num_parts, void (*f)(const void*, int, int), const void* context);
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tenfold
