// Reads CPUID (Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E) and XCR0.
#include "backend/cpu/tier.hpp"

#include <cpuid.h>
#include <cstdint>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/env.hpp"
#include "base/error.hpp"

namespace tenfold::cpu {
namespace {

/// The register state that the operating system saves: XCR0.
std::uint64_t saved_state() {
  std::uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

Tier detect() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return Tier::none;
  constexpr unsigned kFma = 1U << 12, kOsxsave = 1U << 27, kAvx = 1U << 28, kF16c = 1U << 29;
  constexpr unsigned kLeaf1 = kFma | kOsxsave | kAvx | kF16c;
  if ((c & kLeaf1) != kLeaf1) return Tier::none;
  const std::uint64_t state = saved_state();
  constexpr std::uint64_t kYmm = 0x6, kZmm = 0xe6;
  if ((state & kYmm) != kYmm) return Tier::none;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return Tier::none;
  constexpr unsigned kAvx2 = 1U << 5, kBmi2 = 1U << 8;
  if ((b & (kAvx2 | kBmi2)) != (kAvx2 | kBmi2)) return Tier::none;
  constexpr unsigned kAvx512 = 1U << 16 | 1U << 17 | 1U << 30 | 1U << 31;  // F, DQ, BW, VL
  return (b & kAvx512) == kAvx512 && (state & kZmm) == kZmm ? Tier::avx512 : Tier::avx2;
}

bool may_use_extensions() { return !is_set(kCpuExtensionsVariable); }

bool detect_bf16_dot() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kAvx512Bf16 = 1U << 5;
  return may_use_extensions() && tier() == Tier::avx512 && __get_cpuid_count(7, 1, &a, &b, &c, &d) &&
         (a & kAvx512Bf16) != 0;
}

bool detect_byte_dot() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!may_use_extensions()) return false;
  constexpr unsigned kAvx512Vnni = 1U << 11, kAvxVnni = 1U << 4;
  if (tier() == Tier::avx512) return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & kAvx512Vnni) != 0;
  return tier() == Tier::avx2 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & kAvxVnni) != 0;
}

/// Of the bits of CPUID leaf 7.
constexpr unsigned kAmxBf16 = 1U << 22, kAmxTile = 1U << 24, kAmxInt8 = 1U << 25;

/// Linux saves tiles only for processes that asked for it: Documentation/arch/x86/xstate.rst.
bool may_use_tiles() {
  constexpr std::uint64_t kTileState = 0x60000;  // TILECFG and TILEDATA
  if (!may_use_extensions() || tier() != Tier::avx512 || (saved_state() & kTileState) != kTileState) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

/// Is there an instruction with this bit that multiplies tiles?
bool detect_tiles(unsigned products) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const unsigned wanted = kAmxTile | products;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & wanted) == wanted && may_use_tiles();
}

Tier choose() {
  const Tier machine = machine_tier();
  const auto wanted = read(kCpuTierVariable);
  if (!wanted) return machine;
  Tier limit = Tier::none;
  if (*wanted == "avx512") {
    limit = Tier::avx512;
  } else if (*wanted == "avx2") {
    limit = Tier::avx2;
  } else {
    require(*wanted == "none", Code::invalid_argument, "environment variable {} must be one of {}, got '{}'",
            kCpuTierVariable.name, kCpuTierVariable.values, *wanted);
  }
  return limit < machine ? limit : machine;
}

}  // namespace

Tier machine_tier() {
  static const Tier found = detect();
  return found;
}

Tier tier() {
  static const Tier chosen = choose();
  return chosen;
}

bool has_byte_dot() {
  static const bool found = detect_byte_dot();
  return found;
}

bool has_bf16_dot() {
  static const bool found = detect_bf16_dot();
  return found;
}

bool has_bf16_tiles() {
  static const bool found = has_bf16_dot() && detect_tiles(kAmxBf16);
  return found;
}

bool has_byte_tiles() {
  static const bool found = detect_tiles(kAmxInt8);
  return found;
}

std::string_view target_string(Tier tier) {
  switch (tier) {
    case Tier::avx512:
      return "x86-64 avx512";
    case Tier::avx2:
      return "x86-64 avx2";
    case Tier::none:
      break;
  }
  return "x86-64";
}

int vector_floats(Tier tier) { return tier == Tier::avx512 ? 16 : tier == Tier::avx2 ? 8 : 1; }

}  // namespace tenfold::cpu
