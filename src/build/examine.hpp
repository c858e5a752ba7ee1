// Looks, without a device, at the kernels that a build would time: what their compiler says, or whether there is code.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "build/builder.hpp"

namespace tenfold {

/// `nodes`: of each problem. `on_progress` is called on this thread, ten times a second, with the number of kernels
/// done and of all; what it throws ends the work. Equal kernels come once, under the first node that they are for.
std::vector<ExaminedKernel> examine(std::span<const Problem> problems, std::span<const std::string> nodes,
                                    const Backend& backend, KernelQuestion question, int opt_level, int num_threads,
                                    const std::function<void(std::size_t done, std::size_t all)>& on_progress);

}  // namespace tenfold
