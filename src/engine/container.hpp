// The container of an engine file: header, manifest, sections. docs/engine-format.md is its description.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/hash.hpp"

namespace tenfold {

/// The numbers are stored; 15 (signature) is reserved.
enum class SectionId : std::uint32_t {
  plan = 1,
  weights = 2,
  provenance = 3,
  report = 4,
  portable = 5,
  code = 6,
  halves = 7,
};
/// "plan"
std::string_view to_string(SectionId id);

inline constexpr std::uint32_t kFormatVersion = 2;
inline constexpr std::size_t kSectionAlignment = 4096;

struct Section {
  SectionId id = SectionId::plan;
  std::span<const std::byte> bytes;
  std::uint64_t offset = 0;
  Hash128 hash;
  Sha256 sha256{};
};

struct Container {
  std::string tenfold_version;
  std::string backend;
  std::string target;
  std::vector<Section> sections;  ///< in order of id; each at most once

  const Section* find(SectionId id) const;
};

/// The bytes of the file, in pieces that follow each other: those that the writer makes and those of the sections.
struct ContainerPieces {
  std::vector<std::vector<std::byte>> own;
  std::vector<std::span<const std::byte>> pieces;  ///< into `own` and into the sections, which must outlive this
};
/// `sections` need id and bytes only.
ContainerPieces write_container(std::string_view backend, std::string_view target, std::vector<Section> sections);

/// Checks header, manifest and padding; not the sections' hashes. Throws Error(incompatible_engine).
Container read_container(std::span<const std::byte> file);

}  // namespace tenfold
