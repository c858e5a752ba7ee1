// Machine code compiled ahead of time, for machines without a compiler.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tenfold {

struct CodeArchiveSummary {
  std::size_t num_kernels = 0;  ///< in the file
  std::size_t num_new = 0;      ///< of them that it did not hold before
  std::uint64_t file_bytes = 0;
};

/// Puts what the backend of `device` has compiled in this process (Backend::examine_code) into the archive `path`,
/// which is made, or keeps what it holds. Backends look for it where their library lies: see docs/cuda.md.
/// Throws Error(unsupported) for a backend that compiles nothing, Error(invalid_argument) if the file is something
/// else, Error(io_failure).
CodeArchiveSummary archive_code(std::string_view device, const std::string& path);

}  // namespace tenfold
