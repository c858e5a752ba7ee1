// A file mapped into memory, read-only.
//
// A mapping shows what the file holds now: if another process shortens the file meanwhile, reading behind its new end
// ends this process (SIGBUS). Files from a place that others can write to must be copied first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace tenfold {

class MappedFile {
 public:
  /// Throws Error(io_failure) if the file cannot be read or is no regular file, Error(invalid_argument) if it is larger
  /// than `max_bytes`. Messages start with the path.
  static std::shared_ptr<const MappedFile> open(const std::string& path,
                                                std::uint64_t max_bytes = std::uint64_t{1} << 40);
  /// Maps an open regular file, which stays the caller's to close. `path` is for messages.
  static std::shared_ptr<const MappedFile> map(int descriptor, const std::string& path, std::uint64_t max_bytes);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  /// Valid as long as this object lives. Starts on a page boundary; empty for an empty file.
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

}  // namespace tenfold
