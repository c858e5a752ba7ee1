// Little-endian records: a writer that appends, and a reader that checks every step against the section's end.
//
// Strings are stored once each, in a table before the records; a record refers to them by index. Dimensions are strings
// in the canonical form of Dim::to_string.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/attributes.hpp"
#include "graph/dim.hpp"
#include "graph/tensor.hpp"

namespace tenfold {

static_assert(std::endian::native == std::endian::little, "engine files are read in place");

class RecordWriter {
 public:
  void u8(std::uint8_t value) { raw(&value, sizeof value); }
  void u32(std::uint32_t value) { raw(&value, sizeof value); }
  void i32(std::int32_t value) { raw(&value, sizeof value); }
  void u64(std::uint64_t value) { raw(&value, sizeof value); }
  void i64(std::int64_t value) { raw(&value, sizeof value); }
  void f64(double value) { raw(&value, sizeof value); }
  /// A number of elements. Throws Error(unsupported) above `most`, naming `what`.
  void count(std::size_t value, std::size_t most, std::string_view what);
  void string(std::string_view text);
  void dim(const Dim& dim);
  void dims(const std::vector<Dim>& dims);  ///< rank, then one string each
  void attributes(const Attributes& attributes);
  void bytes(std::span<const std::byte> data) { raw(data.data(), data.size()); }
  /// Zeros up to the next multiple of `alignment`, counted from the start of the records.
  void align(std::size_t alignment);

  /// String table and records.
  std::vector<std::byte> finish() const;

 private:
  void raw(const void* data, std::size_t size);

  std::vector<std::byte> records_;
  std::vector<std::byte> table_;
  std::map<std::string, std::uint32_t, std::less<>> strings_;
};

/// Every failure is Error(incompatible_engine) naming section, offset and rule. Holds views into the section.
class RecordReader {
 public:
  /// Reads the string table.
  RecordReader(std::string_view section, std::span<const std::byte> bytes);

  std::uint8_t u8() { return number<std::uint8_t>(); }
  std::uint32_t u32() { return number<std::uint32_t>(); }
  std::int32_t i32() { return number<std::int32_t>(); }
  std::uint64_t u64() { return number<std::uint64_t>(); }
  std::int64_t i64() { return number<std::int64_t>(); }
  double f64() { return number<double>(); }
  /// A number of elements that take at least `element_bytes` each, so that no count can exceed what the section holds.
  std::size_t count(std::size_t most, std::size_t element_bytes, std::string_view what);
  const std::string& string();
  Dim dim();
  std::vector<Dim> dims();
  DType dtype(bool may_be_undefined = false);
  Attributes attributes();
  std::span<const std::byte> bytes(std::uint64_t size);
  void align(std::size_t alignment);  ///< the bytes passed over must be 0
  bool flag();                        ///< one byte, 0 or 1
  /// All records must have been read.
  void finish();

  [[noreturn]] void fail(std::string_view rule) const;

 private:
  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, bytes(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::uint32_t string_index();

  std::string_view section_;
  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
  std::size_t records_begin_ = 0;
  std::vector<std::string> strings_;
  std::map<std::uint32_t, Dim> dims_;  // by index of their text
  std::size_t text_budget_;            // bytes of texts that may still be handed out: each can be referred to often
};

}  // namespace tenfold
