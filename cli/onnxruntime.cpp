// ONNX Runtime's answer, by a Python program of a few lines that reads and writes .npz files.
#include "onnxruntime.hpp"

#include <fmt/format.h>

#include "npz.hpp"
#include "process.hpp"

namespace tenfold::cli {
namespace {

// Status 9: not installed.
constexpr const char* kProgram = R"(
import sys
try:
    import numpy
    import onnxruntime
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(9)
model, inputs, outputs = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
with numpy.load(inputs) as arrays:
    answers = session.run(names, {name: arrays[name] for name in arrays.files})
with open(outputs, "wb") as file:
    numpy.savez(file, **dict(zip(names, answers)))
)";

std::string last_line(const std::string& text) {
  const std::size_t end = text.find_last_not_of(" \n");
  if (end == std::string::npos) return {};
  const std::size_t begin = text.rfind('\n', end);
  return text.substr(begin == std::string::npos ? 0 : begin + 1,
                     end - (begin == std::string::npos ? 0 : begin + 1) + 1);
}

}  // namespace

OrtAnswer run_onnxruntime(const std::string& python, const std::string& model,
                          const std::vector<std::pair<std::string, Tensor>>& inputs) {
  const TemporaryFolder folder;
  write_npz(folder.file("inputs.npz"), inputs);
  const auto result =
      run_process({python, "-c", kProgram, model, folder.file("inputs.npz"), folder.file("outputs.npz")});
  OrtAnswer answer;
  if (!result) {
    answer.unavailable = fmt::format("'{}' cannot be started", python);
  } else if (result->status == 9) {
    answer.unavailable = fmt::format("it is not installed for {} ({})", python, last_line(result->error_text));
  } else if (result->status != 0) {
    answer.unavailable = fmt::format("it failed: {}", last_line(result->error_text));
  } else {
    const NpzReader reader(folder.file("outputs.npz"));
    for (const std::string& key : reader.keys()) {
      if (reader.header(key).dtype != DType::undefined) answer.outputs.emplace_back(key, reader.read(key));
    }
  }
  return answer;
}

}  // namespace tenfold::cli
