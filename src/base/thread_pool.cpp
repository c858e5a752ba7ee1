// The pool's protocol.
//
// What passes between two cores' caches costs 30 to 200 ns, so a job's begin is one line of memory and its end another:
// the caller writes the job, and each worker adds how many parts it has run, once for a whole share.
//
// A job is split into parts 0 .. n-1; thread t owns a contiguous run of them, its share, kept as one 64-bit word
// {generation, next, end} on a cache line of its own. Whoever comes first, mostly the owner, begins a share: a word of
// an earlier generation is free to be replaced by the share's bounds in this one. A thread takes the parts of its own
// share first, which keeps data in its caches from job to job, and then helps with the others', begun or not, so that
// a worker that wakes late delays nobody. Taking a part is a compare-and-swap of the word.
//
// A late thread that still holds an earlier job's generation and number of parts takes nothing: that job is over, so
// all of its shares are used up, in their words or by later ones, and an empty share has no part in any case. As a job
// runs until all parts taken have finished, `function` and `context` are read after a part is taken, and then belong to
// its job.
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
#include "base/float_mode.hpp"

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

/// Waits until `value` is as wanted: first spinning, then asleep.
template <typename F>
void wait_until(const std::atomic<std::uint32_t>& value, const F& is_wanted) {
  std::chrono::steady_clock::time_point limit{};
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      if (is_wanted(value.load(std::memory_order_acquire))) return;
      relax();
    }
    const auto now = std::chrono::steady_clock::now();
    if (limit == std::chrono::steady_clock::time_point{}) {
      limit = now + kSpin;
    } else if (now >= limit) {
      break;
    }
  }
  std::uint32_t seen;
  while (!is_wanted(seen = value.load(std::memory_order_acquire))) value.wait(seen, std::memory_order_acquire);
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
  std::atomic<std::uint64_t> word{0};  ///< generation << 32 | next << 16 | end
};

/// More parts than this run some at a time.
constexpr int kMaxParts = 0xffff;

/// The parts [begin, end) of thread t of `threads`.
struct Bounds {
  std::uint64_t begin, end;
  Bounds(std::uint64_t parts, std::size_t t, std::size_t threads)
      : begin(parts * t / threads), end(parts * (t + 1) / threads) {}
};

}  // namespace

struct ThreadPool::State {
  explicit State(int threads) : num_threads(threads), shares(static_cast<std::size_t>(threads)) {}

  /// The next part of a share of this job; -1 if none is left, or the job is over.
  int take(std::size_t owner, std::uint32_t of_job, std::uint32_t parts) {
    std::atomic<std::uint64_t>& word = shares[owner].word;
    std::uint64_t seen = word.load(std::memory_order_acquire);
    for (;;) {
      const auto of = static_cast<std::uint32_t>(seen >> 32);
      std::uint64_t next = seen >> 16 & 0xffff, end = seen & 0xffff;
      if (of != of_job) {
        if (static_cast<std::int32_t>(of - of_job) > 0) return -1;
        const Bounds bounds(parts, owner, shares.size());
        next = bounds.begin;
        end = bounds.end;
      }
      if (next == end) return -1;
      const std::uint64_t rest = std::uint64_t{of_job} << 32 | (next + 1) << 16 | end;
      if (word.compare_exchange_weak(seen, rest, std::memory_order_acq_rel, std::memory_order_acquire)) {
        return static_cast<int>(next);
      }
    }
  }

  /// Runs parts of this job while there are any. Returns how many; a worker's are counted as finished.
  std::uint32_t work(std::size_t self, std::uint64_t of_job) {
    const auto generation_now = static_cast<std::uint32_t>(of_job >> 32);
    const auto parts = static_cast<std::uint32_t>(of_job);
    std::uint32_t total = 0;
    for (std::size_t i = 0; i < shares.size(); ++i) {
      const std::size_t owner = self + i < shares.size() ? self + i : self + i - shares.size();
      std::uint32_t taken = 0;
      for (int part; (part = take(owner, generation_now, parts)) >= 0; ++taken) {
        function(context, part, static_cast<int>(self));
      }
      if (taken == 0) continue;
      total += taken;
      if (self == 0) continue;
      finished.fetch_add(taken, std::memory_order_acq_rel);
      finished.notify_one();
    }
    return total;
  }

  void run_worker(std::size_t self) {
    Place place;
    std::uint32_t seen = 0;
    for (;;) {
      wait_until(generation, [&](std::uint32_t now) { return now != seen; });
      if (stop.load(std::memory_order_relaxed)) return;
      place.avoid(caller_processor.load(std::memory_order_relaxed));
      const std::uint64_t of_job = job.load(std::memory_order_acquire);
      seen = static_cast<std::uint32_t>(of_job >> 32);
      set_float_mode(caller_mode.load(std::memory_order_relaxed));  // of this job or, if that is over, a later one
      work(self, of_job);
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
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
  // What the caller writes for a job, in one line.
  alignas(128) void (*function)(const void*, int, int) = nullptr;
  const void* context = nullptr;
  std::atomic<std::uint64_t> job{0};                    ///< generation << 32 | parts
  std::atomic<int> caller_processor{-1};                ///< where the caller began it
  std::atomic<std::uint32_t> caller_mode{0};            ///< see float_mode
  std::atomic<std::uint32_t> generation{0};             ///< the last to be written: what workers wait for
  alignas(128) std::atomic<std::uint32_t> finished{0};  ///< parts that workers have run, ever
  alignas(128) std::atomic<bool> busy{false};
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
      state_->workers.emplace_back([state = state_.get(), t] { state->run_worker(static_cast<std::size_t>(t)); });
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
  struct Ranges {
    void (*f)(const void*, int, int);
    const void* context;
    std::int64_t num_parts;
  };
  const Ranges ranges{f, context, num_parts};
  if (num_parts > kMaxParts) {
    state.function = [](const void* of, int range, int thread) {
      const Ranges& all = *static_cast<const Ranges*>(of);
      const std::int64_t end = all.num_parts * (range + 1) / kMaxParts;
      for (std::int64_t i = all.num_parts * range / kMaxParts; i < end; ++i) {
        all.f(all.context, static_cast<int>(i), thread);
      }
    };
    state.context = &ranges;
    num_parts = kMaxParts;
  } else {
    state.function = f;
    state.context = context;
  }
  const auto parts = static_cast<std::uint32_t>(num_parts);
  const std::uint32_t finished_before = state.finished.load(std::memory_order_relaxed);
  const std::uint32_t generation = state.generation.load(std::memory_order_relaxed) + 1;
  const std::uint64_t job = std::uint64_t{generation} << 32 | parts;
  state.caller_mode.store(float_mode(), std::memory_order_relaxed);
  state.caller_processor.store(current_processor(), std::memory_order_relaxed);
  state.job.store(job, std::memory_order_release);
  state.generation.store(generation, std::memory_order_release);
  state.generation.notify_all();
  const std::uint32_t others = parts - state.work(0, job);
  wait_until(state.finished, [&](std::uint32_t now) { return now - finished_before == others; });
  state.busy.store(false, std::memory_order_release);
}

}  // namespace tenfold
