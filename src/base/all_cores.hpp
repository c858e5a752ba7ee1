// Independent pieces of work on all cores.
#pragma once

#include <cstddef>
#include <functional>

namespace tenfold {

/// f(i) for i = 0 .. count-1, each on one of as many threads as this process may use processors. `on_progress` is
/// called from the calling thread, about ten times a second. The first exception, of f or of `on_progress`, ends the
/// work and is thrown here.
void run_on_all_cores(std::size_t count, const std::function<void(std::size_t)>& f,
                      const std::function<void(std::size_t done, std::size_t all)>& on_progress = nullptr);

}  // namespace tenfold
