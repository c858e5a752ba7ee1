#include "base/machine_key.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <mutex>
#include <optional>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tenfold {
namespace {

using Key = std::array<unsigned char, 32>;

std::filesystem::path key_path() {
  const auto from = [](const char* name) -> std::filesystem::path {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
  };
  if (const auto base = from("XDG_CONFIG_HOME"); !base.empty()) return base / "tenfold" / "machine.key";
  if (const auto home = from("HOME"); !home.empty()) return home / ".config" / "tenfold" / "machine.key";
  return {};
}

/// A key that others can read or write is no secret, and a link may lead anywhere.
std::optional<Key> read_key(const std::filesystem::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (file < 0) return std::nullopt;
  Key key{};
  struct stat status {};
  const bool is_private = ::fstat(file, &status) == 0 && S_ISREG(status.st_mode) &&
                          (status.st_mode & (S_IRWXG | S_IRWXO)) == 0 && status.st_uid == ::geteuid() &&
                          status.st_size == static_cast<off_t>(key.size());
  const bool is_read = is_private && ::read(file, key.data(), key.size()) == static_cast<ssize_t>(key.size());
  ::close(file);
  return is_read ? std::optional(key) : std::nullopt;
}

/// Made under another name and linked: whoever is first wins, and nobody reads half a key.
void make_key(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  if (error) return;
  Key key{};
  randombytes_buf(key.data(), key.size());
  const std::string temporary = path.string() + "." + std::to_string(::getpid());
  const int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
  if (file < 0) return;
  const bool is_written =
      ::write(file, key.data(), key.size()) == static_cast<ssize_t>(key.size()) && ::fsync(file) == 0;
  ::close(file);
  if (is_written && ::link(temporary.c_str(), path.c_str()) != 0 && errno != EEXIST) {
    // No hard links here: without a key nothing is sealed.
  }
  ::unlink(temporary.c_str());
}

const std::optional<Key>& machine_key() {
  static const std::optional<Key> key = []() -> std::optional<Key> {
    const std::filesystem::path path = key_path();
    if (path.empty() || sodium_init() < 0) return std::nullopt;
    if (auto known = read_key(path)) return known;
    make_key(path);
    return read_key(path);
  }();
  return key;
}

}  // namespace

Seal seal_here(std::span<const std::span<const std::byte>> parts) {
  Seal seal{};
  const std::optional<Key>& key = machine_key();
  if (!key) return seal;
  crypto_generichash_state state;
  crypto_generichash_init(&state, key->data(), key->size(), seal.size());
  for (const std::span<const std::byte> part : parts) {
    const std::uint64_t size = part.size();
    crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(&size), sizeof size);
    crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(part.data()), part.size());
  }
  crypto_generichash_final(&state, reinterpret_cast<unsigned char*>(seal.data()), seal.size());
  return seal;
}

bool is_sealed_here(std::span<const std::span<const std::byte>> parts, const Seal& seal) {
  if (!machine_key()) return false;
  const Seal expected = seal_here(parts);
  return sodium_memcmp(expected.data(), seal.data(), seal.size()) == 0;
}

}  // namespace tenfold
