// The records of sections "plan", "provenance" and "report", field by field as docs/engine-format.md lists them.
#include "base/error.hpp"
#include "engine/bytes.hpp"
#include "engine/codec.hpp"
#include "engine/limits.hpp"

namespace tenfold {
namespace {

constexpr std::uint8_t kNumStorages = 8;

class PlanEncoder {
 public:
  std::vector<std::byte> encode(const Plan& plan) {
    out_.i32(plan.num_threads);
    out_.count(plan.values.size(), limits::kMaxValues, "values");
    for (const PlanValue& value : plan.values) {
      out_.string(value.name);
      out_.u8(static_cast<std::uint8_t>(value.type.dtype));
      out_.u8(static_cast<std::uint8_t>(value.storage));
      out_.u64(value.constant_offset);
      out_.i32(value.view_of);
      out_.dim(value.view_offset);
      out_.dim(value.pitch);
      out_.dims(value.type.dims);
    }
    indices(plan.inputs, limits::kMaxValues, "inputs");
    indices(plan.outputs, limits::kMaxValues, "outputs");
    bindings(plan.bindings);
    steps(plan.steps);
    out_.count(plan.profiles.size(), limits::kMaxProfiles, "profiles");
    for (const PlanProfile& profile : plan.profiles) {
      out_.count(profile.inputs.size(), limits::kMaxValues, "inputs");
      for (const PlanRange& range : profile.inputs) {
        integers(range.min, kMaxRank, "axes");
        integers(range.opt, kMaxRank, "axes");
        integers(range.max, kMaxRank, "axes");
      }
      out_.u64(profile.arena_bytes);
      for (const auto* list : {&profile.arena_offsets, &profile.arena_sizes}) {
        out_.count(list->size(), limits::kMaxValues, "values");
        for (const std::uint64_t number : *list) out_.u64(number);
      }
    }
    return out_.finish();
  }

 private:
  void indices(const std::vector<std::int32_t>& list, std::size_t most, std::string_view what) {
    out_.count(list.size(), most, what);
    for (const std::int32_t index : list) out_.i32(index);
  }
  void integers(const std::vector<std::int64_t>& list, std::size_t most, std::string_view what) {
    out_.count(list.size(), most, what);
    for (const std::int64_t number : list) out_.i64(number);
  }
  void strings(const std::vector<std::string>& list, std::string_view what) {
    out_.count(list.size(), limits::kMaxSteps, what);
    for (const std::string& text : list) out_.string(text);
  }
  void bindings(const std::vector<PlanBinding>& list) {
    out_.count(list.size(), limits::kMaxValues, "bindings");
    for (const PlanBinding& binding : list) {
      out_.string(binding.symbol);
      out_.i32(binding.value);
      out_.i32(binding.axis);
    }
  }
  void steps(const std::vector<PlanStep>& list) {
    out_.count(list.size(), limits::kMaxSteps, "steps");
    for (const PlanStep& entry : list) step(entry);
  }
  void step(const PlanStep& step) {
    out_.string(step.name);
    strings(step.origins, "model nodes of a step");
    out_.string(step.op_type);
    out_.attributes(step.attributes);
    indices(step.inputs, limits::kMaxOperands, "inputs of a step");
    indices(step.outputs, limits::kMaxOperands, "outputs of a step");
    bindings(step.bindings);
    out_.u8(step.infer_at_run_time ? 1 : 0);
    out_.count(step.choices.size(), limits::kMaxProfiles, "choices of a step");
    for (const PlanChoice& choice : step.choices) {
      out_.string(choice.tactic);
      integers(choice.parameters, limits::kMaxParameters, "parameters");
      out_.count(choice.weights.size(), limits::kMaxWeightsOfStep, "weights of a step");
      for (const PlanWeight& weight : choice.weights) {
        out_.u64(weight.offset);
        out_.u64(weight.size);
      }
      out_.u64(choice.code.offset);
      out_.u64(choice.code.size);
      out_.u8(choice.on_host ? 1 : 0);
      out_.u64(choice.workspace_bytes);
      out_.u64(choice.workspace_offset);
    }
    require(depth_ < limits::kMaxBlockDepth || step.blocks.empty(), Code::unsupported,
            "an engine holds at most {} blocks inside each other", limits::kMaxBlockDepth);
    ++depth_;
    out_.count(step.blocks.size(), limits::kMaxBlocks, "blocks of a step");
    for (const PlanBlock& block : step.blocks) {
      indices(block.inputs, limits::kMaxOperands, "inputs of a block");
      indices(block.outputs, limits::kMaxOperands, "outputs of a block");
      bindings(block.bindings);
      steps(block.steps);
    }
    --depth_;
  }

  RecordWriter out_;
  int depth_ = 0;
};

class PlanDecoder {
 public:
  explicit PlanDecoder(std::span<const std::byte> section) : in_("plan", section) {}

  void decode(Plan& plan) {
    plan.num_threads = in_.i32();
    plan.values.resize(in_.count(limits::kMaxValues, 34, "values"));
    for (PlanValue& value : plan.values) {
      value.name = in_.string();
      value.type.dtype = in_.dtype();
      const std::uint8_t storage = in_.u8();
      if (storage >= kNumStorages) in_.fail(fmt::format("storage {} is unknown", storage));
      value.storage = static_cast<Storage>(storage);
      value.constant_offset = in_.u64();
      value.view_of = in_.i32();
      value.view_offset = in_.dim();
      value.pitch = in_.dim();
      value.type.dims = in_.dims();
    }
    plan.inputs = indices(limits::kMaxValues, "inputs");
    plan.outputs = indices(limits::kMaxValues, "outputs");
    plan.bindings = bindings();
    plan.steps = steps();
    plan.profiles.resize(in_.count(limits::kMaxProfiles, 20, "profiles"));
    for (PlanProfile& profile : plan.profiles) {
      profile.inputs.resize(in_.count(limits::kMaxValues, 12, "inputs"));
      for (PlanRange& range : profile.inputs) {
        range.min = integers(kMaxRank, "axes");
        range.opt = integers(kMaxRank, "axes");
        range.max = integers(kMaxRank, "axes");
      }
      profile.arena_bytes = in_.u64();
      for (auto* list : {&profile.arena_offsets, &profile.arena_sizes}) {
        list->resize(in_.count(limits::kMaxValues, sizeof(std::uint64_t), "values"));
        for (std::uint64_t& number : *list) number = in_.u64();
      }
    }
    in_.finish();
  }

 private:
  std::vector<std::int32_t> indices(std::size_t most, std::string_view what) {
    std::vector<std::int32_t> list(in_.count(most, sizeof(std::int32_t), what));
    for (std::int32_t& index : list) index = in_.i32();
    return list;
  }
  std::vector<std::int64_t> integers(std::size_t most, std::string_view what) {
    std::vector<std::int64_t> list(in_.count(most, sizeof(std::int64_t), what));
    for (std::int64_t& number : list) number = in_.i64();
    return list;
  }
  std::vector<std::string> strings(std::string_view what) {
    std::vector<std::string> list(in_.count(limits::kMaxSteps, sizeof(std::uint32_t), what));
    for (std::string& text : list) text = in_.string();
    return list;
  }
  std::vector<PlanBinding> bindings() {
    std::vector<PlanBinding> list(in_.count(limits::kMaxValues, 12, "bindings"));
    for (PlanBinding& binding : list) {
      binding.symbol = in_.string();
      binding.value = in_.i32();
      binding.axis = in_.i32();
    }
    return list;
  }
  std::vector<PlanStep> steps() {
    constexpr std::size_t kLeastStepBytes = 37;
    std::vector<PlanStep> list(in_.count(limits::kMaxSteps, kLeastStepBytes, "steps"));
    num_steps_ += list.size();
    if (num_steps_ > limits::kMaxSteps) in_.fail(fmt::format("more than {} steps", limits::kMaxSteps));
    for (PlanStep& entry : list) step(entry);
    return list;
  }
  void step(PlanStep& step) {
    step.name = in_.string();
    step.origins = strings("model nodes of a step");
    step.op_type = in_.string();
    step.attributes = in_.attributes();
    step.inputs = indices(limits::kMaxOperands, "inputs of a step");
    step.outputs = indices(limits::kMaxOperands, "outputs of a step");
    step.bindings = bindings();
    step.infer_at_run_time = in_.flag();
    step.choices.resize(in_.count(limits::kMaxProfiles, 45, "choices of a step"));
    for (PlanChoice& choice : step.choices) {
      choice.tactic = in_.string();
      choice.parameters = integers(limits::kMaxParameters, "parameters");
      choice.weights.resize(in_.count(limits::kMaxWeightsOfStep, 16, "weights of a step"));
      for (PlanWeight& weight : choice.weights) {
        weight.offset = in_.u64();
        weight.size = in_.u64();
      }
      choice.code.offset = in_.u64();
      choice.code.size = in_.u64();
      choice.on_host = in_.flag();
      choice.workspace_bytes = in_.u64();
      choice.workspace_offset = in_.u64();
    }
    step.blocks.resize(in_.count(limits::kMaxBlocks, 16, "blocks of a step"));
    if (step.blocks.empty()) return;
    if (++depth_ > limits::kMaxBlockDepth) {
      in_.fail(fmt::format("more than {} blocks inside each other", limits::kMaxBlockDepth));
    }
    for (PlanBlock& block : step.blocks) {
      block.inputs = indices(limits::kMaxOperands, "inputs of a block");
      block.outputs = indices(limits::kMaxOperands, "outputs of a block");
      block.bindings = bindings();
      block.steps = steps();
    }
    --depth_;
  }

  RecordReader in_;
  std::size_t num_steps_ = 0;
  int depth_ = 0;
};

constexpr std::size_t kMaxLines = 10'000'000;

}  // namespace

std::vector<std::byte> encode_plan(const Plan& plan) { return PlanEncoder().encode(plan); }
void decode_plan(std::span<const std::byte> section, Plan& plan) { PlanDecoder(section).decode(plan); }

std::vector<std::byte> encode_provenance(const PlanProvenance& provenance) {
  RecordWriter out;
  out.string(provenance.model_name);
  out.string(provenance.model_producer);
  out.string(provenance.model_hash);
  out.string(provenance.options);
  out.i32(provenance.model_nodes);
  out.count(provenance.metadata.size(), limits::kMaxStrings, "metadata entries");
  for (const auto& [key, value] : provenance.metadata) {
    out.string(key);
    out.string(value);
  }
  out.count(provenance.passes.size(), limits::kMaxStrings, "passes");
  for (const std::string& pass : provenance.passes) out.string(pass);
  return out.finish();
}

PlanProvenance decode_provenance(std::span<const std::byte> section) {
  RecordReader in("provenance", section);
  PlanProvenance provenance;
  provenance.model_name = in.string();
  provenance.model_producer = in.string();
  provenance.model_hash = in.string();
  provenance.options = in.string();
  provenance.model_nodes = in.i32();
  const std::size_t num_entries = in.count(limits::kMaxStrings, 8, "metadata entries");
  for (std::size_t i = 0; i < num_entries; ++i) {
    const std::string& key = in.string();
    if (!provenance.metadata.emplace(key, in.string()).second) in.fail(fmt::format("metadata '{}' comes twice", key));
  }
  provenance.passes.resize(in.count(limits::kMaxStrings, 4, "passes"));
  for (std::string& pass : provenance.passes) pass = in.string();
  in.finish();
  return provenance;
}

std::vector<std::byte> encode_report(const std::vector<PlanCandidate>& report) {
  RecordWriter out;
  out.count(report.size(), kMaxLines, "lines of the build report");
  for (const PlanCandidate& line : report) {
    out.string(line.step);
    out.i32(line.profile);
    out.string(line.tactic);
    out.count(line.parameters.size(), limits::kMaxParameters, "parameters");
    for (const std::int64_t parameter : line.parameters) out.i64(parameter);
    out.string(line.refusal);
    out.f64(line.time_us);
    out.u8(line.chosen ? 1 : 0);
  }
  return out.finish();
}

std::vector<PlanCandidate> decode_report(std::span<const std::byte> section) {
  RecordReader in("report", section);
  std::vector<PlanCandidate> report(in.count(kMaxLines, 29, "lines of the build report"));
  for (PlanCandidate& line : report) {
    line.step = in.string();
    line.profile = in.i32();
    line.tactic = in.string();
    line.parameters.resize(in.count(limits::kMaxParameters, sizeof(std::int64_t), "parameters"));
    for (std::int64_t& parameter : line.parameters) parameter = in.i64();
    line.refusal = in.string();
    line.time_us = in.f64();
    line.chosen = in.flag();
  }
  in.finish();
  return report;
}

}  // namespace tenfold
