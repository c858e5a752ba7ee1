// Machine code of many kernels in one file, tenfold_cuda.cubins: what a packager compiled ahead of time. The format:
// docs/engine-format.md, "Archives of kernels".
//
// It is trusted like the library that it lies beside: machine code cannot be checked, hashes guard against damage only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/code_archive.hpp"
#include "base/hash.hpp"

namespace tenfold::cuda {

/// The machine code of a key, and the CUDA version of its compiler: 13050 is 13.5.
struct KeyedCode {
  Hash128 key;
  int compiler = 0;
  std::vector<std::byte> code;
};

class CubinArchive {
 public:
  /// Maps the file. Throws Error(io_failure) if it cannot be read, Error(invalid_argument) if it is no archive, is of
  /// another version, or its header or table is damaged.
  static CubinArchive open(const std::string& path);
  /// The same for bytes that outlive the archive; `name` is for messages.
  static CubinArchive parse(std::span<const std::byte> bytes, const std::string& name);

  std::size_t size() const { return count_; }
  /// The oldest of the compilers; 0 for an empty archive.
  int oldest_compiler() const;
  /// Compilers newer than `newest_compiler` do not count. nullopt: it is not here, or damaged, which is logged.
  std::optional<KeyedCode> find(const Hash128& key, int newest_compiler) const;

 private:
  struct Entry {
    Hash128 key, content;
    std::uint64_t offset = 0, packed_bytes = 0, bytes = 0;
    int compiler = 0;
  };
  Entry entry(std::size_t index) const;
  std::optional<KeyedCode> unpack(const Entry& entry) const;
  friend CodeArchiveSummary merge_into_archive(const std::string& path, std::span<const KeyedCode> cubins);

  std::string name_;
  std::shared_ptr<const void> owner_;
  std::span<const std::byte> bytes_;
  std::size_t count_ = 0;
};

/// Writes the archive `path` anew with what it holds and `cubins`, which replace those of the same keys. Throws
/// Error(invalid_argument) if there is a file that is no archive, Error(io_failure).
CodeArchiveSummary merge_into_archive(const std::string& path, std::span<const KeyedCode> cubins);

}  // namespace tenfold::cuda
