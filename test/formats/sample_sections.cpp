// Sections of a plan that run sample by sample: what they compute, and what a damaged one is refused for.
#include <functional>

#include <gtest/gtest.h>

#include "formats/run_engine.hpp"
#include "formats/small_plans.hpp"

namespace tenfold {
namespace {

using test::SmallEngine;

PlanValue& value_called(Plan& plan, std::string_view name) {
  for (PlanValue& value : plan.values) {
    if (value.name == name) return value;
  }
  throw Error(Code::internal, "no such value");
}
std::size_t id_of(const Plan& plan, std::string_view name) {
  for (std::size_t i = 0; i < plan.values.size(); ++i) {
    if (plan.values[i].name == name) return i;
  }
  throw Error(Code::internal, "no such value");
}

std::vector<float> run(Context& context, std::int64_t n, std::string_view output) {
  std::vector<float> x(static_cast<std::size_t>(n) * 8);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  context.set_input("x", std::vector<std::int64_t>{n, 4, 2}, x.data());
  context.run();
  const OutputView view = context.output(output);
  const auto* data = static_cast<const float*>(view.data);
  return {data, data + view.size_bytes / sizeof(float)};
}

TEST(SampleSectionPlan, EverySampleIsComputedWithAnyNumberOfThreads) {
  const std::vector<std::byte> file = test::sample_section().file();
  for (int threads = 1; threads <= 4; ++threads) {  // the plan has two lanes
    LoadOptions options;
    options.num_threads = threads;
    const Engine engine = Engine::load(file, options);
    Context context = engine.make_context(0);
    for (const std::int64_t n : {3, 0, 1, 2, 7, 4, 9, 8}) {
      context.set_profile(n < 4 ? 0 : 1);
      const std::vector<float> y = run(context, n, "y");
      ASSERT_EQ(y.size(), static_cast<std::size_t>(n) * 8);
      for (std::size_t i = 0; i < y.size(); ++i) {
        EXPECT_EQ(y[i], 2.0F * static_cast<float>(i) * static_cast<float>(i % 8 + 1))
            << threads << ' ' << n << ' ' << i;
      }
    }
  }
}

TEST(SampleSectionPlan, FewLanesSufficeForManyThreads) {
  SmallEngine engine = test::sample_section();
  engine.plan.num_threads = 4;  // two lanes: as if batches were small, which the file need not be right about
  LoadOptions options;
  options.num_threads = 4;
  const Engine loaded = Engine::load(engine.file(), options);
  Context context = loaded.make_context(1);
  for (const std::int64_t n : {4, 9, 7}) {
    const std::vector<float> y = run(context, n, "y");
    for (std::size_t i = 0; i < y.size(); ++i) {
      ASSERT_EQ(y[i], 2.0F * static_cast<float>(i) * static_cast<float>(i % 8 + 1)) << n << ' ' << i;
    }
  }
}

TEST(SampleSectionPlan, TooManySamplesEndTheRun) {
  LoadOptions options;
  options.max_loop_iterations = 5;
  const Engine engine = Engine::load(test::sample_section().file(), options);
  Context context = engine.make_context(1);
  EXPECT_EQ(run(context, 5, "y").size(), 40U);
  try {
    run(context, 6, "y");
    FAIL() << "more samples than allowed were computed";
  } catch (const Error& error) {
    EXPECT_NE(error.message().find("more than 5 iterations"), std::string::npos) << error.message();
  }
}

TEST(SampleSectionPlan, AnObserverSeesWholeBatches) {
  const Engine engine = Engine::load(test::sample_section().file());
  Context context = engine.make_context(0);
  std::map<std::string, std::vector<std::int64_t>> dims;
  std::vector<float> doubled;
  context.set_observer([&](std::string_view, std::span<const std::string> names, std::span<const OutputView> outputs) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      dims[names[i]] = outputs[i].dims;
      if (names[i] != "doubled") continue;
      const auto* data = static_cast<const float*>(outputs[i].data);
      doubled.assign(data, data + outputs[i].size_bytes / sizeof(float));
    }
  });
  run(context, 3, "y");
  EXPECT_EQ(dims.at("doubled"), (std::vector<std::int64_t>{3, 8}));
  EXPECT_EQ(dims.at("one_y"), (std::vector<std::int64_t>{3, 8}));
  ASSERT_EQ(doubled.size(), 24U);
  for (std::size_t i = 0; i < doubled.size(); ++i) EXPECT_EQ(doubled[i], 2.0F * static_cast<float>(i));
}

TEST(SampleSectionPlan, AProfileListsItsSteps) {
  LoadOptions options;
  options.num_threads = 2;
  const Engine engine = Engine::load(test::sample_section().file(), options);
  Context context = engine.make_context(0);
  context.set_profiling(true);
  run(context, 3, "y");
  std::vector<std::string> steps;
  for (const StepTime& time : context.step_times()) {
    steps.push_back(time.op_type);
    EXPECT_GE(time.duration_us, 0);
  }
  EXPECT_EQ(steps, (std::vector<std::string>{"Add", "Mul", "MatMul", "Samples", "Softmax"}));
}

TEST(SampleSectionPlan, AnErrorInsideNamesStepAndSampleAndTheNextRunIsWhole) {
  test::PlanMaker maker;
  const Dim n = Dim::symbol("n");
  const std::int32_t x = maker.input("x", test::f32({n, 4}));
  const std::int32_t at = maker.input("at", {DType::int64, {n, 2}});
  maker.plan().bindings.pop_back();  // x decides n
  const std::int32_t y = maker.output("y", test::f32({n, 2}));
  const std::int32_t one_x = maker.slice("one_x", x), one_at = maker.slice("one_at", at),
                     one_y = maker.slice("one_y", y);
  PlanStep section = maker.step("Samples", {x, at}, {y});
  section.blocks.push_back(
      {.inputs = {one_x, one_at},
       .outputs = {one_y},
       .bindings = {},
       .steps = {maker.step("GatherElements", {one_x, one_at}, {one_y}, {{"axis", std::int64_t{1}}})}});
  maker.add(std::move(section));
  maker.profile({{{1, 4}, {2, 4}, {6, 4}}, {{1, 2}, {2, 2}, {6, 2}}});
  const std::vector<std::byte> file = maker.finish().file();
  for (const int threads : {1, 3}) {
    LoadOptions options;
    options.num_threads = threads;
    const Engine engine = Engine::load(file, options);
    Context context = engine.make_context(0);
    const std::vector<float> data{0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23};
    std::vector<std::int64_t> indices{0, 1, 3, 9, 2, 2};
    context.set_input("x", std::vector<std::int64_t>{3, 4}, data.data());
    context.set_input("at", std::vector<std::int64_t>{3, 2}, indices.data());
    try {
      context.run();
      FAIL() << "an index outside was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::invalid_argument);
      EXPECT_NE(error.message().find("(GatherElements), sample 1"), std::string::npos) << error.message();
    }
    indices[3] = 0;
    context.run();
    const auto* got = static_cast<const float*>(context.output("y").data);
    EXPECT_EQ(std::vector<float>(got, got + 6), (std::vector<float>{0, 1, 13, 10, 22, 22}));
  }
}

struct Damage {
  std::string message;
  std::function<void(Plan&)> apply;
};

TEST(SampleSectionPlan, ADamagedSectionIsRefusedWithASentence) {
  const auto section = [](Plan& plan) -> PlanStep& { return plan.steps[0]; };
  const std::vector<Damage> damages{
      {"0 lanes", [&](Plan& plan) { section(plan).choices[0].parameters = {0}; }},
      {"1000 lanes", [&](Plan& plan) { section(plan).choices[0].parameters = {1000}; }},
      {"bytes for 3 lanes", [&](Plan& plan) { section(plan).choices[0].parameters = {3}; }},
      {"none of a sample section", [&](Plan& plan) { section(plan).choices[1].tactic = "reference"; }},
      {"1 choices for 2 profiles", [&](Plan& plan) { section(plan).choices.pop_back(); }},
      {"scratch memory does not lie in the arena", [&](Plan& plan) { section(plan).choices[0].workspace_bytes *= 64; }},
      {"does not lie in the section's first lane",
       [&](Plan& plan) { plan.profiles[0].arena_offsets[id_of(plan, "doubled")] += 64; }},
      {"scratch memory does not lie in the section's first lane",
       [&](Plan& plan) { section(plan).blocks[0].steps[0].choices[0].workspace_bytes = 8; }},
      {"lie in the same place",
       [&](Plan& plan) {
         plan.profiles[0].arena_bytes += 4096;
         plan.profiles[0].arena_offsets[id_of(plan, "z")] = section(plan).choices[0].workspace_offset + 64;
       }},
      {"1 inputs and 0 outputs",
       [&](Plan& plan) {
         section(plan).outputs.clear();
         section(plan).blocks[0].outputs.clear();
         section(plan).blocks[0].steps.clear();
       }},
      {"no sample of", [&](Plan& plan) { value_called(plan, "one_y").type.dims[0] = Dim(2); }},
      {"no sample of", [&](Plan& plan) { value_called(plan, "one_x").type.dims[1] = Dim(5); }},
      {"no slice of",
       [&](Plan& plan) { value_called(plan, "one_y").view_of = static_cast<std::int32_t>(id_of(plan, "p")); }},
      {"has 2*n samples", [&](Plan& plan) { value_called(plan, "y").type.dims[0] = Dim(2) * Dim::symbol("n"); }},
      {"the slice 'one_y' comes twice",
       [&](Plan& plan) {
         section(plan).blocks[0].outputs[1] = section(plan).blocks[0].outputs[0];
         section(plan).outputs[1] = section(plan).outputs[0];
       }},
      {"has no memory that can be written",
       [&](Plan& plan) {
         section(plan).blocks[0].steps[0].outputs[0] = static_cast<std::int32_t>(id_of(plan, "flat"));
       }},
      {"nothing but kernels", [&](Plan& plan) { section(plan).blocks[0].steps[0].infer_at_run_time = true; }},
      {"nothing but kernels",
       [&](Plan& plan) {
         const PlanStep nested = section(plan);
         section(plan).blocks[0].steps.push_back(nested);
       }},
      {"block output 'one_z' is read before it is computed",
       [&](Plan& plan) { section(plan).blocks[0].steps.pop_back(); }},
      {"is a slice, but of no section",
       [&](Plan& plan) {
         plan.values.push_back(value_called(plan, "one_y"));
         for (PlanProfile& profile : plan.profiles) {
           profile.arena_offsets.push_back(0);
           profile.arena_sizes.push_back(0);
         }
       }},
      {"is read before it is computed",
       [&](Plan& plan) { plan.steps[1].inputs[0] = static_cast<std::int32_t>(id_of(plan, "one_z")); }},
      {"it is a slice of value -1", [&](Plan& plan) { value_called(plan, "one_x").view_of = -1; }},
  };
  for (const Damage& damage : damages) {
    SCOPED_TRACE(damage.message);
    SmallEngine engine = test::sample_section();
    damage.apply(engine.plan);
    try {
      (void)Engine::load(engine.file());
      ADD_FAILURE() << "it was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::incompatible_engine);
      EXPECT_NE(error.message().find(damage.message), std::string::npos) << error.message();
    }
  }
}

}  // namespace
}  // namespace tenfold
