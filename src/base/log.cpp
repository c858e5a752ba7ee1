#include "base/log.hpp"

#include <atomic>
#include <memory>
#include <mutex>

namespace tenfold {
namespace {

struct Sink {
  std::mutex mutex;
  std::shared_ptr<const LogSink> function;
  std::atomic<int> least{static_cast<int>(LogLevel::none)};
};
Sink& sink() {
  static Sink instance;
  return instance;
}

}  // namespace

void set_log_sink(LogSink function, LogLevel least) {
  Sink& s = sink();
  const std::lock_guard lock(s.mutex);
  s.least.store(static_cast<int>(function ? least : LogLevel::none), std::memory_order_relaxed);
  s.function = function ? std::make_shared<const LogSink>(std::move(function)) : nullptr;
}

bool is_logged(LogLevel level) noexcept {
  return static_cast<int>(level) >= sink().least.load(std::memory_order_relaxed);
}

void log_message(LogLevel level, std::string_view message) noexcept {
  if (!is_logged(level)) return;
  Sink& s = sink();
  try {
    std::shared_ptr<const LogSink> function;
    {
      const std::lock_guard lock(s.mutex);
      function = s.function;
    }
    // Called without the lock, so that a sink may itself use the library.
    if (function) (*function)(level, message);
  } catch (...) {  // NOLINT(bugprone-empty-catch): promised in the header
  }
}

}  // namespace tenfold
