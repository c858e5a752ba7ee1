// Entry points of the ONNX import: read the bytes, check and decode them, walk the model, report all problems at once.
#include <algorithm>
#include <filesystem>
#include <limits>
#include <onnx.pb.h>
#include <tuple>

#include "base/hash.hpp"
#include "base/mapped_file.hpp"
#include "import/import.hpp"
#include "import/onnx/importer.hpp"
#include "import/onnx/wire.hpp"

namespace tenfold {
namespace {

constexpr std::size_t kMaxListed = 50;

ImportedModel read_model(std::span<const std::byte> bytes, const std::string& directory, const ImportOptions& options) {
  require(!bytes.empty(), Code::invalid_model, "the file is empty");
  require(bytes.size() <= options.max_file_bytes, Code::invalid_argument, "it has {} bytes; at most {} are accepted",
          bytes.size(), options.max_file_bytes);
  require(bytes.size() <= static_cast<std::size_t>(std::numeric_limits<int>::max()), Code::unsupported,
          "it has {} bytes, and protobuf ends at 2 GiB; save the tensors as external data", bytes.size());
  ImportedModel result;
  onnx::ModelProto model;
  try {
    const std::int64_t nodes = onnx::check_wire(
        bytes, {.max_nodes = options.max_nodes, .max_messages = 16 * std::max<std::int64_t>(options.max_nodes, 1000)});
    result.num_model_nodes = static_cast<std::int32_t>(nodes);
  } catch (const Error& error) {
    throw Error(error.code(), "it is no readable ONNX model: " + error.message());
  }
  // The mapped bytes are decoded straight from the file: every tensor is copied once.
  require(model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())), Code::invalid_model,
          "it is no readable ONNX model: a small message inside it is broken");
  require(model.has_graph(), Code::invalid_model, "it is no ONNX model: it holds no graph");
  result.hash = hash128(bytes).to_string();
  onnx::TensorReader tensors({directory, options.max_file_bytes}, options.max_sparse_bytes);
  onnx::import_model(model, tensors, options, result);

  auto& problems = result.problems;
  const auto key = [](const ImportProblem& p) { return std::tie(p.node, p.message); };
  std::sort(problems.begin(), problems.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
  problems.erase(
      std::unique(problems.begin(), problems.end(), [&](const auto& a, const auto& b) { return key(a) == key(b); }),
      problems.end());
  return result;
}

/// Where tensors in other files may be.
std::string directory_of(const std::string& path, const ImportOptions& options) {
  if (!options.external_data) return {};
  const std::string directory = std::filesystem::path(path).parent_path().string();
  return directory.empty() ? "." : directory;
}

ImportedModel read_file(const std::string& path, const ImportOptions& options) {
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path, options.max_file_bytes);
  try {
    return read_model(file->bytes(), directory_of(path, options), options);
  } catch (const Error& error) {
    throw error.in_context("'" + path + "'");
  }
}

/// The code that says most about the model: our own fault, then a broken model, then what is missing here.
Code worst(const std::vector<ImportProblem>& problems) {
  for (const Code code :
       {Code::internal, Code::invalid_model, Code::io_failure, Code::invalid_argument, Code::out_of_memory}) {
    for (const ImportProblem& problem : problems) {
      if (problem.code == code) return code;
    }
  }
  return Code::unsupported;
}

void throw_problems(const ImportedModel& model, std::string_view what) {
  const std::vector<ImportProblem>& problems = model.problems;
  if (problems.empty()) return;
  std::string text =
      fmt::format("{} cannot be compiled: {} {}", what, problems.size(), problems.size() == 1 ? "problem" : "problems");
  for (std::size_t i = 0; i < std::min(problems.size(), kMaxListed); ++i) {
    text += fmt::format("\n  {}: {}", problems[i].node, problems[i].message);
  }
  if (problems.size() > kMaxListed) text += fmt::format("\n  ... and {} more", problems.size() - kMaxListed);
  throw Error(worst(problems), text);
}

}  // namespace

ImportedModel import_onnx(const std::string& path, const ImportOptions& options) {
  ImportedModel model = read_file(path, options);
  throw_problems(model, "'" + path + "'");
  return model;
}

ImportedModel import_onnx(std::span<const std::byte> bytes, const ImportOptions& options) {
  ImportedModel model;
  try {
    model = read_model(bytes, {}, options);
  } catch (const Error& error) {
    throw error.in_context("the model");
  }
  throw_problems(model, "the model");
  return model;
}

ImportedModel check_onnx(const std::string& path, const ImportOptions& options) { return read_file(path, options); }

ImportedModel check_onnx(std::span<const std::byte> bytes, const std::string& path, const ImportOptions& options) {
  return read_model(bytes, path.empty() ? "" : directory_of(path, options), options);
}

}  // namespace tenfold
