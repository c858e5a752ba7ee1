// Writing a file so that its path holds either the old content or the whole new one, whatever happens in between.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace tenfold {

/// Writes the parts, one after the other, to a temporary file in the same folder, flushes it to the disk and renames it
/// over `path`. On failure the temporary file is removed and an old file at `path` is untouched.
/// Throws Error(io_failure) naming path and reason; a full disk says how many bytes were needed.
void write_file_atomically(const std::string& path, std::span<const std::span<const std::byte>> parts);
void write_file_atomically(const std::string& path, std::span<const std::byte> bytes);

}  // namespace tenfold
