// CUDA kernels that only move, combine or reduce elements, against the reference.
#include "cuda_case.hpp"

namespace tenfold::cuda {
namespace {

TEST(CudaOps, PointwiseProgramsReadEveryType) {
  for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16, DType::int8}) {
    const bool is_integer = dtype == DType::int8;
    Attributes attributes = {{"num_inputs", std::int64_t{3}},
                             {"program", std::string("mul 0 1; add 3 2; relu 4; mul_imm 5 0x1p-1; tanh 0; add 6 7")}};
    if (dtype != DType::float32) attributes.set("to", std::string(to_string(dtype)));
    const double range = is_integer ? 9 : 2;
    for (const auto& [a, b, c] :
         {std::tuple(Shape{2, 9, 40}, Shape{40}, Shape{2, 9, 1}), std::tuple(Shape{3, 5, 7}, Shape{3, 5, 7}, Shape{}),
          std::tuple(Shape{4, 6, 6, 16}, Shape{1, 1, 1, 16}, Shape{4, 1, 1, 16})}) {
      check_cuda(
          {"Pointwise",
           attributes,
           {numbers(dtype, a, 1, -range, range), numbers(DType::float32, b, 2), numbers(dtype, c, 3, -range, range)}},
          "elementwise.vectors", tolerance_of(dtype));
    }
  }
  note_what_is_missing();
}

TEST(CudaOps, ActivationsAgreeWithTheirReference) {
  for (const DType dtype : kFloats) {
    for (const char* op :
         {"Gelu", "Swish", "Sigmoid", "Tanh", "Erf", "Exp", "HardSwish", "Softplus", "Mish", "Elu", "Sin", "Round"}) {
      check_cuda({op, {}, {numbers(dtype, {5, 333}, 1)}}, "elementwise.vectors", tolerance_of(dtype));
    }
  }
  note_what_is_missing();
}

TEST(CudaOps, IntegersCompareAndCombine) {
  for (const DType dtype : {DType::int32, DType::int64, DType::uint8}) {
    for (const char* op : {"Add", "Sub", "Mul", "Max", "Equal", "Less", "GreaterOrEqual"}) {
      check_cuda({op, {}, {numbers(dtype, {6, 40}, 1, 0, 9), numbers(dtype, {40}, 2, 0, 9)}}, "elementwise.vectors",
                 {});
    }
  }
  const Tensor a = numbers(DType::boolean, {6, 40}, 1, 0, 2), b = numbers(DType::boolean, {6, 1}, 2, 0, 2);
  for (const char* op : {"And", "Or", "Xor"}) check_cuda({op, {}, {a, b}}, "elementwise.vectors", {});
  check_cuda({"Not", {}, {a}}, "elementwise.vectors", {});
  for (const DType dtype : {DType::int64, DType::float32, DType::float16}) {
    check_cuda({"Where", {}, {b, numbers(dtype, {6, 40}, 3), numbers(dtype, {}, 4)}}, "elementwise.vectors", {});
  }
  note_what_is_missing();
}

TEST(CudaOps, CastsConvertBetweenAllTypes) {
  for (const DType from : {DType::float32, DType::float16, DType::int64, DType::int32, DType::boolean, DType::uint8}) {
    for (const DType to : {DType::float32, DType::float16, DType::int64, DType::int32, DType::boolean}) {
      if (from == to) continue;
      check_cuda({"Cast", {{"to", std::string(to_string(to))}}, {numbers(from, {7, 24}, 1, 0, 100)}},
                 "elementwise.vectors", {});
    }
  }
  note_what_is_missing();
}

TEST(CudaOps, QuantisationIsExact) {
  Tensor scale(DType::float32, {6});
  for (float& s : scale.as_mutable<float>()) s = 0.0625F;
  Tensor one(DType::float32, {});
  one.as_mutable<float>()[0] = 0.03125F;
  for (const DType dtype : {DType::int8, DType::uint8}) {
    const Tensor zeros = numbers(dtype, {6}, 3, 0, 9), zero = numbers(dtype, {}, 3, 0, 9);
    for (const DType real : kFloats) {
      if (real == DType::float32) {
        check_cuda({"QuantizeLinear", {{"axis", std::int64_t{1}}}, {numbers(real, {2, 6, 40}, 1, -9, 9), scale, zeros}},
                   "elementwise.vectors", {});
        check_cuda({"QuantizeLinear", {}, {numbers(real, {2, 6, 40}, 1, -9, 9), one, zero}}, "elementwise.vectors", {});
      }
    }
    check_cuda({"DequantizeLinear", {{"axis", std::int64_t{1}}}, {numbers(dtype, {2, 6, 40}, 1, 0, 99), scale, zeros}},
               "elementwise.vectors", {});
    check_cuda({"DequantizeLinear", {}, {numbers(dtype, {2, 6, 40}, 1, 0, 99), one}}, "elementwise.vectors", {});
  }
  note_what_is_missing();
}

TEST(CudaOps, TranspositionsMoveEveryElement) {
  const auto check = [](DType dtype, const Shape& shape, const std::vector<std::int64_t>& perm) {
    check_cuda({"Transpose", {{"perm", perm}}, {numbers(dtype, shape, 1, 0, 100)}}, "copy.strided", {});
  };
  for (const DType dtype : {DType::int8, DType::float16, DType::float32, DType::int64}) {
    check(dtype, {2, 33, 70}, {0, 2, 1});
    check(dtype, {3, 64, 128}, {0, 2, 1});
    check(dtype, {2, 5, 3, 16}, {0, 2, 1, 3});
    check(dtype, {2, 3, 20, 20}, {0, 2, 3, 1});
    check(dtype, {2, 20, 20, 40}, {0, 3, 1, 2});
    for (const std::int64_t planes : {2, 3, 4}) check(dtype, {2, planes, 16, 24}, {0, 2, 3, 1});
    check(dtype, {4, 3, 5, 2, 3}, {4, 1, 3, 0, 2});
  }
  note_what_is_missing();
}

TEST(CudaOps, PartsAreCutJoinedAndRepeated) {
  for (const DType dtype : {DType::int8, DType::float16, DType::float32, DType::int64}) {
    const auto x = [&](const Shape& shape, std::uint32_t seed) { return numbers(dtype, shape, seed, 0, 100); };
    for (const std::int64_t axis : {0, 1, 2}) {
      Shape other{2, 6, 24};
      other[static_cast<std::size_t>(axis)] = 8;
      check_cuda({"Concat", {{"axis", axis}}, {x({2, 6, 24}, 1), x(other, 2), x({2, 6, 24}, 3)}}, "copy.strided", {});
    }
    check_cuda({"Split",
                {{"axis", std::int64_t{2}}, {"sizes", std::vector<std::int64_t>{8, 13, 3}}},
                {x({2, 6, 24}, 1)},
                {},
                3},
               "copy.strided", {});
    check_cuda({"Slice",
                {{"starts", Ints{1, 8}}, {"ends", Ints{6, 24}}, {"axes", Ints{1, 2}}, {"steps", Ints{2, 1}}},
                {x({2, 6, 24}, 1)}},
               "copy.strided", {});
    check_cuda({"Slice",
                {{"starts", Ints{-1}}, {"ends", Ints{-100}}, {"axes", Ints{2}}, {"steps", Ints{-1}}},
                {x({2, 6, 24}, 1)}},
               "copy.strided", {});
    const Tensor repeats = Tensor::of_int64({3}, Ints{1, 2, 3});
    check_cuda({"Tile", {}, {x({2, 6, 24}, 1), repeats}, {false, true}}, "copy.strided", {});
    check_cuda({"Expand", {{"dims", Ints{3, 2, 6, 24}}}, {x({2, 1, 24}, 1)}}, "copy.strided", {});
    check_cuda({"Expand", {{"dims", Ints{2, 6, 24}}}, {x({2, 6, 1}, 1)}}, "copy.strided", {});
    for (const char* mode : {"DCR", "CRD"}) {
      check_cuda({"DepthToSpace", {{"blocksize", std::int64_t{2}}, {"mode", std::string(mode)}}, {x({2, 8, 5, 6}, 1)}},
                 "copy.strided", {});
    }
    check_cuda({"SpaceToDepth", {{"blocksize", std::int64_t{2}}}, {x({2, 3, 4, 6}, 1)}}, "copy.strided", {});
  }
  note_what_is_missing();
}

TEST(CudaOps, RowsAreNormalised) {
  for (const DType dtype : kFloats) {
    for (const std::int64_t length : {8, 37, 384, 768, 1000, 5000, 40000}) {
      const Tensor x = numbers(dtype, {2, 3, length}, 1, -4, 4);
      check_cuda({"Softmax", {{"axis", std::int64_t{-1}}}, {x}}, "rows.softmax", tolerance_of(dtype));
      check_cuda({"LogSoftmax", {{"axis", std::int64_t{-1}}}, {x}}, "rows.softmax", tolerance_of(dtype));
      // The sums round at their own magnitude, below 16.
      check_cuda({"LayerNormalization", {}, {x, numbers(DType::float32, {length}, 2), numbers(dtype, {length}, 3)}},
                 "rows.normalize", tolerance_of(dtype));
      check_cuda({"RMSNormalization", {}, {x, numbers(dtype, {length}, 2)}}, "rows.normalize", tolerance_of(dtype));
    }
    const Tensor image = numbers(dtype, {2, 12, 7, 8}, 1, -4, 4), scale = numbers(dtype, {12}, 2),
                 bias = numbers(dtype, {12}, 3);
    check_cuda({"GroupNormalization", {{"num_groups", std::int64_t{3}}}, {image, scale, bias}}, "rows.normalize",
               tolerance_of(dtype));
    check_cuda({"InstanceNormalization", {}, {image, scale, bias}}, "rows.normalize", tolerance_of(dtype));
  }
  note_what_is_missing();
}

TEST(CudaOps, GroupsOfImagesAreNormalised) {
  for (const DType dtype : kFloats) {
    for (const char* tactic : {"images.normalize", "groups.normalize"}) {
      for (const auto& [shape, groups] : {std::pair(Shape{2, 8, 8, 32}, 8), std::pair(Shape{1, 64, 64, 320}, 32),
                                          std::pair(Shape{2, 7, 9, 2560}, 32), std::pair(Shape{3, 5, 5, 12}, 3)}) {
        const std::int64_t channels = shape.back();
        const Tensor x = numbers(dtype, shape, 1, 6, 9);
        const Tensor scale = numbers(DType::float32, {channels}, 2), bias = numbers(dtype, {channels}, 3);
        Attributes attributes{{"num_groups", std::int64_t{groups}}, {"layout", std::string("nhwc")}};
        check_cuda({"GroupNormalization", attributes, {x, scale, bias}}, tactic, tolerance_of(dtype));
        attributes.set("epilogue", std::string("silu 0"));
        check_cuda({"GroupNormalization", attributes, {x, scale, bias}}, tactic, tolerance_of(dtype));
        attributes.set("epilogue", std::string("add 0 1; silu 2"));
        attributes.set("epilogue_inputs", std::int64_t{1});
        check_cuda({"GroupNormalization", attributes, {x, scale, bias, numbers(dtype, {shape[0], 1, 1, channels}, 4)}},
                   tactic, tolerance_of(dtype));
        check_cuda({"GroupNormalization", attributes, {x, scale, bias, numbers(dtype, shape, 4)}}, tactic,
                   tolerance_of(dtype));
        check_cuda({"InstanceNormalization", {{"layout", std::string("nhwc")}}, {x, scale, bias}}, tactic,
                   tolerance_of(dtype));
      }
    }
  }
  note_what_is_missing();
}

// One image over one to eight blocks; slabs of one group, of two and of four; blocks without a pixel.
TEST(CudaOps, GroupsOfImagesAreNormalisedInClusters) {
  for (const DType dtype : kFloats) {
    for (const auto& [shape, groups] :
         {std::pair(Shape{2, 8, 8, 32}, 8), std::pair(Shape{1, 64, 64, 320}, 32), std::pair(Shape{1, 33, 5, 960}, 32),
          std::pair(Shape{2, 7, 9, 2560}, 32), std::pair(Shape{3, 5, 5, 24}, 6), std::pair(Shape{140, 3, 7, 64}, 2)}) {
      const std::int64_t channels = shape.back();
      const Tensor x = numbers(dtype, shape, 1, 6, 9);
      const Tensor scale = numbers(DType::float32, {channels}, 2), bias = numbers(dtype, {channels}, 3);
      Attributes attributes{{"num_groups", std::int64_t{groups}}, {"layout", std::string("nhwc")}};
      check_cuda({"GroupNormalization", attributes, {x, scale, bias}}, "images.normalize_cluster", tolerance_of(dtype));
      attributes.set("epilogue", std::string("add 0 1; silu 2"));
      attributes.set("epilogue_inputs", std::int64_t{1});
      check_cuda({"GroupNormalization", attributes, {x, scale, bias, numbers(dtype, shape, 4)}},
                 "images.normalize_cluster", tolerance_of(dtype));
    }
  }
  note_what_is_missing();
}

TEST(CudaOps, AttentionTakesAnyHeadSize) {
  for (const DType dtype : kFloats) {
    for (const auto& [depth, queries, keys] : {std::tuple(15, 7, 40), std::tuple(64, 33, 33), std::tuple(200, 5, 70)}) {
      for (const std::string layout : {"bhld", "blhd", "flat"}) {
        const auto shape = [&](std::int64_t heads, std::int64_t rows) {
          if (layout == "flat") return Shape{2, rows, heads * depth};
          return layout == "bhld" ? Shape{2, heads, rows, depth} : Shape{2, rows, heads, depth};
        };
        const Tensor q = numbers(dtype, shape(4, queries), 1), k = numbers(dtype, shape(2, keys), 2);
        const Tensor v = numbers(dtype, shape(2, keys), 3), mask = numbers(dtype, {2, 1, 1, keys}, 4);
        for (const std::int64_t causal : {0, 1}) {
          Attributes attributes{{"layout", layout}, {"causal", causal}};
          if (layout == "flat") {
            attributes.set("heads", std::int64_t{4});
            attributes.set("key_heads", std::int64_t{2});
          }
          check_cuda({"FusedAttention", attributes, {q, k, v, mask}}, "attention.rows", tolerance_of(dtype));
          check_cuda({"FusedAttention", attributes, {q, k, v}}, "attention.rows", tolerance_of(dtype));
        }
      }
    }
  }
  note_what_is_missing();
}

}  // namespace
}  // namespace tenfold::cuda
