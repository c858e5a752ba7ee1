// Runs conformance cases of the onnx package: imports each model for the inputs' shapes, runs it, compares.
//   tenfold_conformance FOLDER [--engine | --device DEVICE | --check DEVICE] [--dynamic] < CASES
// CASES has a line "NAME RTOL ATOL" for each case; FOLDER/NAME holds model.onnx and
// test_data_set_*/{input,output}_*.pb.
// --engine also builds an engine and compares what it answers, --device one for that device, which runs three times
// (one by one, recorded, replayed); --check only asks which operators have a kernel there and needs no such device
// (cuda:h100); --dynamic imports without the inputs' shapes.
// Prints a line for each case, "NAME<tab>STATUS<tab>detail":
//   pass      every output of every data set agrees
//   fixed     the same, once integer and boolean inputs that an operator must know are compiled in as constants
//   host      the same, but operators without a kernel for the device ran on the host; the detail names them
//   refused   the importer says that something is unsupported
//   wrong     an output differs: in dtype, shape or value
//   failed    any other error; the models are valid, so this is a defect
// Ends after the last case with 0, after a failure of the device with 3 (nothing runs on it any more in this process).
// Anything else is a crash in the case whose line is missing.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <onnx.pb.h>
#include <string>
#include <vector>

#include "import/import.hpp"
#include "import/onnx/tensors.hpp"
#include "ops/interpreter.hpp"
#include "support/build_and_run.hpp"

namespace tenfold {
namespace {

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  require(file.good(), Code::io_failure, "'{}' cannot be opened", path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

Tensor read_tensor(const std::filesystem::path& path) {
  onnx::TensorProto proto;
  require(proto.ParseFromString(read_text(path)), Code::unsupported, "'{}' is no tensor", path.filename().string());
  onnx::TensorReader reader({"", 0}, std::int64_t{1} << 30);
  return reader.read(proto);
}

std::vector<Tensor> read_tensors(const std::filesystem::path& folder, const std::string& kind) {
  std::vector<Tensor> tensors;
  for (int i = 0;; ++i) {
    const std::filesystem::path path = folder / fmt::format("{}_{}.pb", kind, i);
    if (!std::filesystem::exists(path)) return tensors;
    tensors.push_back(read_tensor(path));
  }
}

/// |actual - expected| <= atol + rtol * |expected|, NaN equals NaN: numpy's assert_allclose, which onnx's runner uses.
std::string difference(const Tensor& actual, const Tensor& expected, double rtol, double atol) {
  if (actual.dtype() != expected.dtype()) {
    return fmt::format("is {}, expected {}", to_string(actual.dtype()), to_string(expected.dtype()));
  }
  if (actual.shape() != expected.shape()) {
    return fmt::format("has shape {}, expected {}", to_string(actual.shape()), to_string(expected.shape()));
  }
  // A half-precision result went through several roundings of half a unit in the last place, in another order there.
  if (actual.dtype() == DType::float16) rtol = std::max(rtol, 4 * 0x1p-10);
  if (actual.dtype() == DType::bfloat16) rtol = std::max(rtol, 4 * 0x1p-7);
  const std::vector<double> a = actual.to_double();
  const std::vector<double> e = expected.to_double();
  std::size_t wrong = 0;
  std::size_t worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == e[i] || (std::isnan(a[i]) && std::isnan(e[i]))) continue;
    if (std::abs(a[i] - e[i]) <= atol + rtol * std::abs(e[i])) continue;
    if (wrong++ == 0 || std::abs(a[i] - e[i]) > std::abs(a[worst] - e[worst])) worst = i;
  }
  if (wrong == 0) return {};
  return fmt::format("differs in {} of {} elements; element {} is {}, expected {}", wrong, a.size(), worst, a[worst],
                     e[worst]);
}

struct Mode {
  double rtol = 1e-3;
  double atol = 1e-7;
  const Backend* backend = nullptr;  // nullptr: no engine
  bool only_checks = false;
  bool dynamic = false;
  bool fix_inputs = false;
};

struct Outcome {
  std::string status;
  std::string detail;
  bool is_device_broken = false;

  bool agrees() const { return status == "pass" || status == "host"; }
};

void require_tensors(const google::protobuf::RepeatedPtrField<onnx::ValueInfoProto>& values) {
  for (const onnx::ValueInfoProto& value : values) {
    require(value.type().has_tensor_type(), Code::unsupported, "sequences, maps and optionals are not supported");
  }
}

Outcome run_set(const std::filesystem::path& folder, const onnx::ModelProto& model, const std::filesystem::path& data,
                const Mode& mode) {
  require_tensors(model.graph().input());
  require_tensors(model.graph().output());
  const std::vector<Tensor> given = read_tensors(data, "input");
  const std::vector<Tensor> expected = read_tensors(data, "output");
  ImportOptions options;
  std::map<std::string, Tensor> by_name;
  for (std::size_t i = 0; i < given.size() && static_cast<int>(i) < model.graph().input_size(); ++i) {
    const std::string& name = model.graph().input(static_cast<int>(i)).name();
    by_name[name] = given[i];
    if (!mode.dynamic) options.input_shapes[name] = given[i].shape();
    if (mode.fix_inputs && !is_float(given[i].dtype())) options.input_values[name] = given[i];
  }
  const ImportedModel imported = import_onnx((folder / "model.onnx").string(), options);
  imported.graph.verify();
  std::vector<Tensor> inputs;
  for (const ValueId id : imported.graph.inputs()) {
    const auto found = by_name.find(imported.graph.value(id).name);
    require(found != by_name.end(), Code::unsupported, "the case gives no data for input '{}'",
            imported.graph.value(id).name);
    inputs.push_back(found->second);
  }
  const auto compare = [&](const std::vector<Tensor>& outputs, std::string_view who) -> Outcome {
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (i >= outputs.size()) return {"wrong", fmt::format("{}: output {} is missing", who, i)};
      const std::string reason = difference(outputs[i], expected[i], mode.rtol, mode.atol);
      if (reason.empty()) continue;
      return {"wrong", fmt::format("{}: output '{}' {}", who, imported.graph.output_names()[i], reason)};
    }
    return {"pass", ""};
  };
  const Outcome reference = compare(interpret(imported.graph, inputs), "reference");
  if (!reference.agrees() || mode.backend == nullptr) return reference;
  BuildOptions build_options;
  build_options.opt_level = 0;
  build_options.num_threads = 2;
  std::string without_kernel;
  for (const MissingKernel& missing : missing_kernels(imported.graph, *mode.backend, build_options)) {
    if (without_kernel.find(missing.reason) != std::string::npos) continue;
    without_kernel += (without_kernel.empty() ? "" : " | ") + missing.reason;
  }
  const Outcome good = without_kernel.empty() ? Outcome{"pass", ""} : Outcome{"host", without_kernel};
  if (mode.only_checks) return good;
  build_options.allow_host = !without_kernel.empty();
  const Engine engine = test::build_engine(imported.graph, build_options, *mode.backend);
  Context context = engine.make_context();
  const int num_runs = mode.backend->is_host() ? 1 : 3;
  for (int i = 0; i < num_runs; ++i) {
    const Outcome outcome = compare(test::run_engine(context, imported.graph, inputs), fmt::format("run {}", i + 1));
    if (!outcome.agrees()) return outcome;
  }
  return good;
}

Outcome run_case(const std::filesystem::path& folder, const Mode& mode) {
  try {
    onnx::ModelProto model;
    require(model.ParseFromString(read_text(folder / "model.onnx")), Code::invalid_model, "model.onnx does not decode");
    Outcome outcome{"pass", ""};
    for (int i = 0; std::filesystem::exists(folder / fmt::format("test_data_set_{}", i)); ++i) {
      outcome = run_set(folder, model, folder / fmt::format("test_data_set_{}", i), mode);
      if (!outcome.agrees()) return outcome;
    }
    return outcome;
  } catch (const Error& error) {
    return {error.code() == Code::unsupported ? "refused" : "failed",
            fmt::format("{}: {}", to_string(error.code()), error.message()), error.code() == Code::device_failure};
  } catch (const std::exception& error) {
    return {"failed", error.what()};
  }
}

/// A case whose operators want to know their integer inputs gets them as constants.
Outcome run_case_with_constants(const std::filesystem::path& folder, Mode mode) {
  const Outcome outcome = run_case(folder, mode);
  if (outcome.status != "refused" || outcome.detail.find("must be a constant") == std::string::npos) return outcome;
  mode.fix_inputs = true;
  const Outcome again = run_case(folder, mode);
  if (again.status == "pass") return {"fixed", outcome.detail};
  return again.status == "refused" ? outcome : again;
}

int run_cases(const std::filesystem::path& folder, Mode mode) {
  std::string name;
  while (std::cin >> name >> mode.rtol >> mode.atol) {
    Outcome outcome = run_case_with_constants(folder / name, mode);
    std::replace_if(
        outcome.detail.begin(), outcome.detail.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
    fmt::print("{}\t{}\t{}\n", name, outcome.status, outcome.detail);
    std::fflush(stdout);
    constexpr int kDeviceBroken = 3;
    if (outcome.is_device_broken) return kDeviceBroken;
  }
  return 0;
}

}  // namespace
}  // namespace tenfold

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: tenfold_conformance FOLDER [--engine | --device DEVICE | --check DEVICE] [--dynamic] < CASES\n",
               stderr);
    return 2;
  }
  tenfold::Mode mode;
  try {
    for (int i = 2; i < argc; ++i) {
      const std::string option = argv[i];
      if (option == "--engine") {
        mode.backend = &tenfold::cpu_backend();
      } else if ((option == "--device" || option == "--check") && i + 1 < argc) {
        mode.only_checks = option == "--check";
        mode.backend = &tenfold::find_backend(argv[++i]);
      } else if (option == "--dynamic") {
        mode.dynamic = true;
      }
    }
  } catch (const tenfold::Error& error) {
    fmt::print(stderr, "{}\n", error.message());
    return 2;
  }
  return tenfold::run_cases(argv[1], mode);
}
