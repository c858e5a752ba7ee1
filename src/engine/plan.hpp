// The plan: everything an engine file says, as plain data. build/ makes it, engine/ stores it, runtime/ runs it.
//
// Values live in one flat table; steps refer to them by index. Blocks (branches, loop bodies) are nested lists of
// steps over the same table. All sizes that depend on shapes are Dims over the plan's symbols. A symbol gets its number
// from a network input's axis, from a block input's axis, or from a step's output ("bindings").
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.hpp"
#include "graph/graph.hpp"

namespace tenfold {

enum class Storage : std::uint8_t {
  none = 0,      ///< omitted, or only present inside packed weights
  input = 1,     ///< the caller's buffer
  output = 2,    ///< the caller's buffer, or the engine's where the size is not known beforehand
  constant = 3,  ///< in the weights section
  arena = 4,     ///< at a fixed offset of the context's arena; the offset is the profile's
  growable = 5,  ///< its own buffer, grown when needed: no bound is known at build time
  view = 6,      ///< part of another value: see view_of
  slice = 7,     ///< one sample of another value, [1, ...] of [N, ...], in the block of a Samples step: see view_of
};

struct PlanValue {
  std::string name;
  TensorType type;
  Storage storage = Storage::none;
  std::uint64_t constant_offset = 0;  ///< bytes from the start of the weights section; 64-byte aligned
  std::int32_t view_of = -1;          ///< the value that owns the memory; of a slice: the whole, which may be a view
  Dim view_offset = 0;                ///< elements from the owner's first element
  Dim pitch = 0;                      ///< elements from row to row; equals the last dim unless it is a pitched view
};

/// "The symbol's number is value's size along axis", bound when the value becomes known.
struct PlanBinding {
  std::string symbol;
  std::int32_t value = -1;
  std::int32_t axis = 0;
};

/// Bytes of packed weights in the weights section.
struct PlanWeight {
  std::uint64_t offset = 0;  ///< 64-byte aligned
  std::uint64_t size = 0;
};

/// What one profile chose for a step.
struct PlanChoice {
  std::string tactic;
  std::vector<std::int64_t> parameters;
  std::vector<PlanWeight> weights;
  PlanWeight code;                     ///< machine code in the code section; size 0: none
  bool on_host = false;                ///< runs on the host although the engine is for a device: the caller allowed it
  std::uint64_t workspace_bytes = 0;   ///< at the profile's maximum; 0 where shapes have no bound
  std::uint64_t workspace_offset = 0;  ///< in the arena
};

struct PlanStep;
/// A branch or a loop body. Values captured from outside are not among `inputs`: the block's steps refer to them
/// directly in the flat table. The step lists them after its own operands, so that they stay alive while it runs.
struct PlanBlock {
  /// Filled before the block runs. If: none. Loop: iteration, condition, carried... Scan: states..., slices...
  /// Samples: one slice of each of the step's inputs.
  std::vector<std::int32_t> inputs;
  /// If: as many as the step's outputs. Loop: condition, carried..., scan outputs... Scan: states..., scan outputs...
  /// Samples: one slice of each of the step's outputs.
  std::vector<std::int32_t> outputs;
  std::vector<PlanBinding> bindings;  ///< of the inputs
  std::vector<PlanStep> steps;
};

struct PlanStep {
  std::string name;
  std::vector<std::string> origins;  ///< names of the model's nodes
  std::string op_type;
  Attributes attributes;
  std::vector<std::int32_t> inputs;   ///< -1: omitted
  std::vector<std::int32_t> outputs;  ///< -1: not wanted
  std::vector<PlanBinding> bindings;  ///< symbols that this step's outputs decide
  bool infer_at_run_time = false;     ///< call Op::infer with actual values to get the output shapes
  /// One a profile. Empty for what the runtime itself does: If, Loop, Scan, DimValues. Views need no step at all.
  /// Samples: see SampleSection.
  std::vector<PlanChoice> choices;
  std::vector<PlanBlock> blocks;  ///< If: then, else. Loop, Scan, Samples: body
};

/// The block of a Samples step runs once for each sample, and every thread works on samples of its own. So what lives
/// in the block exists as often as threads are planned for: these are *lanes*, copies of equal size, one behind the
/// other in the step's scratch memory. Arena offsets of the block's values and scratch memory are those of lane 0.
struct SampleSection {
  static constexpr std::string_view kTactic = "samples";
  std::int64_t num_lanes = 1;
  std::uint64_t lane_bytes = 0;
  std::uint64_t offset = 0;  ///< of lane 0 in the arena

  /// Of a choice of a Samples step: tactic "samples", parameters {lanes}. Requires at least one lane.
  static SampleSection of(const PlanChoice& choice) {
    const std::int64_t lanes = choice.parameters.at(0);
    return {lanes, choice.workspace_bytes / static_cast<std::uint64_t>(lanes), choice.workspace_offset};
  }
  PlanChoice choice() const {
    PlanChoice result;
    result.tactic = kTactic;
    result.parameters = {num_lanes};
    result.workspace_bytes = static_cast<std::uint64_t>(num_lanes) * lane_bytes;
    result.workspace_offset = offset;
    return result;
  }
};

struct PlanRange {
  Shape min, opt, max;
};

struct PlanProfile {
  std::vector<PlanRange> inputs;  ///< one a network input
  std::uint64_t arena_bytes = 0;
  std::vector<std::uint64_t> arena_offsets;  ///< by value; 0 for other storages than arena
  std::vector<std::uint64_t> arena_sizes;    ///< by value: bytes reserved, which no shape of the profile exceeds
};

/// One line of the build report: a candidate that was timed or that refused.
struct PlanCandidate {
  std::string step;
  std::int32_t profile = 0;
  std::string tactic;
  std::vector<std::int64_t> parameters;
  std::string refusal;  ///< empty if it ran
  double time_us = 0;   ///< 0 if not timed
  bool chosen = false;
};

/// Where the engine comes from and how it was built; deterministic (no dates, no times unless in `report`).
struct PlanProvenance {
  std::string model_name;
  std::string model_producer;
  std::string model_hash;                       ///< XXH3-128 of the model file, hexadecimal
  std::string options;                          ///< the build options that matter, as text
  std::map<std::string, std::string> metadata;  ///< the model's own key-value metadata
  std::int32_t model_nodes = 0;                 ///< before the passes
  std::vector<std::string> passes;              ///< "conv_bn_folding: 52", in order of first use
};

struct Plan {
  std::string backend;           ///< "cpu"
  std::string target;            ///< Backend::target of the builder
  std::int32_t num_threads = 1;  ///< the tactics were timed with so many
  std::vector<PlanValue> values;
  std::vector<std::int32_t> inputs;
  std::vector<std::int32_t> outputs;
  std::vector<PlanBinding> bindings;  ///< of the network inputs
  std::vector<PlanStep> steps;
  std::vector<PlanProfile> profiles;  ///< at least one
  PlanProvenance provenance;
  std::vector<PlanCandidate> report;
};

/// The bytes that the plan's constant_offset and PlanWeight refer to.
struct WeightData {
  const std::byte* data = nullptr;
  std::uint64_t size = 0;
  std::shared_ptr<const void> owner;
};

}  // namespace tenfold
