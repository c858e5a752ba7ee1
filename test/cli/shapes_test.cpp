// Shapes of the command line and the profiles made of them.
#include "shapes.hpp"

#include <gtest/gtest.h>

#include "model.hpp"

namespace tenfold::cli {
namespace {

Graph two_inputs() {
  Graph graph;
  graph.add_input("x", {DType::float32, {Dim::symbol("batch"), 3, Dim::symbol("w")}});
  graph.add_input("mask", {DType::int64, {Dim::symbol("batch"), Dim::symbol("w")}});
  graph.add_input("scale", {DType::float32, {}});
  return graph;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    return error.message();
  }
  return "no error";
}

TEST(Shapes, NamesMayHoldColons) {
  const NamedShapes shapes = parse_shapes("image:0:1x3x224x224,n:");
  EXPECT_EQ(shapes.at("image:0"), (Shape{1, 3, 224, 224}));
  EXPECT_EQ(shapes.at("n"), Shape{});
  EXPECT_EQ(parse_shapes(format_shapes(shapes)), shapes);
}

TEST(Shapes, NonsenseIsRefused) {
  for (const char* text :
       {"x", "x:1xx2", "x:a", "x:-1", "x:1,x:2", ":1", "x:1x", "x:99999999999", "x:1x1x1x1x1x1x1x1x1"}) {
    EXPECT_NE(message_of([&] { parse_shapes(text); }), "no error") << text;
  }
  EXPECT_EQ(parse_shapes("x:-1x3", true).at("x"), (Shape{-1, 3}));
}

TEST(Shapes, SharedSymbolsFillOtherInputs) {
  const NamedShapes all = complete_shapes(two_inputs(), parse_shapes("x:2x3x17"));
  EXPECT_EQ(all.at("mask"), (Shape{2, 17}));
  EXPECT_EQ(all.at("scale"), Shape{});
}

TEST(Shapes, ContradictionsAreNamed) {
  EXPECT_NE(message_of([] { complete_shapes(two_inputs(), parse_shapes("x:2x4x17")); }).find("fixes it at 3"),
            std::string::npos);
  EXPECT_NE(message_of([] {
              complete_shapes(two_inputs(), parse_shapes("x:2x3x17,mask:2x16"));
            }).find("'w' is 16 here but 17 in input 'x'"),
            std::string::npos);
  EXPECT_NE(message_of([] { complete_shapes(two_inputs(), parse_shapes("y:2")); }).find("x, mask, scale"),
            std::string::npos);
}

TEST(Shapes, MissingDynamicShapesAreListedWithACommand) {
  const std::string message =
      message_of([] { make_profiles(two_inputs(), {}, "tenfold build m.onnx -o m.engine", true); });
  EXPECT_NE(message.find("mask: int64[batch, w]"), std::string::npos);
  EXPECT_NE(message.find("tenfold build m.onnx -o m.engine"), std::string::npos);
  EXPECT_NE(message.find("--min-shapes mask:1x"), std::string::npos);
}

TEST(Shapes, ProfilesPairUpByPosition) {
  ShapeOptions options;
  options.min = {"x:1x3x8", "x:1x3x64"};
  options.opt = {"x:1x3x32", "x:4x3x64"};
  options.max = {"x:2x3x32", "x:8x3x640"};
  const auto profiles = make_profiles(two_inputs(), options, "", true);
  ASSERT_EQ(profiles.size(), 2U);
  EXPECT_EQ(profiles[1].at("mask").max, (Shape{8, 640}));
  options.max.pop_back();
  EXPECT_NE(message_of([&] { make_profiles(two_inputs(), options, "", true); }), "no error");
}

TEST(Shapes, RangesMustBeInOrder) {
  ShapeOptions options;
  options.min = {"x:4x3x8"};
  options.opt = {"x:1x3x8"};
  EXPECT_NE(message_of([&] { make_profiles(two_inputs(), options, "", true); }).find("not in order"),
            std::string::npos);
}

TEST(Sizes, HaveUnits) {
  EXPECT_EQ(parse_bytes("1GiB"), std::uint64_t{1} << 30);
  EXPECT_EQ(parse_bytes("1.5M"), 3U << 19U);
  EXPECT_EQ(parse_bytes("17"), 17U);
  EXPECT_EQ(parse_bytes("17", 1U << 20U), 17U << 20U);
  for (const char* text : {"", "x", "-1", "1XB", "1GiBs", "1e40"}) {
    EXPECT_NE(message_of([&] { parse_bytes(text); }), "no error") << text;
  }
}

}  // namespace
}  // namespace tenfold::cli
