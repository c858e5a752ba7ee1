// ONNX Runtime's answer to a model, through Python where it is installed: no library is linked for it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "graph/tensor.hpp"

namespace tenfold::cli {

struct OrtAnswer {
  std::vector<std::pair<std::string, Tensor>> outputs;  ///< by name
  std::string unavailable;                              ///< why there are none
};
/// `python`: the interpreter; it must have the package `onnxruntime`. Throws Error(io_failure) for temporary files
/// only.
OrtAnswer run_onnxruntime(const std::string& python, const std::string& model,
                          const std::vector<std::pair<std::string, Tensor>>& inputs);

}  // namespace tenfold::cli
