// How many processors this process may use.
#pragma once

namespace tenfold {

/// At least 1. Respects the affinity mask (taskset, cpusets) and the time quota of a container, rounded up; both as
/// they were at the first call.
int cpu_count();

}  // namespace tenfold
