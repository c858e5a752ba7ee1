#include "base/all_cores.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "base/cpu_count.hpp"

namespace tenfold {
namespace {

constexpr std::chrono::milliseconds kReportEvery{100};

}  // namespace

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
  const std::size_t wanted = running;
  threads.reserve(wanted);
  try {
    while (threads.size() < wanted) threads.emplace_back(work);
  } catch (const std::system_error&) {  // no more threads are allowed: those that there are do it, or this one alone
    const std::lock_guard guard(mutex);
    running -= wanted - threads.size();
  }
  if (threads.empty() && count > 0) {
    running = 1;
    work();
  }
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

}  // namespace tenfold
