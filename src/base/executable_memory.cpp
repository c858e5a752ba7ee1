#include "base/executable_memory.hpp"

#include <cerrno>
#include <cstring>
#include <sys/mman.h>

namespace tenfold {

std::optional<ExecutableMemory> ExecutableMemory::make(std::span<const std::byte> code) noexcept {
  void* begin = mmap(nullptr, code.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (begin == MAP_FAILED) return std::nullopt;
  std::memcpy(begin, code.data(), code.size());
  ExecutableMemory memory(begin, code.size());
  if (mprotect(begin, code.size(), PROT_READ | PROT_EXEC) != 0) {
    const int reason = errno;
    { const ExecutableMemory unmapped = std::move(memory); }
    errno = reason;
    return std::nullopt;
  }
  return memory;
}

ExecutableMemory::~ExecutableMemory() {
  if (begin_ != nullptr) munmap(begin_, bytes_);
}

}  // namespace tenfold
