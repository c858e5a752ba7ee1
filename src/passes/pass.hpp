// Passes: graph -> graph. A pass is a set of local rewrites, or a function over the whole graph.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.hpp"
#include "graph/patch.hpp"
#include "passes/graph_view.hpp"

namespace tenfold {

/// A local rewrite: looks at one node and proposes a change, or nullopt. A proposal must bring the graph nearer to an
/// end: rules that undo each other are found by the driver, which throws.
struct Rewrite {
  std::string_view name;
  std::optional<Patch> (*propose)(const GraphView& graph, const Node& node);
  std::string_view reason;  ///< one sentence for the documentation
};

/// One line of the pipeline: either rewrites, run together to a fixpoint, or a whole-graph function.
struct Pass {
  std::string_view name;
  std::span<const Rewrite> rewrites;
  /// Returns how many changes it made.
  int (*whole)(Graph& graph) = nullptr;
  std::string_view reason;  ///< why it stands at this place
};
/// In the order they run (pipeline.cpp).
std::span<const Pass> pipeline();
/// Passes around the pipeline that PassOptions asks for. Before it, for fp16, integer_products, zero_points and
/// float8_products:
extern const Pass kWidenPass;
extern const Pass kQuantisedFormPass;
extern const Pass kIntegerProductPass;
extern const Pass kZeroPointPass;
extern const Pass kFloat8FormPass;
extern const Pass kFloat8ProductPass;
/// And behind it, for norm_epilogues, integer_products, float8_products, merged_products, planar_images,
/// conv_chains, fp16, merged_products again, conv_max_pools and conv_pairs:
extern const Pass kNormFusionPass;
extern const Pass kIntegerEpiloguePass;
extern const Pass kFloat8EpiloguePass;
extern const Pass kMergePass;
extern const Pass kPlanarImagePass;
extern const Pass kConvChainPass;
extern const Pass kNarrowPass;
extern const Pass kGatePass;
extern const Pass kConvMaxPoolPass;
extern const Pass kConvPairPass;
/// Not run by the pipeline: the builder makes sections where it finds that they pay.
extern const Pass kSamplesPass;
/// All of these.
std::span<const Pass* const> optional_passes();

struct PassOptions {
  std::vector<std::string> disabled;  ///< names of passes or rewrites
  bool fp16 = false;                  ///< float32 becomes float16 where that is safe
  bool norm_epilogues = false;        ///< norms take the programs behind them
  bool integer_products = false;      ///< products of quantised tensors are computed with their integers
  bool float8_products = false;       ///< the same for tensors quantised to float8
  bool zero_points = false;           ///< and these know their input's zero point
  bool merged_products = false;       ///< products of one operand become one, attention reads parts of its rows
  bool planar_images = false;         ///< first convolutions read images whose channels are second
  bool conv_chains = false;           ///< convolutions around depthwise ones are joined
  bool conv_max_pools = false;        ///< convolutions of few channels are joined with the pooling behind them
  bool conv_pairs = false;            ///< 1x1 convolutions of large images that follow each other are joined
  bool verify = true;                 ///< Graph::verify after every pass
  std::string dump_directory;         ///< where a pass that throws leaves "<pass>.graph.txt"; empty: nowhere
  std::function<void(std::string_view pass, double fraction)> on_progress;
  std::function<bool()> is_cancelled;
};
struct PassReport {
  std::string name;  ///< of the rewrite or pass
  int changes = 0;
  double seconds = 0;
};
/// Runs the pipeline on the graph and on the blocks of its nodes. Throws Error(invalid_argument) for an unknown
/// disabled name, listing the known ones.
std::vector<PassReport> run_pipeline(Graph& graph, const PassOptions& options = {});
/// Runs one set of rewrites to a fixpoint on the graph and its blocks, and returns the number of changes.
int apply_rewrites(Graph& graph, std::span<const Rewrite> rewrites, const PassOptions& options = {});
/// Runs one pass as the pipeline would, and compacts the graph.
std::vector<PassReport> apply_pass(Graph& graph, const Pass& pass, const PassOptions& options = {});
/// The rewrite or pass of this name, from anywhere in the pipeline; nullptr if there is none.
const Rewrite* find_rewrite(std::string_view name);
const Pass* find_pass(std::string_view name);
/// All names that can be disabled.
std::vector<std::string> pass_names();

}  // namespace tenfold
