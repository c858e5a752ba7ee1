// Plan <-> file. The format is described in docs/engine-format.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/plan.hpp"

namespace tenfold {

/// The first bytes of every engine file.
inline constexpr std::string_view kEngineMagic = "\x89TENFOLD";

struct EngineWriteOptions {
  const Graph* portable = nullptr;  ///< adds the portable section: this graph with its constants
  std::span<const std::byte> code;  ///< machine code that the plan refers to; empty: no such section
  bool half_weights = false;        ///< stores float32 weights that are float16 numbers as those; see half_weights.hpp
};
/// The whole file as bytes. Deterministic. Throws Error(unsupported) for a plan beyond the limits of the format.
std::vector<std::byte> serialize_engine(const Plan& plan, std::span<const std::byte> weights,
                                        const EngineWriteOptions& options = {});
/// Writes beside `path` and renames: `path` holds either the old file or the whole new one, whatever happens.
/// Throws Error(io_failure) naming path and reason (a full disk says how much was needed).
void write_engine(const std::string& path, const Plan& plan, std::span<const std::byte> weights,
                  const EngineWriteOptions& options = {});

struct EngineSection {
  std::string name;
  std::uint64_t offset = 0, size = 0;
  std::string hash;    ///< XXH3-128, hexadecimal
  std::string sha256;  ///< hexadecimal
};

struct EngineFile {
  Plan plan;
  WeightData weights;                ///< keeps the mapping alive
  std::span<const std::byte> bytes;  ///< the whole file; alive as long as `weights.owner`
  std::optional<Graph> portable;     ///< only read when asked for
  /// Machine code, 64-byte aligned. Nothing can be proven about it: use it only if it is trusted.
  WeightData code;
  /// Sealed together with the plan by this machine's key (base/machine_key.hpp), or the caller vouches for the file.
  bool code_is_trusted = false;
  std::vector<EngineSection> sections;
  std::string tenfold_version;
  std::uint32_t format_version = 0;
};
struct EngineReadOptions {
  /// XXH3-128 of every section. Without it, a damaged file may give wrong answers, but is as safe to run.
  bool verify_hashes = true;
  bool verify_sha256 = false;  ///< much slower; for files whose origin matters
  bool read_portable = false;
  bool trust_code = false;  ///< the caller vouches for the machine code in the file
  /// Refuse engines of another version or target, asking `backend`. nullptr: read whatever is structurally sound.
  const Backend* backend = nullptr;
  /// The same, for a backend that the file names. Names that the file may hold: see find_backend.
  std::function<const Backend&(const std::string& name)> find_backend;
};
/// Maps and validates: structure, hashes, semantics (indices, types, ranges). Throws Error(incompatible_engine) with
/// section, offset and rule; Error(io_failure) if the file cannot be read. Messages start with the path.
/// A file that others can shorten while it is in use must be read into memory first: see base/mapped_file.hpp.
EngineFile read_engine(const std::string& path, const EngineReadOptions& options = {});
/// The same from memory; `bytes` is copied.
EngineFile read_engine(std::span<const std::byte> bytes, const EngineReadOptions& options = {});

}  // namespace tenfold
