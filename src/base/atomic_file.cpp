// A writer holds a lock (flock) on its temporary file. The lock goes with the process, so a temporary file that can be
// locked belongs to nobody: a writer that was killed left it, and the next one for the same path removes it.
#include "base/atomic_file.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <random>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "base/error.hpp"

namespace tenfold {
namespace {

constexpr int kMaxAttempts = 100;
constexpr std::string_view kSuffix = ".tmp";

std::string reason(int error_number) { return std::generic_category().message(error_number); }

/// ".model.engine." and 16 digits and ".tmp". A long name is cut, so that the temporary one fits where the name fits.
std::string temporary_prefix(const std::filesystem::path& target) {
  constexpr std::size_t kMaxNameBytes = 200;
  return fmt::format(".{}.", target.filename().string().substr(0, kMaxNameBytes));
}

bool is_temporary_name(std::string_view name, std::string_view prefix) {
  constexpr std::size_t kDigits = 16;
  return name.size() == prefix.size() + kDigits + kSuffix.size() && name.starts_with(prefix) && name.ends_with(kSuffix);
}

/// Is the file that `descriptor` refers to still the one called `name`?
bool is_named(int descriptor, const std::filesystem::path& name) {
  struct stat opened {
  }, named{};
  return ::fstat(descriptor, &opened) == 0 && ::lstat(name.c_str(), &named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

/// Removes what dead writers left beside `target`. Only tidies up, so it ignores every failure.
void remove_stale(const std::filesystem::path& target) {
  const std::string prefix = temporary_prefix(target);
  const std::filesystem::path folder = target.has_parent_path() ? target.parent_path() : ".";
  std::error_code status;
  for (std::filesystem::directory_iterator entry(folder, status), end; !status && entry != end;
       entry.increment(status)) {
    if (!is_temporary_name(entry->path().filename().string(), prefix)) continue;
    const int descriptor = ::open(entry->path().c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) continue;
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0 && is_named(descriptor, entry->path())) {
      ::unlink(entry->path().c_str());
    }
    ::close(descriptor);
  }
}

/// The file under its temporary name; removes it again unless it was renamed.
class TemporaryFile {
 public:
  TemporaryFile(const std::filesystem::path& target, const std::string& path) {
    std::random_device random;
    int error = EEXIST;
    for (int attempt = 0; attempt < kMaxAttempts && error == EEXIST; ++attempt) {
      const std::uint64_t number = std::uint64_t{random()} << 32 | random();
      name_ = target.parent_path() / fmt::format("{}{:016x}{}", temporary_prefix(target), number, kSuffix);
      descriptor_ = ::open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      error = descriptor_ >= 0 ? 0 : errno;
      // Between creating and locking, another writer can take the file for a dead one's and remove it.
      if (error == 0 && (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 || !is_named(descriptor_, name_))) {
        ::close(descriptor_);
        descriptor_ = -1;
        error = EEXIST;
      }
    }
    require(error == 0, Code::io_failure, "'{}' cannot be written: {}", path, reason(error));
  }
  ~TemporaryFile() {
    if (descriptor_ < 0) return;
    if (!renamed_) ::unlink(name_.c_str());
    ::close(descriptor_);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  // Each returns 0, or the errno.

  /// Takes the room before anything is written. A file system that cannot do that finds out while writing.
  int reserve(std::size_t bytes) const {
    if (bytes == 0 || ::fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes)) == 0) return 0;
    return errno == EOPNOTSUPP || errno == ENOSYS || errno == EINTR ? 0 : errno;
  }
  int write(std::span<const std::byte> bytes) const {
    while (!bytes.empty()) {
      const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return errno;
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return 0;
  }
  int finish(const std::filesystem::path& target) {
    if (::fsync(descriptor_) != 0) return errno;
    if (::rename(name_.c_str(), target.c_str()) != 0) return errno;
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
  const std::filesystem::file_status old = std::filesystem::status(path, status);
  require(!std::filesystem::is_directory(old), Code::io_failure, "'{}' is a folder, not a file to write", path);
  require(!std::filesystem::exists(old) || std::filesystem::is_regular_file(old), Code::io_failure,
          "'{}' is a device, pipe or socket, which cannot be replaced by a file", path);
  std::size_t total = 0;
  for (const std::span<const std::byte> part : parts) total += part.size();
  // A link is followed, so that the file it names is replaced and the link stays.
  const std::filesystem::path resolved = std::filesystem::weakly_canonical(path, status);
  const std::filesystem::path target = status ? std::filesystem::path(path) : resolved;
  remove_stale(target);
  TemporaryFile file(target, path);
  int error = file.reserve(total);
  for (const std::span<const std::byte> part : parts) {
    if (error == 0) error = file.write(part);
  }
  if (error == 0) error = file.finish(target);
  require(error != ENOSPC && error != EDQUOT, Code::io_failure,
          "'{}' needs {} bytes, but the disk is full; nothing was changed", path, total);
  require(error == 0, Code::io_failure, "'{}' cannot be written: {}; nothing was changed", path, reason(error));
  sync_folder(target.parent_path());
}

void write_file_atomically(const std::string& path, std::span<const std::byte> bytes) {
  write_file_atomically(path, std::span<const std::span<const std::byte>>(&bytes, 1));
}

}  // namespace tenfold
