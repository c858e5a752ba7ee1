// Source for cpu.max: Linux, Documentation/admin-guide/cgroup-v2.rst, "CPU Interface Files".
#include "base/cpu_count.hpp"

#include <algorithm>
#include <fstream>
#include <sched.h>
#include <thread>

namespace tenfold {
namespace {

int scheduled() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

/// A container's limit. The file says "max 100000" or "150000 100000": microseconds of processor time a period.
int quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  long long time = 0, period = 0;
  constexpr long long kMost = 1 << 16;
  if (!(file >> time >> period) || time <= 0 || period <= 0 || time / period >= kMost) return kMost;
  return static_cast<int>((time + period - 1) / period);
}

}  // namespace

int cpu_count() {
  static const int count = std::min(scheduled(), quota());
  return count;
}

}  // namespace tenfold
