// Tensors by name in a temporary file.
#include "value_store.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace tenfold::cli {

ValueStore::ValueStore() {
  const char* folder = std::getenv("TMPDIR");
  folder_ = folder && *folder ? folder : "/tmp";
  std::string name = folder_ + "/tenfold-values-XXXXXX";
  file_ = mkostemp(name.data(), O_CLOEXEC);
  require(file_ >= 0, Code::io_failure, "{}: cannot make a temporary file: {}", folder_, std::strerror(errno));
  unlink(name.c_str());
}

ValueStore::~ValueStore() { close(file_); }

void ValueStore::put(std::string_view name, DType dtype, const Shape& shape, const void* data, std::size_t bytes) {
  const auto* from = static_cast<const char*>(data);
  const Entry entry{dtype, shape, end_};
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t written = pwrite(file_, from + done, bytes - done, static_cast<off_t>(end_ + done));
    if (written < 0 && errno == EINTR) continue;
    require(written > 0, Code::io_failure,
            "{}: cannot keep {} more bytes of intermediate values after {}: {}; set TMPDIR to a larger disk", folder_,
            bytes, end_, std::strerror(errno));
    done += static_cast<std::size_t>(written);
  }
  end_ += bytes;
  entries_.insert_or_assign(std::string(name), entry);
}

Tensor ValueStore::get(std::string_view name) const {
  const auto found = entries_.find(name);
  ensure(found != entries_.end(), "no value '{}' in the store", name);
  Tensor tensor(found->second.dtype, found->second.shape);
  std::byte* out = tensor.mutable_data();
  for (std::size_t done = 0; done < tensor.size_bytes();) {
    const ssize_t got =
        pread(file_, out + done, tensor.size_bytes() - done, static_cast<off_t>(found->second.offset + done));
    if (got < 0 && errno == EINTR) continue;
    require(got > 0, Code::io_failure, "{}: cannot read back value '{}': {}", folder_, name, std::strerror(errno));
    done += static_cast<std::size_t>(got);
  }
  return tensor;
}

}  // namespace tenfold::cli
