// Machine code made while the program runs.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>

namespace tenfold {

/// Pages that hold a copy of some code. They are writable first and executable afterwards, never both.
class ExecutableMemory {
 public:
  /// Offsets in `code` that are multiples of 64 are so in memory. nullopt if the system refuses; errno then says why.
  static std::optional<ExecutableMemory> make(std::span<const std::byte> code) noexcept;
  ExecutableMemory(ExecutableMemory&& other) noexcept
      : begin_(std::exchange(other.begin_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  ExecutableMemory& operator=(ExecutableMemory&&) = delete;
  ~ExecutableMemory();

  /// The code's first byte.
  const void* begin() const { return begin_; }

 private:
  ExecutableMemory(void* begin, std::size_t bytes) : begin_(begin), bytes_(bytes) {}
  void* begin_;
  std::size_t bytes_;
};

}  // namespace tenfold
