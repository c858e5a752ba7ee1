// The measured peaks. Arithmetic: independent chains of fused multiply-adds, enough of them to hide the latency of 4 or
// 5 cycles of two units. Memory: every thread reads a part of its own, again and again. Assembly, because a compiler
// would fold or reorder the loops.
#include "peak.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "terminal.hpp"

namespace tenfold::cli {
namespace {

constexpr std::int64_t kChains = 12;
constexpr std::int64_t kLoops = 100'000;

#if defined(__x86_64__)
void spin_avx2() {
  std::int64_t n = kLoops;
  asm volatile(
      "vxorps %%ymm0, %%ymm0, %%ymm0\n vxorps %%ymm1, %%ymm1, %%ymm1\n vxorps %%ymm2, %%ymm2, %%ymm2\n"
      "vxorps %%ymm3, %%ymm3, %%ymm3\n vxorps %%ymm4, %%ymm4, %%ymm4\n vxorps %%ymm5, %%ymm5, %%ymm5\n"
      "vxorps %%ymm6, %%ymm6, %%ymm6\n vxorps %%ymm7, %%ymm7, %%ymm7\n vxorps %%ymm8, %%ymm8, %%ymm8\n"
      "vxorps %%ymm9, %%ymm9, %%ymm9\n vxorps %%ymm10, %%ymm10, %%ymm10\n vxorps %%ymm11, %%ymm11, %%ymm11\n"
      "vxorps %%ymm12, %%ymm12, %%ymm12\n"
      "1:\n"
      "vfmadd231ps %%ymm12, %%ymm12, %%ymm0\n vfmadd231ps %%ymm12, %%ymm12, %%ymm1\n"
      "vfmadd231ps %%ymm12, %%ymm12, %%ymm2\n vfmadd231ps %%ymm12, %%ymm12, %%ymm3\n"
      "vfmadd231ps %%ymm12, %%ymm12, %%ymm4\n vfmadd231ps %%ymm12, %%ymm12, %%ymm5\n"
      "vfmadd231ps %%ymm12, %%ymm12, %%ymm6\n vfmadd231ps %%ymm12, %%ymm12, %%ymm7\n"
      "vfmadd231ps %%ymm12, %%ymm12, %%ymm8\n vfmadd231ps %%ymm12, %%ymm12, %%ymm9\n"
      "vfmadd231ps %%ymm12, %%ymm12, %%ymm10\n vfmadd231ps %%ymm12, %%ymm12, %%ymm11\n"
      "dec %0\n jnz 1b\n vzeroupper\n"
      : "+r"(n)
      :
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
        "xmm12");
}

void spin_avx512() {
  std::int64_t n = kLoops;
  asm volatile(
      "vpxord %%zmm0, %%zmm0, %%zmm0\n vpxord %%zmm1, %%zmm1, %%zmm1\n vpxord %%zmm2, %%zmm2, %%zmm2\n"
      "vpxord %%zmm3, %%zmm3, %%zmm3\n vpxord %%zmm4, %%zmm4, %%zmm4\n vpxord %%zmm5, %%zmm5, %%zmm5\n"
      "vpxord %%zmm6, %%zmm6, %%zmm6\n vpxord %%zmm7, %%zmm7, %%zmm7\n vpxord %%zmm8, %%zmm8, %%zmm8\n"
      "vpxord %%zmm9, %%zmm9, %%zmm9\n vpxord %%zmm10, %%zmm10, %%zmm10\n vpxord %%zmm11, %%zmm11, %%zmm11\n"
      "vpxord %%zmm12, %%zmm12, %%zmm12\n"
      "1:\n"
      "vfmadd231ps %%zmm12, %%zmm12, %%zmm0\n vfmadd231ps %%zmm12, %%zmm12, %%zmm1\n"
      "vfmadd231ps %%zmm12, %%zmm12, %%zmm2\n vfmadd231ps %%zmm12, %%zmm12, %%zmm3\n"
      "vfmadd231ps %%zmm12, %%zmm12, %%zmm4\n vfmadd231ps %%zmm12, %%zmm12, %%zmm5\n"
      "vfmadd231ps %%zmm12, %%zmm12, %%zmm6\n vfmadd231ps %%zmm12, %%zmm12, %%zmm7\n"
      "vfmadd231ps %%zmm12, %%zmm12, %%zmm8\n vfmadd231ps %%zmm12, %%zmm12, %%zmm9\n"
      "vfmadd231ps %%zmm12, %%zmm12, %%zmm10\n vfmadd231ps %%zmm12, %%zmm12, %%zmm11\n"
      "dec %0\n jnz 1b\n vzeroupper\n"
      : "+r"(n)
      :
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
        "xmm12");
}

constexpr std::size_t kReadStep = 256;

/// `bytes` is a multiple of kReadStep.
void read_avx2(const std::byte* data, std::size_t bytes) {
  const std::byte* end = data + bytes;
  asm volatile(
      "1:\n"
      "vmovups (%0), %%ymm0\n vmovups 32(%0), %%ymm1\n vmovups 64(%0), %%ymm2\n vmovups 96(%0), %%ymm3\n"
      "vmovups 128(%0), %%ymm4\n vmovups 160(%0), %%ymm5\n vmovups 192(%0), %%ymm6\n vmovups 224(%0), %%ymm7\n"
      "add $256, %0\n cmp %1, %0\n jb 1b\n vzeroupper\n"
      : "+r"(data)
      : "r"(end)
      : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7");
}
#endif

/// Runs work(thread) on `num_threads` threads that begin together.
template <typename Work>
void run_together(int num_threads, const Work& work) {
  std::atomic<int> ready = 0;
  const auto begin = [&](std::size_t index) {
    ++ready;
    while (ready.load() < num_threads) std::this_thread::yield();
    work(index);
  };
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < static_cast<std::size_t>(num_threads); ++i) threads.emplace_back(begin, i);
  begin(0);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

double measure_peak_gflops(std::string_view target, int num_threads) {
#if defined(__x86_64__)
  const bool wide = target.find("avx512") != std::string_view::npos && __builtin_cpu_supports("avx512f");
  if (!__builtin_cpu_supports("fma")) return 0;
  const auto spin = wide ? spin_avx512 : spin_avx2;
  const double operations = static_cast<double>(kLoops * kChains * 2 * (wide ? 16 : 8));
  constexpr int kTries = 60;
  std::vector<double> best(static_cast<std::size_t>(num_threads), 0);
  run_together(num_threads, [&](std::size_t index) {
    for (int i = 0; i < kTries; ++i) {
      const double begin = now_seconds();
      spin();
      best[index] = std::max(best[index], operations / (now_seconds() - begin) * 1e-9);
    }
  });
  double sum = 0;
  for (const double gflops : best) sum += gflops;
  return sum;
#else
  (void)target, (void)num_threads;
  return 0;
#endif
}

double measure_read_gigabytes(std::size_t bytes, int num_threads) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2")) return 0;
  const std::size_t part =
      std::max(bytes / static_cast<std::size_t>(num_threads) / kReadStep, std::size_t{1}) * kReadStep;
  // A try is long enough for the clock, and there are enough of them for one without disturbance.
  const std::size_t repeats = std::max<std::size_t>(1, (std::size_t{1} << 20) / part);
  constexpr int kTries = 12;
  std::vector<double> best(static_cast<std::size_t>(num_threads), 0);
  run_together(num_threads, [&](std::size_t index) {
    const std::vector<std::byte> data(part, std::byte{1});
    for (int i = 0; i < kTries; ++i) {
      const double begin = now_seconds();
      for (std::size_t r = 0; r < repeats; ++r) read_avx2(data.data(), part);
      best[index] = std::max(best[index], static_cast<double>(part * repeats) / (now_seconds() - begin) * 1e-9);
    }
  });
  double sum = 0;
  for (const double gigabytes : best) sum += gigabytes;
  return sum;
#else
  (void)bytes, (void)num_threads;
  return 0;
#endif
}

}  // namespace tenfold::cli
