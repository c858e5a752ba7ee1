// Small engines made by hand, without importer, passes and builder: what the tests of the file format and of the
// runtime need.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "engine/engine_file.hpp"
#include "ops/registry.hpp"

namespace tenfold::test {

struct SmallEngine {
  Plan plan;
  std::vector<std::byte> weights;

  std::vector<std::byte> file(const EngineWriteOptions& options = {}) const {
    return serialize_engine(plan, weights, options);
  }
};

/// Puts a plan together; every intermediate value gets its own place in the arena.
class PlanMaker {
 public:
  PlanMaker() {
    engine_.plan.backend = "cpu";
    engine_.plan.target = cpu_backend().target();
    engine_.plan.provenance.model_name = "small";
    engine_.plan.provenance.metadata = {{"author", "test"}};
  }

  std::int32_t value(const std::string& name, TensorType type, Storage storage) {
    PlanValue entry;
    entry.name = name;
    entry.pitch = type.dims.empty() ? Dim(1) : type.dims.back();
    entry.type = std::move(type);
    entry.storage = storage;
    engine_.plan.values.push_back(std::move(entry));
    most_bytes_.push_back(0);
    return static_cast<std::int32_t>(engine_.plan.values.size()) - 1;
  }
  std::int32_t input(const std::string& name, TensorType type) {
    const std::int32_t id = value(name, type, Storage::input);
    for (std::size_t axis = 0; axis < type.dims.size(); ++axis) {
      const auto symbol = type.dims[axis].as_symbol();
      if (symbol) engine_.plan.bindings.push_back({*symbol, id, static_cast<std::int32_t>(axis)});
    }
    engine_.plan.inputs.push_back(id);
    return id;
  }
  std::int32_t output(const std::string& name, TensorType type) {
    const std::int32_t id = value(name, std::move(type), Storage::output);
    engine_.plan.outputs.push_back(id);
    return id;
  }
  /// `most_bytes`: at the largest shapes of any profile.
  std::int32_t arena(const std::string& name, TensorType type, std::uint64_t most_bytes) {
    const std::int32_t id = value(name, std::move(type), Storage::arena);
    most_bytes_.back() = most_bytes;
    return id;
  }
  std::int32_t view(const std::string& name, TensorType type, std::int32_t owner, const Dim& offset = 0) {
    const std::int32_t id = value(name, std::move(type), Storage::view);
    PlanValue& entry = engine_.plan.values.back();
    entry.view_of = owner;
    entry.view_offset = offset;
    return id;
  }
  /// One sample of `whole`, in the block of a Samples step.
  std::int32_t slice(const std::string& name, std::int32_t whole) {
    TensorType type = engine_.plan.values[static_cast<std::size_t>(whole)].type;
    type.dims[0] = Dim(1);
    const std::int32_t id = value(name, std::move(type), Storage::slice);
    engine_.plan.values.back().view_of = whole;
    return id;
  }
  template <typename T>
  std::int32_t constant(const std::string& name, DType dtype, const Shape& shape, const std::vector<T>& elements) {
    TensorType type{dtype, std::vector<Dim>(shape.begin(), shape.end())};
    const std::int32_t id = value(name, std::move(type), Storage::constant);
    std::vector<std::byte>& weights = engine_.weights;
    engine_.plan.values.back().constant_offset = weights.size();
    const auto* bytes = reinterpret_cast<const std::byte*>(elements.data());
    weights.insert(weights.end(), bytes, bytes + elements.size() * sizeof(T));
    weights.resize((weights.size() + 63) / 64 * 64, std::byte{0});
    return id;
  }
  PlanStep step(const std::string& op_type, std::vector<std::int32_t> inputs, std::vector<std::int32_t> outputs,
                Attributes attributes = {}) const {
    PlanStep result;
    result.name = op_type + std::to_string(outputs.empty() ? 0 : outputs[0]);
    result.origins = {"model/" + result.name};
    result.op_type = op_type;
    result.inputs = std::move(inputs);
    result.outputs = std::move(outputs);
    // What the operator itself would list, so that making it anew gives the same.
    result.attributes = std::move(attributes);
    return result;
  }
  void add(PlanStep step) { engine_.plan.steps.push_back(std::move(step)); }
  void profile(std::vector<PlanRange> inputs) {
    PlanProfile profile;
    profile.inputs = std::move(inputs);
    engine_.plan.profiles.push_back(std::move(profile));
  }
  /// Gives kernels and places; no further values afterwards.
  SmallEngine finish() {
    give_kernels(engine_.plan.steps);
    for (PlanProfile& profile : engine_.plan.profiles) {
      profile.arena_offsets.assign(most_bytes_.size(), 0);
      profile.arena_sizes = most_bytes_;
      for (std::size_t i = 0; i < most_bytes_.size(); ++i) {
        if (engine_.plan.values[i].storage != Storage::arena) continue;
        profile.arena_offsets[i] = profile.arena_bytes;
        profile.arena_bytes += (most_bytes_[i] + 63) / 64 * 64;
      }
    }
    for (PlanStep& step : engine_.plan.steps) {
      if (step.op_type == "Samples") give_lanes(step);
    }
    return std::move(engine_);
  }
  Plan& plan() { return engine_.plan; }

 private:
  void give_kernels(std::vector<PlanStep>& steps) {
    for (PlanStep& step : steps) {
      const bool is_run_by_runtime = !step.blocks.empty() || step.op_type == "DimValues";
      if (!is_run_by_runtime) step.choices.assign(engine_.plan.profiles.size(), {.tactic = "reference"});
      for (PlanBlock& block : step.blocks) give_kernels(block.steps);
    }
  }

  /// Two lanes behind all else.
  void give_lanes(PlanStep& section) {
    for (PlanProfile& profile : engine_.plan.profiles) {
      SampleSection lanes{.num_lanes = 2, .lane_bytes = 0, .offset = profile.arena_bytes};
      for (const PlanStep& step : section.blocks[0].steps) {
        for (const std::int32_t output : step.outputs) {
          const auto id = static_cast<std::size_t>(output);
          if (engine_.plan.values[id].storage != Storage::arena) continue;
          profile.arena_offsets[id] = lanes.offset + lanes.lane_bytes;
          lanes.lane_bytes += (most_bytes_[id] + 63) / 64 * 64;
        }
      }
      profile.arena_bytes += static_cast<std::uint64_t>(lanes.num_lanes) * lanes.lane_bytes;
      section.choices.push_back(lanes.choice());
    }
  }

  SmallEngine engine_;
  std::vector<std::uint64_t> most_bytes_;
};

inline TensorType f32(std::vector<Dim> dims) { return {DType::float32, std::move(dims)}; }

/// y = softmax(reshape(x) * w), x: [batch, 2, 4], batch 1..3 and, in the second profile, 4..8.
inline SmallEngine classifier() {
  PlanMaker maker;
  const Dim batch = Dim::symbol("batch");
  const std::int32_t x = maker.input("x", f32({batch, 2, 4}));
  const std::int32_t flat = maker.view("flat", f32({batch, 8}), x);
  std::vector<float> elements(8 * 5);
  for (std::size_t i = 0; i < elements.size(); ++i) elements[i] = 0.0625F * static_cast<float>(i % 11) - 0.25F;
  const std::int32_t w = maker.constant("w", DType::float32, {8, 5}, elements);
  const std::int32_t scores = maker.arena("scores", f32({batch, 5}), 8 * 5 * sizeof(float));
  const std::int32_t y = maker.output("y", f32({batch, 5}));
  maker.add(maker.step("MatMul", {flat, w}, {scores}));
  maker.add(maker.step("Softmax", {scores}, {y}, {{"axis", std::int64_t{1}}}));
  maker.profile({{{1, 2, 4}, {2, 2, 4}, {3, 2, 4}}});
  maker.profile({{{4, 2, 4}, {4, 2, 4}, {8, 2, 4}}});
  maker.plan().report = {{.step = "MatMul2", .tactic = "gemm.packed", .refusal = "too small"},
                         {.step = "MatMul2", .tactic = "reference", .parameters = {}, .time_us = 1.5, .chosen = true}};
  return maker.finish();
}

/// Sample by sample: y = 2 flat(x) * c, z = (2 flat(x)) w; then p = softmax(z). x: [n, 4, 2], n 0..3 and, in the second
/// profile, 4..9.
inline SmallEngine sample_section() {
  PlanMaker maker;
  const Dim n = Dim::symbol("n");
  const std::int32_t x = maker.input("x", f32({n, 4, 2}));
  const std::int32_t y = maker.output("y", f32({n, 8}));
  const std::int32_t z = maker.arena("z", f32({n, 5}), 9 * 5 * sizeof(float));
  const std::int32_t p = maker.output("p", f32({n, 5}));
  std::vector<float> elements(8 * 5);
  for (std::size_t i = 0; i < elements.size(); ++i) elements[i] = 0.125F * static_cast<float>(i % 7) - 0.25F;
  const std::int32_t w = maker.constant("w", DType::float32, {8, 5}, elements);
  const std::int32_t c = maker.constant<float>("c", DType::float32, {8}, {1, 2, 3, 4, 5, 6, 7, 8});
  const std::int32_t one_x = maker.slice("one_x", x);
  const std::int32_t flat = maker.view("flat", f32({1, 8}), one_x);
  const std::int32_t doubled = maker.arena("doubled", f32({1, 8}), 8 * sizeof(float));
  const std::int32_t one_y = maker.slice("one_y", y);
  const std::int32_t one_z = maker.slice("one_z", z);
  PlanStep section = maker.step("Samples", {x}, {y, z});
  section.blocks.push_back(
      {.inputs = {one_x},
       .outputs = {one_y, one_z},
       .bindings = {},
       .steps = {maker.step("Add", {flat, flat}, {doubled}), maker.step("Mul", {doubled, c}, {one_y}),
                 maker.step("MatMul", {doubled, w}, {one_z})}});
  maker.add(std::move(section));
  maker.add(maker.step("Softmax", {z}, {p}, {{"axis", std::int64_t{1}}}));
  maker.profile({{{0, 4, 2}, {2, 4, 2}, {3, 4, 2}}});
  maker.profile({{{4, 4, 2}, {4, 4, 2}, {9, 4, 2}}});
  return maker.finish();
}

}  // namespace tenfold::test
