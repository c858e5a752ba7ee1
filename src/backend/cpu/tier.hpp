// Instruction set tiers: kernels are compiled once for each, and the best one this machine has is picked at run time.
//
// Every file in kernels/ is built for each tier with TENFOLD_TIER set to the tier's name and puts all it defines into
// namespace tenfold::cpu::TENFOLD_TIER; it exports tables of function pointers, declared with TENFOLD_TIER_TABLE in the
// header that describes the table. Such a file must not instantiate inline functions or
// templates of other namespaces (std::vector, std::function, fmt): the linker keeps one copy of each for the whole
// program, and it might be the one with AVX-512 instructions in it. tools/check_tiers.py is the guard.
#pragma once

#include <string_view>

namespace tenfold::cpu {

enum class Tier { none = 0, avx2 = 1, avx512 = 2 };

/// What this processor and operating system offer, whatever the environment says.
Tier machine_tier();
/// What kernels use: machine_tier(), or a lower one that TENFOLD_CPU_TIER names. Fixed at the first call.
/// Throws Error(invalid_argument) for a name that is no tier.
Tier tier();
/// Has the processor, for vectors of tier(), the instruction that adds four products of bytes (VNNI)? An engine runs
/// with and without it, fastest where it was built.
bool has_byte_dot();
/// Has it, for vectors of tier(), the instruction that adds two products of bfloat16 (AVX512_BF16)?
bool has_bf16_dot();
/// Has it tiles of bfloat16 or of bytes to multiply (AMX_BF16, AMX_INT8), and does the operating system let this
/// process use them? The first call asks it to. Only with vectors of 16 floats; with tiles of bfloat16 comes
/// has_bf16_dot().
bool has_bf16_tiles();
bool has_byte_tiles();
/// "x86-64 avx512", "x86-64 avx2", "x86-64"
std::string_view target_string(Tier tier);
/// Floats in a vector register: 16, 8, 1.
int vector_floats(Tier tier);

/// Declares table `name`, which kernels/*.cpp define once in each tier: `extern const Type name;` before
/// `const Type name = {...};` in namespace tenfold::cpu::TENFOLD_TIER. Use in namespace tenfold::cpu.
#define TENFOLD_TIER_TABLE(Type, name) \
  namespace avx2 {                     \
  extern const Type name;              \
  }                                    \
  namespace avx512 {                   \
  extern const Type name;              \
  }

/// The table of the tier in use: TENFOLD_FOR_TIER(kGemmKernels). Requires tier() != Tier::none.
#define TENFOLD_FOR_TIER(name) \
  (::tenfold::cpu::tier() == ::tenfold::cpu::Tier::avx512 ? ::tenfold::cpu::avx512::name : ::tenfold::cpu::avx2::name)

}  // namespace tenfold::cpu
