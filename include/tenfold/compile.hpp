// Tenfold's C++ API: compile a trained model into an engine for this processor.
//
//   tenfold::CompileOptions options;
//   options.profiles = {{{"x", {{1, 3, 224, 224}, {4, 3, 224, 224}, {8, 3, 224, 224}}}}};  // min, opt, max
//   tenfold::compile("model.onnx", "model.engine", options);
//
// Link `tenfold_build`. All errors are tenfold::Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tenfold/tenfold.hpp"

namespace tenfold {

struct CompileProgress {
  std::string phase;              ///< "import", "passes", "tactics" ...
  std::string item;               ///< what is being done now: a pass, a node
  double fraction = 0;            ///< of the whole, 0 .. 1
  double remaining_seconds = -1;  ///< -1 while nothing is known
};

struct CompileOptions {
  /// Shapes by input name, one map a profile. Empty: the model's own shapes, which must then be static.
  std::vector<std::map<std::string, ShapeRange>> profiles;
  std::uint64_t workspace_bytes = std::uint64_t{1} << 40;  ///< limit for activations and scratch memory
  int num_threads = 0;                                     ///< 0: all cores this process may use
  int opt_level = 3;                                       ///< 0: no kernel is timed, 5: everything is timed longer
  std::string device = "cpu";                              ///< what to compile for: "cpu", "cuda", "cuda:1"
  bool allow_host = false;                                 ///< on a GPU: operators without a GPU kernel run on the host
  /// On a GPU: compute float32 parts of the model in float16 where that is safe. On a CPU: round the weights of
  /// products (Conv, MatMul, LSTM ...) to float16 and store them so, which halves the engine; the arithmetic stays in
  /// float32.
  bool fp16 = false;
  bool tf32 = false;  ///< on a GPU: products of float32 round their operands to 11 bits, for its tensor cores
  /// Round the factors of products with constant weights to bfloat16 where that is faster, and what is stored between
  /// them where the processor has a matrix unit (AMX_BF16); sums stay float32. Needs a device that has_bf16, and
  /// excludes `fp16`.
  bool bf16 = false;
  /// On a GPU: libraries whose kernels are tried beside Tenfold's own, "cublas_lt" and "cudnn". They must be installed,
  /// and an engine that took a kernel of one needs that version of it to run.
  std::vector<std::string> tactic_sources;
  bool strict = false;            ///< no arithmetic shortcuts (Winograd, Strassen)
  bool portable = false;          ///< add the model itself, for processors that cannot run the engine
  std::string timing_cache_path;  ///< read before, merged and written after; empty: none
  /// The text of a timing cache, or "" for an empty one; CompileSummary::timing_cache is then what it has become.
  std::optional<std::string> timing_cache;
  std::vector<std::string> disabled_rules;  ///< passes or rules switched off by name
  std::vector<std::string> extra_outputs;   ///< values of the model to expose besides its outputs
  std::vector<std::string> keep_float32;    ///< with `fp16` on a CPU: nodes of the model whose weights stay as they are
  /// Kept in the engine beside the model's own; at most 65,536 bytes each.
  std::map<std::string, std::string> metadata;
  std::function<void(const CompileProgress&)> on_progress;
  std::function<bool()> is_cancelled;  ///< polled often; true ends with Error(cancelled)
};

struct CompileSummary {
  int model_nodes = 0;
  int engine_steps = 0;
  double seconds = 0;
  std::vector<std::string> warnings;
  std::string timing_cache;  ///< if CompileOptions::timing_cache was given
};

/// Has the device instructions for CompileOptions::bf16? Throws like `compile` for a device that is not there.
bool has_bf16(const std::string& device = "cpu");

/// Reads an ONNX model and the files with its tensors beside it, and writes the engine: `engine_path` holds either
/// what it held before or the whole new engine. Throws Error(io_failure | invalid_model | unsupported |
/// invalid_argument | out_of_memory | cancelled).
CompileSummary compile(const std::string& model_path, const std::string& engine_path,
                       const CompileOptions& options = {});
/// From memory to memory; tensors in other files are refused.
std::vector<std::byte> compile(std::span<const std::byte> model, const CompileOptions& options = {},
                               CompileSummary* summary = nullptr);
/// From a file to memory.
std::vector<std::byte> compile_file(const std::string& model_path, const CompileOptions& options = {},
                                    CompileSummary* summary = nullptr);

}  // namespace tenfold
