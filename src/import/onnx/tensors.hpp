// TensorProto and SparseTensorProto -> Tensor.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "graph/tensor.hpp"
#include "import/onnx/external_data.hpp"

namespace tenfold::onnx {

class SparseTensorProto;
class TensorProto;

/// The element type of an ONNX data type number. Throws Error(unsupported) for types that Tenfold lacks (strings,
/// complex numbers, 8-bit and smaller floats, integers below 8 bits), invalid_model for a number that is no type.
DType dtype_of(int onnx_data_type);

class TensorReader {
 public:
  TensorReader(ExternalData external, std::int64_t max_sparse_bytes)
      : external_(std::move(external)), max_sparse_bytes_(max_sparse_bytes) {}

  /// The same message always gives a tensor with the same bytes in memory. Large raw data is moved out of `proto`, not
  /// copied, so nothing else may read it afterwards. Throws Error(invalid_model | unsupported | io_failure).
  Tensor read(TensorProto& proto);
  /// Dense, at most `max_sparse_bytes` large.
  Tensor read(SparseTensorProto& proto);

 private:
  Tensor decode(TensorProto& proto);

  ExternalData external_;
  std::int64_t max_sparse_bytes_;
  std::map<const void*, Tensor> done_;  // by message
};

}  // namespace tenfold::onnx
