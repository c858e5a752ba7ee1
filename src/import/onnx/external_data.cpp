// The rules follow the lessons of ONNX's own advisories (CVE-2022-25882, CVE-2024-27318, CVE-2026-27489): lexical
// checks alone were circumvented three times, so the kernel resolves the path (openat2 with RESOLVE_BENEATH).
#include "import/onnx/external_data.hpp"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <linux/openat2.h>
#include <onnx.pb.h>
#include <optional>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "import/onnx/wire.hpp"

namespace tenfold::onnx {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int get() const { return number_; }

 private:
  int number_;
};

std::vector<std::string> components(std::string_view path) {
  std::vector<std::string> result;
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (!part.empty() && part != ".") result.emplace_back(part);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
  }
  return result;
}

constexpr int kFileFlags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;

/// One component after the other, none of them a symbolic link: for kernels without openat2.
int open_stepwise(int directory, const std::string& location) {
  const std::vector<std::string> parts = components(location);
  Descriptor current(::dup(directory));
  for (std::size_t i = 0; i < parts.size() && current.get() >= 0; ++i) {
    const bool last = i + 1 == parts.size();
    current = Descriptor(
        ::openat(current.get(), parts[i].c_str(), last ? kFileFlags : O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_DIRECTORY));
  }
  return current.get() < 0 ? -1 : ::dup(current.get());
}

int open_beneath(int directory, const std::string& location) {
  open_how how{};
  how.flags = kFileFlags;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const long result = ::syscall(SYS_openat2, directory, location.c_str(), &how, sizeof(how));
  if (result >= 0) return static_cast<int>(result);
  // Old kernels lack the call, and some containers answer EPERM for calls they do not know.
  if (errno == ENOSYS || errno == EPERM) return open_stepwise(directory, location);
  return -1;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct Entry {
  std::string location;
  std::uint64_t offset = 0;
  std::optional<std::uint64_t> length;
};

Entry parse_entry(const TensorProto& proto) {
  Entry entry;
  std::map<std::string_view, std::string_view> given;
  for (const StringStringEntryProto& item : proto.external_data()) {
    require(item.key() == "location" || item.key() == "offset" || item.key() == "length" || item.key() == "checksum",
            Code::invalid_model,
            "external data has the key '{}'; only location, offset, length and checksum are allowed",
            printable(item.key()));
    require(given.emplace(item.key(), item.value()).second, Code::invalid_model, "external data has the key '{}' twice",
            item.key());
  }
  entry.location = given["location"];
  const auto number = [&](std::string_view key) -> std::optional<std::uint64_t> {
    const auto found = given.find(key);
    if (found == given.end()) return std::nullopt;
    const std::optional<std::uint64_t> value = parse_number(found->second);
    require(value.has_value(), Code::invalid_model, "external data has {} '{}', which is no byte count", key,
            printable(found->second));
    return value;
  };
  entry.offset = number("offset").value_or(0);
  entry.length = number("length");

  const std::string shown = printable(entry.location);
  require(!entry.location.empty(), Code::invalid_model, "external data names no file ('location' is missing)");
  require(entry.location.size() <= 4096 && entry.location.find('\0') == std::string::npos, Code::invalid_model,
          "external data names the file '{}', which is no path", shown);
  require(entry.location.front() != '/', Code::invalid_model,
          "external data names the absolute path '{}'; it must lie in the model's folder", shown);
  const std::vector<std::string> parts = components(entry.location);
  require(!parts.empty(), Code::invalid_model, "external data names '{}', which is no file", shown);
  for (const std::string& part : parts) {
    require(part != "..", Code::invalid_model,
            "external data names '{}', which leads out of the model's folder; put the file beside the model", shown);
  }
  return entry;
}

}  // namespace

std::shared_ptr<const MappedFile> ExternalData::open(const std::string& location) {
  const auto known = files_.find(location);
  if (known != files_.end()) return known->second;
  const std::string shown = printable(location);
  const Descriptor directory(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  require(directory.get() >= 0, Code::io_failure, "the model's folder '{}' cannot be opened: {}", directory_,
          std::generic_category().message(errno));
  const Descriptor file(open_beneath(directory.get(), location));
  if (file.get() < 0) {
    const int error = errno;
    require(error != ELOOP && error != EXDEV, Code::invalid_model,
            "external data file '{}' is reached through a symbolic link or leads out of the model's folder; put the "
            "file itself beside the model",
            shown);
    throw Error(Code::io_failure, fmt::format("external data file '{}' cannot be opened in '{}': {}", shown, directory_,
                                              std::generic_category().message(error)));
  }
  struct stat status {};
  require(::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode), Code::invalid_model,
          "external data file '{}' is no regular file", shown);
  require(status.st_nlink == 1, Code::invalid_model,
          "external data file '{}' has {} hard links; it could be somebody else's file. Copy it beside the model",
          shown, status.st_nlink);
  auto mapped = MappedFile::map(file.get(), shown, max_file_bytes_);
  files_.emplace(location, mapped);
  return mapped;
}

Tensor ExternalData::read(const TensorProto& proto, DType dtype, Shape shape) {
  require(!directory_.empty(), Code::invalid_argument,
          "its data lies in another file, and reading such files is switched off or the model came from memory");
  const Entry entry = parse_entry(proto);
  const std::uint64_t needed = static_cast<std::uint64_t>(num_elements(shape)) * size_of(dtype);
  require(!entry.length || *entry.length == needed, Code::invalid_model,
          "external data has {} bytes, but {}{} needs {}", entry.length.value_or(0), to_string(dtype), to_string(shape),
          needed);
  const std::shared_ptr<const MappedFile> file = open(entry.location);
  const std::uint64_t size = file->bytes().size();
  require(entry.offset <= size && needed <= size - entry.offset, Code::invalid_model,
          "external data lies at bytes {} to {} of '{}', which has only {}", entry.offset,
          static_cast<double>(entry.offset) + static_cast<double>(needed), printable(entry.location), size);
  const std::byte* data = file->bytes().data() + entry.offset;
  if (needed > 0 && reinterpret_cast<std::uintptr_t>(data) % size_of(dtype) == 0) {
    return Tensor(dtype, std::move(shape), data, file);
  }
  Tensor copy(dtype, std::move(shape));
  if (needed > 0) std::memcpy(copy.mutable_data(), data, needed);
  return copy;
}

}  // namespace tenfold::onnx
