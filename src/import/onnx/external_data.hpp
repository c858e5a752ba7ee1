// Tensors that an ONNX model keeps in files beside it. The model decides which file is read, so it is not trusted:
// only regular files inside the model's folder, reached without any symbolic link, with no second hard link.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "base/mapped_file.hpp"
#include "graph/tensor.hpp"

namespace tenfold::onnx {

class TensorProto;

class ExternalData {
 public:
  /// Allows files under `directory`, the folder that holds the model. An empty `directory` allows none.
  ExternalData(std::string directory, std::uint64_t max_file_bytes)
      : directory_(std::move(directory)), max_file_bytes_(max_file_bytes) {}

  /// The tensor whose bytes `proto.external_data` points at. The file stays mapped while the tensor lives.
  /// Throws Error(invalid_model) for an entry that breaks the rules, io_failure if the file cannot be read,
  /// invalid_argument if external data is not allowed here.
  Tensor read(const TensorProto& proto, DType dtype, Shape shape);

 private:
  std::shared_ptr<const MappedFile> open(const std::string& location);

  std::string directory_;
  std::uint64_t max_file_bytes_;
  std::map<std::string, std::shared_ptr<const MappedFile>> files_;  // by location
};

}  // namespace tenfold::onnx
