#include <filesystem>
#include <fstream>
#include <unistd.h>

#include <gtest/gtest.h>

#include "engine/engine_file.hpp"
#include "formats/small_plans.hpp"
#include "graph/text.hpp"

namespace tenfold {
namespace {

using test::SmallEngine;

constexpr std::string_view kNetwork = R"(graph net(%x: float32[batch, 4]) {
  %w = constant float32[4, 3] iota
  %y: float32[batch, 3] = MatMul(%x, %w) # name "dense" origins "model/dense"
  %z: float32[batch, 3] = Softmax(%y) {axis=1}
  return %z as "scores"
})";

std::string message_of(const std::vector<std::byte>& file, const EngineReadOptions& options = {}) {
  try {
    (void)read_engine(file, options);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::incompatible_engine) << error.message();
    return error.message();
  }
}

TEST(EngineFile, KeepsThePlan) {
  const SmallEngine engine = test::classifier();
  const EngineFile file = read_engine(engine.file(), {.verify_sha256 = true, .backend = &cpu_backend()});
  EXPECT_EQ(file.tenfold_version, TENFOLD_VERSION);
  EXPECT_EQ(file.plan.target, engine.plan.target);
  ASSERT_EQ(file.plan.values.size(), engine.plan.values.size());
  EXPECT_EQ(file.plan.values[1].name, "flat");
  EXPECT_EQ(file.plan.values[1].type, engine.plan.values[1].type);
  EXPECT_EQ(file.plan.steps[1].attributes, engine.plan.steps[1].attributes);
  EXPECT_EQ(file.plan.steps[1].origins, engine.plan.steps[1].origins);
  EXPECT_EQ(file.plan.profiles[1].arena_sizes, engine.plan.profiles[1].arena_sizes);
  EXPECT_EQ(file.plan.provenance.metadata, engine.plan.provenance.metadata);
  EXPECT_EQ(file.plan.report[0].refusal, "too small");
  ASSERT_EQ(file.weights.size, engine.weights.size());
  EXPECT_EQ(std::memcmp(file.weights.data, engine.weights.data(), engine.weights.size()), 0);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.weights.data) % 64, 0U);
}

TEST(EngineFile, WritingWhatWasReadGivesTheSameBytes) {
  const SmallEngine engine = test::classifier();
  const std::vector<std::byte> bytes = engine.file();
  const EngineFile file = read_engine(bytes);
  EXPECT_EQ(serialize_engine(file.plan, {file.weights.data, file.weights.size}), bytes);
  EXPECT_EQ(test::classifier().file(), bytes);
}

TEST(EngineFile, KeepsThePortableGraph) {
  const Graph graph = parse_graph(kNetwork);
  const SmallEngine engine = test::classifier();
  const EngineFile file = read_engine(engine.file({.portable = &graph}), {.read_portable = true});
  ASSERT_TRUE(file.portable.has_value());
  file.portable->verify();
  EXPECT_EQ(print(*file.portable), print(graph));
  EXPECT_FALSE(read_engine(engine.file({.portable = &graph})).portable.has_value());
  EXPECT_FALSE(read_engine(engine.file(), {.read_portable = true}).portable.has_value());
}

TEST(EngineFile, IsWrittenAndMapped) {
  const std::string path = std::filesystem::temp_directory_path() / fmt::format("tenfold_{}.engine", ::getpid());
  const SmallEngine engine = test::classifier();
  write_engine(path, engine.plan, engine.weights);
  EXPECT_EQ(std::filesystem::file_size(path), engine.file().size());
  EXPECT_EQ(read_engine(path).plan.steps.size(), 2U);
  std::ofstream(path, std::ios::trunc).flush();
  try {
    (void)read_engine(path);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), fmt::format("'{}': the file is empty", path));
  }
  std::filesystem::remove(path);
}

TEST(EngineFile, AnotherVersionOrTargetIsRefusedInOneSentence) {
  SmallEngine engine = test::classifier();
  engine.plan.target = "x86-64 avx1024";
  const std::string target = message_of(engine.file(), {.backend = &cpu_backend()});
  EXPECT_NE(target.find("x86-64 avx1024"), std::string::npos) << target;
  EXPECT_EQ(message_of(engine.file()), "");
  engine.plan.backend = "cuda";
  EXPECT_EQ(message_of(engine.file(), {.backend = &cpu_backend()}),
            "the engine was built for the backend 'cuda', this is 'cpu'; build it anew");
}

TEST(EngineFile, WhatIsNoEngineIsRefused) {
  EXPECT_EQ(message_of({}), "the file is empty");
  const std::string text = "\x08\x07 this is some other file, for instance an ONNX model";
  const auto bytes = std::as_bytes(std::span(text));
  EXPECT_EQ(message_of({bytes.begin(), bytes.end()}), "this is no Tenfold engine: the file begins with other bytes");
}

TEST(EngineFile, IsRefusedWhenCutOffAnywhere) {
  const std::vector<std::byte> bytes = test::classifier().file();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_NE(message_of({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)}), "") << size;
  }
  std::vector<std::byte> longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_NE(message_of(longer), "");
}

TEST(EngineFile, EverySingleChangedBitIsRefused) {
  const Graph graph = parse_graph(kNetwork);
  std::vector<std::byte> bytes = test::classifier().file({.portable = &graph});
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes[i] ^= static_cast<std::byte>(1 << bit);
      bool is_refused = false;
      try {
        (void)read_engine(bytes);
      } catch (const Error& error) {
        is_refused = error.code() == Code::incompatible_engine;
      }
      ASSERT_TRUE(is_refused) << "byte " << i << " bit " << bit;
      bytes[i] ^= static_cast<std::byte>(1 << bit);
    }
  }
  EXPECT_EQ(message_of(bytes), "");
}

}  // namespace
}  // namespace tenfold
