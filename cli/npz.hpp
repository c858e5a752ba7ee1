// NumPy's files: .npy (one array) and .npz (a zip of them, keyed by name).
// Format: numpy.lib.format, versions 1.0 to 3.0. Files are untrusted: every size is checked before memory is taken.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "graph/tensor.hpp"

namespace tenfold::cli {

/// What an array's header says.
struct ArrayHeader {
  DType dtype = DType::undefined;  ///< undefined: `descr` is none of ours
  std::string descr;               ///< as NumPy spells it: "<f4"
  Shape shape;
  bool fortran_order = false;
  std::size_t data_offset = 0;
};
/// From the first bytes of a .npy file. NumPy has no bfloat16 and no float8e4m3: two opaque bytes ("<V2", as ml_dtypes
/// writes) count as the one, one byte ("<V1") as the other. Throws Error(invalid_argument).
ArrayHeader parse_npy_header(std::string_view bytes, std::string_view what);

/// An open .npz file. Arrays are read one by one.
class NpzReader {
 public:
  /// Throws Error(io_failure | invalid_argument).
  explicit NpzReader(const std::string& path);
  /// Keys in the order of the file, without ".npy".
  std::vector<std::string> keys() const;
  bool has(std::string_view key) const;
  /// Reads the beginning only.
  ArrayHeader header(const std::string& key) const;
  Tensor read(const std::string& key) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

Tensor read_npy(const std::string& path);
/// Keeps the old file if anything fails. Throws Error(io_failure).
void write_npz(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& arrays);
/// The bytes before an array's data.
std::string npy_header(DType dtype, const Shape& shape);

}  // namespace tenfold::cli
