#include "base/atomic_file.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.hpp"

namespace tenfold {
namespace {

constexpr int kMaxAttempts = 1000;

/// The file under its temporary name; removes it again unless it was renamed.
class TemporaryFile {
 public:
  TemporaryFile(const std::filesystem::path& target, const std::string& path) {
    for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
      name_ = target.parent_path() / fmt::format(".{}.{}.{}.tmp", target.filename().string(), ::getpid(), attempt);
      descriptor_ = ::open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
      if (descriptor_ >= 0 || errno != EEXIST) break;
    }
    require(descriptor_ >= 0, Code::io_failure, "'{}' cannot be written: {}", path, std::strerror(errno));
  }
  ~TemporaryFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!renamed_ && !name_.empty()) ::unlink(name_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  /// 0, or the errno.
  int write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return errno;
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return 0;
  }
  int finish(const std::string& path) {
    if (::fsync(descriptor_) != 0) return errno;
    const int status = ::close(descriptor_);
    descriptor_ = -1;
    if (status != 0) return errno;
    if (::rename(name_.c_str(), path.c_str()) != 0) return errno;
    renamed_ = true;
    return 0;
  }

 private:
  std::filesystem::path name_;
  int descriptor_ = -1;
  bool renamed_ = false;
};

/// Makes the rename itself durable. A file system that cannot do it (some network mounts) has still done the rename.
void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  (void)::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace

void write_file_atomically(const std::string& path, std::span<const std::span<const std::byte>> parts) {
  std::error_code status;
  require(!std::filesystem::is_directory(path, status), Code::io_failure, "'{}' is a folder, not a file to write", path);
  std::size_t total = 0;
  for (const std::span<const std::byte> part : parts) total += part.size();
  // A link is followed, so that the file it names is replaced and the link stays.
  const std::filesystem::path resolved = std::filesystem::weakly_canonical(path, status);
  const std::filesystem::path target = status ? std::filesystem::path(path) : resolved;
  TemporaryFile file(target, path);
  int error = 0;
  for (const std::span<const std::byte> part : parts) {
    if (error == 0) error = file.write(part);
  }
  if (error == 0) error = file.finish(target.string());
  if (error == ENOSPC || error == EDQUOT) {
    throw Error(Code::io_failure, fmt::format("'{}' needs {} bytes, but the disk is full; nothing was changed", path, total));
  }
  require(error == 0, Code::io_failure, "'{}' cannot be written: {}; nothing was changed", path, std::strerror(error));
  sync_folder(target.parent_path());
}

void write_file_atomically(const std::string& path, std::span<const std::byte> bytes) {
  write_file_atomically(path, std::span<const std::span<const std::byte>>(&bytes, 1));
}

}  // namespace tenfold
