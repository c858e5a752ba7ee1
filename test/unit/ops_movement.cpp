#include "ops/movement.hpp"
#include "ops/numbers.hpp"
#include "ops/slice.hpp"
#include "ops_case.hpp"

namespace tenfold {
namespace {

using namespace ops_case;  // NOLINT(google-build-using-namespace): the vocabulary of these tests
using Ints = std::vector<std::int64_t>;

TEST(CopyStrided, AgreesWithIndexArithmetic) {
  // Shapes with axes of size 1 and 0, every permutation of three axes, and a size beyond one tile.
  for (const Shape& dims : {Shape{2, 3, 4}, Shape{1, 20, 35}, Shape{17, 1, 16}, Shape{33, 2, 18}, Shape{2, 0, 3}}) {
    const Tensor x = iota(dims);
    Ints permutation{0, 1, 2};
    do {
      const Tensor y = evaluate("Transpose", {{"perm", permutation}}, {x});
      const Shape strides = strides_of(dims);
      std::vector<Shape> from(1);
      for (const std::int64_t axis : permutation) from[0].push_back(strides[static_cast<std::size_t>(axis)]);
      std::size_t i = 0;
      for_each_index(y.shape(), from, [&](std::span<const std::int64_t> at) {
        ASSERT_EQ(y.as<float>()[i++], x.as<float>()[static_cast<std::size_t>(at[0])]);
      });
    } while (std::next_permutation(permutation.begin(), permutation.end()));
  }
}

TEST(Transpose, ReversesAxesByDefaultAndRefusesOthers) {
  EXPECT_TRUE(evaluate("Transpose", {}, {iota({2, 3})}).equals(floats({3, 2}, {0, 3, 1, 4, 2, 5})));
  EXPECT_TRUE(evaluate("Transpose", {}, {iota({})}).equals(iota({})));
  for (const Ints& perm : {Ints{0}, Ints{0, 0}, Ints{0, 2}, Ints{-1, 0}}) {
    EXPECT_THROW(evaluate("Transpose", {{"perm", perm}}, {iota({2, 3})}), Error);
  }
}

TEST(Views, KeepTheElements) {
  const Tensor x = iota({2, 1, 3});
  EXPECT_TRUE(evaluate("Reshape", {}, {x, ints({2}, {3, -1})}).equals(iota({3, 2})));
  EXPECT_TRUE(evaluate("Reshape", {{"dims", Ints{6}}}, {x}).equals(iota({6})));
  EXPECT_TRUE(
      evaluate("Reshape", {{"allowzero", std::int64_t{1}}}, {iota({0, 3}), ints({2}, {3, 0})}).equals(iota({3, 0})));
  EXPECT_TRUE(evaluate("Flatten", {{"axis", std::int64_t{-1}}}, {x}).equals(iota({2, 3})));
  EXPECT_TRUE(evaluate("Flatten", {{"axis", std::int64_t{0}}}, {x}).equals(iota({1, 6})));
  EXPECT_TRUE(evaluate("Squeeze", {{"axes", Ints{-2}}}, {x}).equals(iota({2, 3})));
  EXPECT_TRUE(evaluate("Unsqueeze", {{"axes", Ints{-1, 0}}}, {x}).equals(iota({1, 2, 1, 3, 1})));
  EXPECT_THROW(evaluate("Squeeze", {{"axes", Ints{0}}}, {x}), Error);
  EXPECT_THROW(evaluate("Unsqueeze", {{"axes", Ints{0, 0}}}, {x}), Error);
  EXPECT_THROW(evaluate("Reshape", {{"dims", Ints{5}}}, {x}), Error);
  EXPECT_THROW(make_op("Reshape", {{"dims", Ints{-1}}}), Error);
}

TEST(Concat, JoinsAlongAnyAxis) {
  const Tensor a = floats({2, 1}, {1, 2});
  const Tensor b = floats({2, 2}, {3, 4, 5, 6});
  EXPECT_TRUE(evaluate("Concat", {{"axis", std::int64_t{1}}}, {a, b}).equals(floats({2, 3}, {1, 3, 4, 2, 5, 6})));
  EXPECT_TRUE(
      evaluate("Concat", {{"axis", std::int64_t{-2}}}, {b, b}).equals(floats({4, 2}, {3, 4, 5, 6, 3, 4, 5, 6})));
  EXPECT_TRUE(evaluate("Concat", {{"axis", std::int64_t{0}}}, {iota({0}), iota({2})}).equals(iota({2})));
  EXPECT_THROW(evaluate("Concat", {{"axis", std::int64_t{0}}}, {a, b}), Error);
  EXPECT_THROW(evaluate("Concat", {{"axis", std::int64_t{0}}}, {a, ints({2, 1}, {1, 2})}), Error);
  EXPECT_THROW(evaluate("Concat", {{"axis", std::int64_t{2}}}, {a, b}), Error);
}

TEST(Split, CutsIntoGivenOrEqualParts) {
  const Tensor x = iota({2, 5});
  auto parts = evaluate_all("Split", {{"axis", std::int64_t{1}}, {"sizes", Ints{2, 3}}}, {x}, 2);
  EXPECT_TRUE(parts[0].equals(floats({2, 2}, {0, 1, 5, 6})));
  EXPECT_TRUE(parts[1].equals(floats({2, 3}, {2, 3, 4, 7, 8, 9})));
  parts = evaluate_all("Split", {{"axis", std::int64_t{1}}}, {x, ints({2}, {5, 0})}, 2);
  EXPECT_TRUE(parts[0].equals(x));
  EXPECT_EQ(parts[1].shape(), (Shape{2, 0}));
  // Without sizes only the last part may be smaller.
  parts = evaluate_all("Split", {{"axis", std::int64_t{1}}}, {x}, 3);
  EXPECT_EQ(parts[0].shape()[1], 2);
  EXPECT_EQ(parts[2].shape()[1], 1);
  EXPECT_THROW(evaluate_all("Split", {{"axis", std::int64_t{1}}, {"sizes", Ints{2, 2}}}, {x}, 2), Error);
  EXPECT_THROW(evaluate_all("Split", {{"axis", std::int64_t{1}}, {"sizes", Ints{5}}}, {x}, 2), Error);
  EXPECT_THROW(make_op("Split", {{"sizes", Ints{-1}}}), Error);
}

TEST(Slice, StepsForwardsAndBackwards) {
  const Tensor x = iota({3, 4});
  EXPECT_TRUE(evaluate("Slice",
                       {{"starts", Ints{1, 3}}, {"ends", Ints{3, -5}}, {"axes", Ints{0, 1}}, {"steps", Ints{1, -2}}},
                       {x})
                  .equals(floats({2, 2}, {7, 5, 11, 9})));
  EXPECT_TRUE(evaluate("Slice", {}, {x, ints({1}, {-2}), ints({1}, {1000}), ints({1}, {-1})})
                  .equals(floats({3, 2}, {2, 3, 6, 7, 10, 11})));
  EXPECT_EQ(evaluate("Slice", {}, {x, ints({1}, {2}), ints({1}, {1})}).shape(), (Shape{0, 4}));
  constexpr std::int64_t kLowest = std::numeric_limits<std::int64_t>::min();
  EXPECT_TRUE(
      evaluate("Slice", {}, {iota({3}), ints({1}, {-1}), ints({1}, {kLowest}), ints({1}, {0}), ints({1}, {kLowest})})
          .equals(floats({1}, {2})));
}

TEST(Slice, ContradictionsAreRefused) {
  const Tensor x = iota({3, 4});
  EXPECT_THROW(make_op("Slice", {{"starts", Ints{1}}, {"ends", Ints{}}}), Error);
  EXPECT_THROW(make_op("Slice", {{"starts", Ints{1}}, {"ends", Ints{2}}, {"steps", Ints{0}}}), Error);
  EXPECT_THROW(evaluate("Slice", {{"starts", Ints{0, 0}}, {"ends", Ints{1, 1}}, {"axes", Ints{1, -1}}}, {x}), Error);
  EXPECT_THROW(evaluate("Slice", {{"starts", Ints{0}}, {"ends", Ints{1}}, {"axes", Ints{2}}}, {x}), Error);
}

TEST(Expand, RepeatsAlongAxesOfOne) {
  EXPECT_TRUE(evaluate("Expand", {}, {floats({2, 1}, {1, 2}), ints({3}, {2, 1, 2})})
                  .equals(floats({2, 2, 2}, {1, 1, 2, 2, 1, 1, 2, 2})));
  EXPECT_TRUE(evaluate("Expand", {{"dims", Ints{2, 2}}}, {iota({2})}).equals(floats({2, 2}, {0, 1, 0, 1})));
  EXPECT_THROW(evaluate("Expand", {}, {iota({2}), ints({1}, {3})}), Error);
  EXPECT_THROW(evaluate("Expand", {}, {iota({1}), ints({1}, {-1})}), Error);
}

TEST(Tile, RepeatsWholeCopies) {
  EXPECT_TRUE(evaluate("Tile", {}, {iota({2, 2}), ints({2}, {2, 1})}).equals(floats({4, 2}, {0, 1, 2, 3, 0, 1, 2, 3})));
  EXPECT_TRUE(evaluate("Tile", {}, {iota({2, 2}), ints({2}, {1, 2})}).equals(floats({2, 4}, {0, 1, 0, 1, 2, 3, 2, 3})));
  EXPECT_EQ(evaluate("Tile", {}, {iota({2}), ints({1}, {0})}).shape(), Shape{0});
  EXPECT_THROW(evaluate("Tile", {}, {iota({2}), ints({1}, {-1})}), Error);
  EXPECT_THROW(evaluate("Tile", {}, {iota({2}), ints({2}, {1, 1})}), Error);
}

TEST(Pad, EveryModeFillsTheBorder) {
  const Tensor x = floats({1, 3}, {1, 2, 3});
  const auto padded = [&](const char* mode, std::int64_t before, std::int64_t after) {
    return values(evaluate("Pad", {{"mode", mode}, {"pads", Ints{0, before, 0, after}}, {"value", 9.0}}, {x}));
  };
  EXPECT_EQ(padded("constant", 2, 1), (std::vector<float>{9, 9, 1, 2, 3, 9}));
  EXPECT_EQ(padded("constant", -1, 1), (std::vector<float>{2, 3, 9}));
  EXPECT_EQ(padded("reflect", 2, 2), (std::vector<float>{3, 2, 1, 2, 3, 2, 1}));
  EXPECT_EQ(padded("edge", 2, 1), (std::vector<float>{1, 1, 1, 2, 3, 3}));
  EXPECT_EQ(padded("wrap", 4, 1), (std::vector<float>{3, 1, 2, 3, 1, 2, 3, 1}));
  EXPECT_EQ(padded("edge", -2, 0), (std::vector<float>{3}));
}

TEST(Pad, PadsMayBeInputs) {
  const Tensor x = ints({2}, {1, 2});
  EXPECT_TRUE(evaluate("Pad", {}, {x, ints({2}, {1, 0}), ints({}, {7})}).equals(ints({3}, {7, 1, 2})));
  EXPECT_TRUE(evaluate("Pad", {}, {iota({1, 2}), ints({2}, {0, 1}), Tensor(), ints({1}, {-1})})
                  .equals(floats({1, 3}, {0, 1, 0})));
  EXPECT_THROW(evaluate("Pad", {}, {x, ints({2}, {-2, -1})}), Error);
  EXPECT_THROW(evaluate("Pad", {}, {x, ints({1}, {1})}), Error);
  EXPECT_THROW(evaluate("Pad", {{"mode", "edge"}}, {ints({0}, {}), ints({2}, {1, 0})}), Error);
  EXPECT_THROW(make_op("Pad", {{"mode", "mirror"}}), Error);
}

TEST(Gather, TakesSlicesAndRefusesIndicesOutside) {
  const Tensor x = iota({3, 2});
  EXPECT_TRUE(evaluate("Gather", {}, {x, ints({2}, {2, -3})}).equals(floats({2, 2}, {4, 5, 0, 1})));
  EXPECT_TRUE(evaluate("Gather", {{"axis", std::int64_t{1}}}, {x, ints({1, 2}, {1, 0})})
                  .equals(floats({3, 1, 2}, {1, 0, 3, 2, 5, 4})));
  EXPECT_TRUE(evaluate("Gather", {}, {x, int32s({}, {1})}).equals(floats({2}, {2, 3})));
  EXPECT_NE(failure(Code::invalid_model,
                    [&] {
                      evaluate("Gather", {}, {x, ints({1}, {3})});
                    })
                .find("index 3 is outside"),
            std::string::npos);
  EXPECT_THROW(evaluate("Gather", {}, {x, floats({1}, {0})}), Error);
}

TEST(GatherElements, ReadsOneElementForEachIndex) {
  const Tensor x = floats({2, 2}, {1, 2, 3, 4});
  EXPECT_TRUE(evaluate("GatherElements", {{"axis", std::int64_t{1}}}, {x, ints({2, 2}, {0, 0, 1, 0})})
                  .equals(floats({2, 2}, {1, 1, 4, 3})));
  EXPECT_TRUE(evaluate("GatherElements", {}, {x, ints({1, 2}, {-1, 0})}).equals(floats({1, 2}, {3, 2})));
  EXPECT_THROW(evaluate("GatherElements", {}, {x, ints({1, 3}, {0, 0, 0})}), Error);
  EXPECT_THROW(evaluate("GatherElements", {}, {x, ints({1, 2}, {2, 0})}), Error);
}

TEST(GatherND, ReadsSlicesByTuples) {
  const Tensor x = iota({2, 2, 2});
  EXPECT_TRUE(evaluate("GatherND", {}, {x, ints({2, 2}, {0, 1, 1, 0})}).equals(floats({2, 2}, {2, 3, 4, 5})));
  EXPECT_TRUE(evaluate("GatherND", {{"batch_dims", std::int64_t{1}}}, {x, ints({2, 1}, {1, 0})})
                  .equals(floats({2, 2}, {2, 3, 4, 5})));
  EXPECT_THROW(evaluate("GatherND", {}, {x, ints({1, 2}, {0, 2})}), Error);
  EXPECT_THROW(evaluate("GatherND", {}, {x, ints({1, 4}, {0, 0, 0, 0})}), Error);
}

TEST(Scatter, WritesAndCombines) {
  const Tensor x = floats({1, 5}, {1, 2, 3, 4, 5});
  const Tensor at = ints({1, 2}, {1, 1});
  const Tensor updates = floats({1, 2}, {1.5F, 2.5F});
  const auto scattered = [&](const char* reduction) {
    return values(evaluate("ScatterElements", {{"axis", std::int64_t{1}}, {"reduction", reduction}}, {x, at, updates}));
  };
  EXPECT_EQ(scattered("none"), (std::vector<float>{1, 2.5F, 3, 4, 5}));
  EXPECT_EQ(scattered("add"), (std::vector<float>{1, 6, 3, 4, 5}));
  EXPECT_EQ(scattered("mul"), (std::vector<float>{1, 7.5F, 3, 4, 5}));
  EXPECT_EQ(scattered("max"), (std::vector<float>{1, 2.5F, 3, 4, 5}));
  EXPECT_EQ(scattered("min"), (std::vector<float>{1, 1.5F, 3, 4, 5}));
  EXPECT_THROW(make_op("ScatterElements", {{"reduction", "mean"}}), Error);
  EXPECT_THROW(evaluate("ScatterElements", {{"axis", std::int64_t{1}}}, {x, ints({1, 1}, {5}), floats({1, 1}, {0})}),
               Error);
  EXPECT_THROW(evaluate("ScatterElements", {}, {x, at, floats({1, 1}, {0})}), Error);
}

TEST(ScatterND, WritesSlicesByTuples) {
  const Tensor x = iota({3, 2});
  EXPECT_TRUE(evaluate("ScatterND", {}, {x, ints({2, 1}, {2, -3}), floats({2, 2}, {9, 8, 7, 6})})
                  .equals(floats({3, 2}, {7, 6, 2, 3, 9, 8})));
  EXPECT_TRUE(evaluate("ScatterND", {{"reduction", "add"}}, {x, ints({2, 2}, {0, 1, 0, 1}), floats({2}, {10, 100})})
                  .equals(floats({3, 2}, {0, 111, 2, 3, 4, 5})));
  EXPECT_THROW(evaluate("ScatterND", {}, {x, ints({1, 1}, {3}), floats({1, 2}, {0, 0})}), Error);
  EXPECT_THROW(evaluate("ScatterND", {}, {x, ints({1, 1}, {0}), floats({1, 3}, {0, 0, 0})}), Error);
}

TEST(DepthToSpace, BothOrdersAndTheInverse) {
  const Tensor x = iota({1, 8, 1, 1});
  EXPECT_TRUE(evaluate("DepthToSpace", {{"blocksize", std::int64_t{2}}}, {x})
                  .equals(floats({1, 2, 2, 2}, {0, 2, 4, 6, 1, 3, 5, 7})));
  EXPECT_TRUE(
      evaluate("DepthToSpace", {{"blocksize", std::int64_t{2}}, {"mode", "CRD"}}, {x}).equals(iota({1, 2, 2, 2})));
  const Tensor wide = iota({2, 8, 3, 5});
  for (const char* mode : {"DCR", "CRD"}) {
    const Attributes attributes{{"blocksize", std::int64_t{2}}, {"mode", mode}};
    const Tensor there = evaluate("DepthToSpace", attributes, {wide});
    EXPECT_EQ(there.shape(), (Shape{2, 2, 6, 10}));
    EXPECT_TRUE(evaluate("SpaceToDepth", attributes, {there}).equals(wide)) << mode;
  }
  EXPECT_THROW(evaluate("DepthToSpace", {{"blocksize", std::int64_t{3}}}, {x}), Error);
  EXPECT_THROW(make_op("SpaceToDepth", {{"blocksize", std::int64_t{0}}}), Error);
}

TEST(ReverseSequence, ReversesEachToItsLength) {
  const Tensor x = iota({2, 3});
  EXPECT_TRUE(evaluate("ReverseSequence", {{"batch_axis", std::int64_t{0}}, {"time_axis", std::int64_t{1}}},
                       {x, ints({2}, {2, 3})})
                  .equals(floats({2, 3}, {1, 0, 2, 5, 4, 3})));
  EXPECT_TRUE(evaluate("ReverseSequence", {}, {x, ints({3}, {1, 2, 2})}).equals(floats({2, 3}, {0, 4, 5, 3, 1, 2})));
  EXPECT_THROW(evaluate("ReverseSequence", {}, {x, ints({3}, {1, 2, 3})}), Error);
}

TEST(Generators, MakeWhatTheyAreAskedFor) {
  EXPECT_TRUE(
      evaluate("ConstantOfShape", {{"value", ints({1}, {7})}}, {ints({2}, {1, 2})}).equals(ints({1, 2}, {7, 7})));
  EXPECT_TRUE(evaluate("ConstantOfShape", {}, {ints({0}, {})}).equals(floats({}, {0})));
  EXPECT_TRUE(evaluate("Range", {}, {ints({}, {10}), ints({}, {4}), ints({}, {-2})}).equals(ints({3}, {10, 8, 6})));
  EXPECT_TRUE(evaluate("Range", {}, {floats({}, {0}), floats({}, {1}), floats({}, {0.25F})})
                  .equals(floats({4}, {0, 0.25F, 0.5F, 0.75F})));
  EXPECT_EQ(evaluate("Range", {}, {ints({}, {4}), ints({}, {4}), ints({}, {1})}).shape(), Shape{0});
  EXPECT_TRUE(evaluate("EyeLike", {{"k", std::int64_t{1}}, {"dtype", "int64"}}, {iota({2, 3})})
                  .equals(ints({2, 3}, {0, 1, 0, 0, 0, 1})));
  EXPECT_TRUE(evaluate("OneHot", {}, {ints({3}, {1, -1, 5}), ints({}, {3}), floats({2}, {0, 2})})
                  .equals(floats({3, 3}, {0, 2, 0, 0, 0, 2, 0, 0, 0})));
  EXPECT_TRUE(evaluate("OneHot", {{"axis", std::int64_t{0}}}, {ints({2}, {1, 0}), ints({1}, {2}), ints({2}, {5, 6})})
                  .equals(ints({2, 2}, {5, 6, 6, 5})));
  EXPECT_TRUE(evaluate("Trilu", {}, {iota({2, 3})}).equals(floats({2, 3}, {0, 1, 2, 0, 4, 5})));
  EXPECT_TRUE(evaluate("Trilu", {{"upper", std::int64_t{0}}}, {iota({2, 3}), ints({}, {1})})
                  .equals(floats({2, 3}, {0, 1, 0, 3, 4, 5})));
  EXPECT_TRUE(evaluate("Trilu", {}, {iota({2, 2}), ints({}, {std::numeric_limits<std::int64_t>::max()})})
                  .equals(floats({2, 2}, {0, 0, 0, 0})));
}

TEST(Generators, AbsurdSizesAreRefused) {
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  EXPECT_THROW(evaluate("ConstantOfShape", {}, {ints({1}, {-1})}), Error);
  EXPECT_THROW(evaluate("ConstantOfShape", {}, {ints({1}, {kHuge})}), Error);
  EXPECT_THROW(evaluate("ConstantOfShape", {}, {ints({3}, {1 << 30, 1 << 30, 1 << 30})}), Error);
  EXPECT_THROW(evaluate("ConstantOfShape", {{"value", ints({2}, {1, 2})}}, {ints({1}, {1})}), Error);
  EXPECT_THROW(evaluate("Range", {}, {ints({}, {0}), ints({}, {kHuge}), ints({}, {1})}), Error);
  EXPECT_THROW(evaluate("Range", {}, {ints({}, {0}), ints({}, {1}), ints({}, {0})}), Error);
  EXPECT_THROW(evaluate("Expand", {}, {iota({1}), ints({1}, {kHuge})}), Error);
  EXPECT_THROW(evaluate("Tile", {}, {iota({4}), ints({1}, {kHuge})}), Error);
  EXPECT_THROW(evaluate("OneHot", {}, {ints({1}, {0}), ints({}, {kHuge}), floats({2}, {0, 1})}), Error);
}

TEST(Import, ViewsBecomeReshapesWithKnownDims) {
  const TensorType type{DType::float32, {Dim::symbol("n"), Dim(1), Dim(6)}};
  ModelNode flatten("Flatten", 13, {{"axis", std::int64_t{1}}});
  flatten.with_input(type).import();
  EXPECT_EQ(flatten.result(), "Reshape{dims=[\"n\", \"6\"]} -> float32[n, 6]");
  ModelNode squeeze("Squeeze", 13, {});
  squeeze.with_input(type).with_constant(ints({1}, {1})).import();
  EXPECT_EQ(squeeze.result(), "Reshape{dims=[\"n\", \"6\"]} -> float32[n, 6]");
  ModelNode old("Unsqueeze", 11, {{"axes", Ints{0}}});
  old.with_input(type).import();
  EXPECT_EQ(old.result(), "Reshape{dims=[\"1\", \"n\", \"1\", \"6\"]} -> float32[1, n, 1, 6]");
  ModelNode reshape("Reshape", 13, {});
  reshape.with_input(type).with_constant(ints({2}, {-1, 3})).import();
  EXPECT_EQ(reshape.result(), "Reshape{dims=[\"2*n\", \"3\"]} -> float32[2*n, 3]");
  ModelNode unknown("Reshape", 13, {});
  unknown.with_input(type).with_input({DType::int64, {Dim(2)}}).import();
  EXPECT_EQ(unknown.result(), "Reshape{allowzero=0} -> float32[\"node#0\", \"node#1\"]");
  EXPECT_THROW(ModelNode("Squeeze", 13, {}).with_input(type).import(), Error);
}

TEST(Import, PositionsThatAreKnownBecomeAttributes) {
  const TensorType type{DType::float32, {Dim(4), Dim(6)}};
  ModelNode slice("Slice", 13, {});
  slice.with_input(type)
      .with_constant(ints({1}, {1}))
      .with_constant(ints({1}, {5}))
      .with_constant(ints({1}, {-1}))
      .import();
  EXPECT_EQ(slice.result(), "Slice{axes=[1], ends=[5], starts=[1], steps=[1]} -> float32[4, 4]");
  ModelNode old("Slice", 9, {{"starts", Ints{0, 1}}, {"ends", Ints{2, 2}}});
  old.with_input(type).import();
  EXPECT_EQ(old.result(), "Slice{axes=[0, 1], ends=[2, 2], starts=[0, 1], steps=[1, 1]} -> float32[2, 1]");
  ModelNode split("Split", 18, {{"axis", std::int64_t{-1}}, {"num_outputs", std::int64_t{2}}}, 2);
  split.with_input(type).import();
  EXPECT_EQ(split.result(1), "Split{axis=1, sizes=[3, 3]} -> float32[4, 3]");
  ModelNode pad("Pad", 18, {});
  pad.with_input(type)
      .with_constant(ints({2}, {1, 2}))
      .with_constant(floats({}, {3}))
      .with_constant(ints({1}, {1}))
      .import();
  EXPECT_EQ(pad.result(), "Pad{mode=\"constant\", pads=[0, 1, 0, 2], value=3.0} -> float32[4, 9]");
}

TEST(Import, ConstantsInEveryForm) {
  const auto constant = [](Attributes attributes) {
    ModelNode node("Constant", 13, std::move(attributes));
    node.import();
    return *node.graph().constant(node.output());
  };
  EXPECT_TRUE(constant({{"value", ints({1}, {4})}}).equals(ints({1}, {4})));
  EXPECT_TRUE(constant({{"value_float", 0.5}}).equals(floats({}, {0.5F})));
  EXPECT_TRUE(constant({{"value_floats", std::vector<double>{1, 2}}}).equals(floats({2}, {1, 2})));
  EXPECT_TRUE(constant({{"value_int", std::int64_t{-3}}}).equals(ints({}, {-3})));
  EXPECT_TRUE(constant({{"value_ints", Ints{1, 2, 3}}}).equals(ints({3}, {1, 2, 3})));
  EXPECT_THROW(constant({{"value_string", "text"}}), Error);
  EXPECT_THROW(constant({}), Error);
}

}  // namespace
}  // namespace tenfold
