// How this thread's floating-point unit rounds, and what it does with subnormal numbers.
//
// Processors compute numbers below 2^-126 in microcode, at 100 to 200 cycles an operation (Intel), and trained networks
// have them: filters that weight decay has driven to nothing, states that fade in silence. So while a network runs they
// count as zero, as in other runtimes and on GPUs. The mode is set as a whole: whatever a host program has set for
// itself, rounding upward or traps, neither changes an answer nor stops it.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "base/env.hpp"

namespace tenfold {

/// The calling thread's mode; 0 where there is none to set.
inline std::uint32_t float_mode() {
#if defined(__x86_64__)
  return _mm_getcsr();
#else
  return 0;
#endif
}
inline void set_float_mode([[maybe_unused]] std::uint32_t mode) {
#if defined(__x86_64__)
  if (mode != _mm_getcsr()) _mm_setcsr(mode);
#endif
}

/// Networks run in this mode: to nearest, no traps, subnormal numbers are zero unless kCpuSubnormalsVariable keeps
/// them. Throws Error(invalid_argument) if that has another value. From the Intel manual, volume 1, 10.2.3: what
/// MXCSR's bits mean.
inline std::uint32_t inference_float_mode() {
  constexpr std::uint32_t kNoTraps = 0x1f80, kInputsAreZero = 0x0040, kResultsAreZero = 0x8000;
  static const bool keeps_subnormals = is_set(kCpuSubnormalsVariable);
  return keeps_subnormals ? kNoTraps : kNoTraps | kInputsAreZero | kResultsAreZero;
}

/// Sets this mode for a scope, and then what was before. Threads of a ThreadPool take over the mode of their caller.
class InferenceFloatMode {
 public:
  InferenceFloatMode() : before_(float_mode()) { set_float_mode(inference_float_mode()); }
  ~InferenceFloatMode() { set_float_mode(before_); }
  InferenceFloatMode(const InferenceFloatMode&) = delete;
  InferenceFloatMode& operator=(const InferenceFloatMode&) = delete;

 private:
  std::uint32_t before_;
};

}  // namespace tenfold
