// The pool's protocol.
//
// A job is split into parts 0 .. n-1; thread t owns a contiguous run of them, kept as one 64-bit word {next, end} on
// its own cache line. A thread takes the parts of its own word first, which keeps data in its caches from job to job,
// and then helps with the others' words, so that a worker that wakes late delays nobody. Taking a part is a
// compare-and-swap of the word; a stale word can only match a later job's word when that job has the same part free, so
// a late thread takes a valid part of the job that runs now. `function_` and `context_` are written before the words
// are released and stay until every part has finished, hence a taken part always sees the right ones.
//
// On a busy machine the scheduler may leave a worker on the caller's processor for seconds, where the two only take
// turns. A worker that finds itself there moves away, and stays away until it meets the caller again.
#include "base/thread_pool.hpp"

#include <atomic>
#include <chrono>
#include <csignal>
#include <pthread.h>
#include <sched.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>

#include "base/error.hpp"

namespace tenfold {
namespace {

constexpr int kMaxThreads = 256;
/// A worker that sees no work for this long sleeps. Longer than the serial stretches inside one inference, short enough
/// not to burn a core between requests.
constexpr std::chrono::microseconds kSpin{200};

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Waits until `value` differs from `old`: first spinning, then asleep. Returns the new value.
std::uint32_t wait_for_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  const auto limit = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 64; ++i) {
      const std::uint32_t now = value.load(std::memory_order_acquire);
      if (now != old) return now;
      relax();
    }
  } while (std::chrono::steady_clock::now() < limit);
  std::uint32_t now;
  while ((now = value.load(std::memory_order_acquire)) == old) value.wait(old, std::memory_order_acquire);
  return now;
}

int current_processor() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

/// Keeps a worker off the caller's processor. Linux only.
class Place {
 public:
  Place() {
#if defined(__linux__)
    known_ = sched_getaffinity(0, sizeof allowed_, &allowed_) == 0 && CPU_COUNT(&allowed_) > 1;
#endif
  }
  /// Moves the calling thread elsewhere, and lets it stay away, if it runs on `processor`.
  void avoid([[maybe_unused]] int processor) {
#if defined(__linux__)
    if (!known_ || processor < 0 || processor >= CPU_SETSIZE || processor != current_processor()) return;
    cpu_set_t others = allowed_;
    CPU_CLR(static_cast<std::size_t>(processor), &others);
    known_ = CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0;
#endif
  }

 private:
#if defined(__linux__)
  cpu_set_t allowed_{};
#endif
  bool known_ = false;
};

struct alignas(128) Share {
  std::atomic<std::uint64_t> word{0};  // next << 32 | end
};

}  // namespace

struct ThreadPool::State {
  explicit State(int threads) : num_threads(threads), shares(static_cast<std::size_t>(threads)) {}

  void work(int self) {
    for (int i = 0; i < num_threads; ++i) {
      const int victim = self + i < num_threads ? self + i : self + i - num_threads;
      std::atomic<std::uint64_t>& word = shares[static_cast<std::size_t>(victim)].word;
      std::uint64_t seen = word.load(std::memory_order_acquire);
      while ((seen >> 32) < (seen & 0xffffffffU)) {
        if (!word.compare_exchange_weak(seen, seen + (std::uint64_t{1} << 32), std::memory_order_acq_rel,
                                        std::memory_order_acquire)) {
          continue;
        }
        function(context, static_cast<int>(seen >> 32), self);
        if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) {
          done.fetch_add(1, std::memory_order_release);
          done.notify_one();
        }
        seen = word.load(std::memory_order_acquire);
      }
    }
  }

  void run_worker(int self) {
    Place place;
    std::uint32_t seen = 0;
    for (;;) {
      seen = wait_for_change(generation, seen);
      if (stop.load(std::memory_order_relaxed)) return;
      place.avoid(caller_processor.load(std::memory_order_relaxed));
      work(self);
    }
  }

  void stop_workers() noexcept {
    if (getpid() != process) {
      // A fork has no workers; waiting for them would take forever.
      for (std::thread& worker : workers) worker.detach();
      return;
    }
    stop.store(true, std::memory_order_relaxed);
    generation.fetch_add(1, std::memory_order_release);
    generation.notify_all();
    for (std::thread& worker : workers) worker.join();
  }

  const pid_t process = getpid();
  const int num_threads;
  std::vector<Share> shares;
  void (*function)(const void*, int, int) = nullptr;
  const void* context = nullptr;
  std::atomic<int> caller_processor{-1};  ///< where the caller began the last job
  alignas(128) std::atomic<std::uint32_t> generation{0};
  alignas(128) std::atomic<int> unfinished{0};
  alignas(128) std::atomic<std::uint32_t> done{0};
  alignas(128) std::atomic<bool> busy{false};
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
};

ThreadPool::ThreadPool(int num_threads) {
  require(1 <= num_threads && num_threads <= kMaxThreads, Code::invalid_argument,
          "a thread pool needs 1 to {} threads, got {}", kMaxThreads, num_threads);
  state_ = std::make_unique<State>(num_threads);
  state_->workers.reserve(static_cast<std::size_t>(num_threads - 1));
  // Signals belong to the host program's threads: workers inherit a mask that blocks all of them.
  sigset_t all, previous;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &previous);
  std::string failure;
  try {
    for (int t = 1; t < num_threads; ++t) {
      state_->workers.emplace_back([state = state_.get(), t] { state->run_worker(t); });
    }
  } catch (const std::system_error& error) {
    failure = error.what();
  }
  pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  if (!failure.empty()) {
    const std::size_t started = state_->workers.size() + 1;
    state_->stop_workers();
    throw Error(Code::out_of_memory, fmt::format("a pool of {} threads could start only {}: {}; ask for fewer threads",
                                                 num_threads, started, failure));
  }
}

ThreadPool::~ThreadPool() { state_->stop_workers(); }

int ThreadPool::num_threads() const { return state_->num_threads; }

void ThreadPool::run_parts(int num_parts, void (*f)(const void*, int, int), const void* context) {
  State& state = *state_;
  if (num_parts <= 1 || state.num_threads == 1 || state.busy.exchange(true, std::memory_order_acquire)) {
    for (int part = 0; part < num_parts; ++part) f(context, part, 0);
    return;
  }
  const std::uint32_t done = state.done.load(std::memory_order_relaxed);
  state.function = f;
  state.context = context;
  state.caller_processor.store(current_processor(), std::memory_order_relaxed);
  state.unfinished.store(num_parts, std::memory_order_relaxed);
  const std::uint64_t n = static_cast<std::uint64_t>(num_parts);
  const std::uint64_t threads = static_cast<std::uint64_t>(state.num_threads);
  for (std::uint64_t t = 0; t < threads; ++t) {
    const std::uint64_t begin = n * t / threads;
    const std::uint64_t end = n * (t + 1) / threads;
    state.shares[t].word.store(begin << 32 | end, std::memory_order_release);
  }
  state.generation.fetch_add(1, std::memory_order_release);
  state.generation.notify_all();
  state.work(0);
  wait_for_change(state.done, done);
  state.busy.store(false, std::memory_order_release);
}

}  // namespace tenfold
