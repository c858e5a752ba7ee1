// Tensors by name, kept in an unlinked temporary file, so that a network's intermediate values need disk, not memory.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "graph/tensor.hpp"

namespace tenfold::cli {

class ValueStore {
 public:
  /// In $TMPDIR, or /tmp. Throws Error(io_failure).
  ValueStore();
  ~ValueStore();
  ValueStore(const ValueStore&) = delete;
  ValueStore& operator=(const ValueStore&) = delete;

  /// Replaces an older tensor of that name. Throws Error(io_failure) naming the folder and the size.
  void put(std::string_view name, DType dtype, const Shape& shape, const void* data, std::size_t bytes);
  bool has(std::string_view name) const { return entries_.contains(name); }
  Tensor get(std::string_view name) const;
  std::uint64_t bytes_on_disk() const { return end_; }

 private:
  struct Entry {
    DType dtype = DType::undefined;
    Shape shape;
    std::uint64_t offset = 0;
  };
  int file_ = -1;
  std::string folder_;
  std::uint64_t end_ = 0;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace tenfold::cli
