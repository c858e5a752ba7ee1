// What an engine file may hold at most. Writer and reader use the same numbers, so what was written can be read.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tenfold::limits {

inline constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 40;
inline constexpr std::uint64_t kMaxArenaBytes = std::uint64_t{1} << 40;
inline constexpr std::size_t kMaxSections = 16;
inline constexpr std::size_t kMaxStringBytes = 64 * 1024;
inline constexpr std::size_t kMaxStrings = 4'000'000;
/// All texts that the records of a section refer to, on top of eight times the section's size.
inline constexpr std::size_t kMaxTextBytes = 64 * 1024 * 1024;
inline constexpr std::size_t kMaxValues = 1'000'000;
inline constexpr std::size_t kMaxSteps = 1'000'000;  ///< those inside blocks included
inline constexpr std::size_t kMaxOperands = 65'536;  ///< inputs, or outputs, of one step
inline constexpr std::size_t kMaxAttributes = 256;
inline constexpr std::size_t kMaxProfiles = 64;
inline constexpr std::size_t kMaxWeightsOfStep = 1024;
inline constexpr std::size_t kMaxParameters = 256;
inline constexpr std::size_t kMaxBlocks = 2;
inline constexpr int kMaxBlockDepth = 16;
inline constexpr std::int64_t kMaxDimension = std::int64_t{1} << 40;

inline constexpr std::size_t kMaxDims = 65'536;  ///< different expressions for dimensions

}  // namespace tenfold::limits
