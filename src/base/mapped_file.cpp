#include "base/mapped_file.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "base/error.hpp"

namespace tenfold {
namespace {

std::string reason(int error_number) { return std::generic_category().message(error_number); }

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path, std::uint64_t max_bytes) {
  // Without O_NONBLOCK, opening a named pipe would wait for a writer.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  require(descriptor >= 0, Code::io_failure, "'{}' cannot be opened: {}", path, reason(errno));
  try {
    auto file = map(descriptor, path, max_bytes);
    ::close(descriptor);
    return file;
  } catch (...) {
    ::close(descriptor);
    throw;
  }
}

std::shared_ptr<const MappedFile> MappedFile::map(int descriptor, const std::string& path, std::uint64_t max_bytes) {
  struct stat status {};
  require(::fstat(descriptor, &status) == 0, Code::io_failure, "'{}' cannot be read: {}", path, reason(errno));
  require(S_ISREG(status.st_mode), Code::io_failure, "'{}' is {}, not a regular file", path,
          S_ISDIR(status.st_mode) ? "a directory" : "a device, pipe or socket");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  require(size <= max_bytes, Code::invalid_argument, "'{}' has {} bytes; at most {} are accepted", path, size,
          max_bytes);
  std::span<const std::byte> bytes;
  if (size > 0) {
    void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    require(memory != MAP_FAILED, Code::io_failure, "'{}' cannot be mapped: {}", path, reason(errno));
    bytes = {static_cast<const std::byte*>(memory), static_cast<std::size_t>(size)};
  }
  return std::shared_ptr<const MappedFile>(new MappedFile(bytes));  // the constructor is private
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace tenfold
