// How many processors this process may use.
#pragma once

namespace tenfold {

/// At least 1. Respects the affinity mask (taskset, cpusets), not only what the machine has.
int cpu_count();

}  // namespace tenfold
