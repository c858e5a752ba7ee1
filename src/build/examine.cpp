#include "build/examine.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <set>
#include <thread>

#include "base/cpu_count.hpp"
#include "base/error.hpp"
#include "base/hash.hpp"
#include "build/tactics.hpp"

namespace tenfold {
namespace {

constexpr std::chrono::milliseconds kReportEvery{100};

/// f(i) for i = 0 .. count-1, each on one of as many threads as there are processors. The first exception, of f or of
/// `on_progress`, ends the work and is thrown here.
void run_on_all_cores(std::size_t count, const std::function<void(std::size_t)>& f,
                      const std::function<void(std::size_t done, std::size_t all)>& on_progress) {
  std::atomic<std::size_t> next = 0;
  std::atomic<std::size_t> done = 0;
  std::mutex mutex;  // guards the two below
  std::exception_ptr failure;
  std::size_t running = std::min(count, static_cast<std::size_t>(cpu_count()));
  std::condition_variable changed;
  const auto fail = [&] {  // in a handler, with the mutex held
    next = count;
    if (!failure) failure = std::current_exception();
  };
  const auto work = [&] {
    try {
      for (std::size_t i = next++; i < count; i = next++) {
        f(i);
        ++done;
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      fail();
    }
    const std::lock_guard lock(mutex);
    --running;
    changed.notify_one();
  };
  std::vector<std::thread> threads;
  for (std::size_t i = running; i > 0; --i) threads.emplace_back(work);
  std::unique_lock lock(mutex);
  while (!changed.wait_for(lock, kReportEvery, [&] { return running == 0; })) {
    try {
      if (on_progress && !failure) on_progress(done, count);
    } catch (...) {
      fail();
    }
  }
  lock.unlock();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

std::vector<ExaminedKernel> examine(std::span<const Problem> problems, std::span<const std::string> nodes,
                                    const Backend& backend, KernelQuestion question, int opt_level, int num_threads,
                                    const std::function<void(std::size_t done, std::size_t all)>& on_progress) {
  const std::vector<PromisingKernel> promising = promising_kernels(problems, backend, opt_level, num_threads);
  std::vector<ExaminedKernel> kernels(promising.size());
  std::vector<Hash128> codes(promising.size());
  std::vector<std::uint8_t> has_code(promising.size());  // bytes, so that threads write to them
  const auto examine_one = [&](std::size_t i) {
    const Candidate& candidate = promising[i].candidate;
    ExaminedKernel& kernel = kernels[i];
    kernel.node = nodes[promising[i].problem];
    kernel.tactic = candidate.tactic;
    kernel.parameters = candidate.parameters;
    try {
      const PackedSpec packed = pack_spec(problems[promising[i].problem], candidate, backend);
      if (question == KernelQuestion::facts) kernel.entries = backend.examine_code(packed.spec);
      const std::vector<std::byte> code = backend.device_code(packed.spec);
      has_code[i] = !code.empty();
      codes[i] = hash128(code);
    } catch (const Error& error) {
      const bool is_answer =
          error.code() == Code::internal || (question == KernelQuestion::code && error.code() == Code::unsupported);
      if (!is_answer) throw error.in_context(kernel.node);
      kernel.problem = error.message();
    }
  };
  run_on_all_cores(promising.size(), examine_one, on_progress);

  std::vector<ExaminedKernel> result;
  std::set<Hash128> seen;
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    const bool is_new = has_code[i] != 0 && seen.insert(codes[i]).second;
    if (is_new || !kernels[i].problem.empty()) result.push_back(std::move(kernels[i]));
  }
  return result;
}

}  // namespace tenfold
