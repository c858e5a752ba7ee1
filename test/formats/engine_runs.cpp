#include <gtest/gtest.h>

#include "formats/run_engine.hpp"

namespace tenfold {
namespace {

std::vector<std::pair<std::string, test::SmallEngine>> all_engines() {
  auto engines = test::control_flow_engines();
  for (auto& entry : test::built_engines()) engines.push_back(std::move(entry));
  return engines;
}

TEST(SmallEngines, AnswerTheSameAfterBeingWrittenAgain) {
  for (const auto& [name, engine] : all_engines()) {
    SCOPED_TRACE(name);
    const std::vector<std::byte> bytes = engine.file();
    const EngineFile file = read_engine(bytes);
    EXPECT_EQ(serialize_engine(file.plan, {file.weights.data, file.weights.size}), bytes);
    const std::vector<std::byte> answer = test::run_all_profiles(Engine::load(bytes));
    EXPECT_FALSE(answer.empty());
    EXPECT_EQ(test::run_all_profiles(Engine::load(bytes)), answer);
  }
}

}  // namespace
}  // namespace tenfold
