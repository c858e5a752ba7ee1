// CUDA kernels of element types and operators beyond pointwise programs, and recurrent layers, against the reference.
#include "cuda_case.hpp"

namespace tenfold::cuda {
namespace {

TEST(CudaTyped, IntegersDivideShiftAndRaise) {
  for (const DType dtype : {DType::int8, DType::uint8, DType::int16, DType::int32, DType::uint32, DType::int64}) {
    const Tensor a = numbers(dtype, {6, 40}, 1, 0, 100), b = numbers(dtype, {40}, 2, 0, 9);
    for (const char* op : {"Div", "Mod", "Pow", "Max", "Min"}) check_cuda({op, {}, {a, b}}, "elementwise.vectors", {});
    check_cuda({"Mod", {{"fmod", std::int64_t{1}}}, {a, b}}, "elementwise.vectors", {});
    for (const char* direction : {"LEFT", "RIGHT"}) {
      check_cuda({"BitShift", {{"direction", std::string(direction)}}, {a, b}}, "elementwise.vectors", {});
    }
    check_cuda({"Sign", {}, {a}}, "elementwise.vectors", {});
    check_cuda({"Clip", {}, {a, numbers(dtype, {}, 1, 20, 21), numbers(dtype, {}, 1, 60, 61)}}, "elementwise.vectors",
               {});
    check_cuda({"Clip", {}, {a, Tensor(), numbers(dtype, {}, 1, 60, 61)}}, "elementwise.vectors", {});
    check_cuda({"Pow", {}, {numbers(DType::float32, {6, 40}, 1, 0.5, 2), b}}, "elementwise.vectors", {0, 16 * 0x1p-24});
    check_cuda({"Pow", {}, {a, numbers(DType::float32, {40}, 2, 0, 2)}}, "elementwise.vectors", {});
  }
  for (const DType dtype : {DType::int8, DType::int32, DType::int64}) {
    const Tensor a = numbers(dtype, {6, 40}, 1, -100, 100), b = numbers(dtype, {40}, 2, -5, 5);
    for (const char* op : {"Div", "Mod", "PRelu"}) check_cuda({op, {}, {a, b}}, "elementwise.vectors", {});
    for (const char* op : {"Sign", "Relu", "Neg", "Abs"}) check_cuda({op, {}, {a}}, "elementwise.vectors", {});
    check_cuda({"BitShift", {{"direction", std::string("RIGHT")}}, {a, b}}, "elementwise.vectors", {});
  }
  note_what_is_missing();
}

TEST(CudaTyped, FunctionsOfEveryFloat) {
  for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16, DType::float64}) {
    const Tolerance tolerance = dtype == DType::float64 ? Tolerance{1e-12, 1e-12} : tolerance_of(dtype);
    const Tensor x = numbers(dtype, {5, 333}, 1, -0.9, 0.9), above = numbers(dtype, {5, 333}, 1, 1.1, 4);
    for (const char* op : {"Acos", "Asin",  "Asinh", "Atan",    "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Erf",
                           "Exp",  "Floor", "Round", "Sigmoid", "Sign",  "Sin",  "Sinh", "Tan", "Tanh", "Shrink"}) {
      check_cuda({op, {}, {x}}, "elementwise.vectors", tolerance);
    }
    for (const char* op : {"Acosh", "Log", "Sqrt", "Reciprocal"})
      check_cuda({op, {}, {above}}, "elementwise.vectors", tolerance);
    check_cuda({"Mod", {{"fmod", std::int64_t{1}}}, {numbers(dtype, {5, 333}, 1, -9, 9), above}}, "elementwise.vectors",
               {0, 0x1p-20});
    check_cuda({"IsNaN", {}, {x}}, "elementwise.vectors", {});
    check_cuda({"IsInf", {{"detect_negative", std::int64_t{0}}}, {x}}, "elementwise.vectors", {});
  }
  note_what_is_missing();
}

TEST(CudaTyped, RecurrentLayersFollowTheirSequences) {
  for (const DType dtype : kFloats) {
    for (const char* op : {"RNN", "GRU", "LSTM"}) {
      const std::int64_t gates = op[0] == 'R' ? 1 : op[0] == 'G' ? 3 : 4;
      for (const char* direction : {"forward", "reverse", "bidirectional"}) {
        const std::int64_t directions = direction[0] == 'b' ? 2 : 1;
        for (const auto& [steps, batch, features, hidden] : {std::tuple(5, 1, 7, 40), std::tuple(7, 6, 33, 19)}) {
          const std::int64_t rows = gates * hidden;
          const Tensor x = numbers(dtype, {steps, batch, features}, 1, -1, 1);
          const Tensor w = numbers(dtype, {directions, rows, features}, 2, -0.3, 0.3);
          const Tensor r = numbers(dtype, {directions, rows, hidden}, 3, -0.3, 0.3);
          const Tensor bias = numbers(dtype, {directions, 2 * rows}, 4, -0.3, 0.3);
          const Tensor lengths = numbers(DType::int32, {batch}, 5, 0, steps + 1);
          const Tensor h = numbers(dtype, {directions, batch, hidden}, 6, -1, 1);
          const Tensor c = numbers(dtype, {directions, batch, hidden}, 7, -1, 1);
          const Tensor peepholes = numbers(dtype, {directions, 3 * hidden}, 8, -0.3, 0.3);
          const bool is_lstm = gates == 4;
          // Gates in float32; results of 16 bits are rounded once, at a magnitude below 2.
          const Tolerance tolerance = dtype == DType::float32 ? Tolerance{2e-6, 2e-6} : tolerance_of(dtype);
          for (const std::int64_t variant : {0, 1}) {
            Attributes how{{"direction", std::string(direction)}};
            if (gates == 3) how.set("linear_before_reset", variant);
            if (variant == 1) how.set("clip", 0.5);
            if (is_lstm) how.set("input_forget", variant);
            const int outputs = is_lstm ? 3 : 2;
            std::vector<Tensor> all{x, w, r, bias, lengths, h};
            if (is_lstm) all.insert(all.end(), {c, peepholes});
            check_cuda({op, how, all, {}, outputs}, "recurrent.steps", tolerance);
            check_cuda({op, how, {x, w, r}, {}, outputs}, "recurrent.steps", tolerance);
          }
        }
      }
    }
  }
  note_what_is_missing();
}

TEST(CudaTyped, GridsAreResizedInEveryMode) {
  const auto resize = [](DType dtype, const Shape& shape, Attributes how, const Tolerance& tolerance) {
    for (const char* coordinates : {"half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"}) {
      how.set("coordinate_transformation_mode", std::string(coordinates));
      check_cuda({"Resize", how, {numbers(dtype, shape, 1, -9, 9)}}, "resize.taps", tolerance);
    }
  };
  for (const DType dtype : {DType::float32, DType::float16, DType::float64}) {
    // Sums of 16 terms of magnitude 9 in double, rounded once.
    const Tolerance tolerance{9 * tolerance_of(dtype).absolute, tolerance_of(dtype).relative};
    resize(dtype, {2, 3, 7, 9}, {{"mode", std::string("cubic")}, {"sizes", Ints{2, 3, 11, 5}}}, tolerance);
    resize(dtype, {2, 7, 9},
           {{"mode", std::string("linear")}, {"antialias", std::int64_t{1}}, {"sizes", Ints{2, 3, 4}}}, tolerance);
    resize(dtype, {4, 5, 6}, {{"mode", std::string("linear")}, {"sizes", Ints{7, 9, 11}}}, tolerance);
    resize(dtype, {2, 7, 9},
           {{"mode", std::string("cubic")}, {"exclude_outside", std::int64_t{1}}, {"sizes", Ints{2, 9, 14}}},
           tolerance);
    resize(dtype, {4, 5, 6}, {{"mode", std::string("nearest")}, {"sizes", Ints{7, 9, 4}}}, {});
  }
  note_what_is_missing();
}

TEST(CudaTyped, IntegersMultiplyWithZeroPoints) {
  Tensor scale(DType::float32, {});
  scale.as_mutable<float>()[0] = 0.0625F;
  for (const DType a : {DType::int8, DType::uint8}) {
    for (const DType b : {DType::int8, DType::uint8}) {
      const auto byte = [](DType dtype, const Shape& shape, std::uint32_t seed) {
        return dtype == DType::int8 ? numbers(dtype, shape, seed, -128, 128) : numbers(dtype, shape, seed, 0, 256);
      };
      const Tensor a_zero = byte(a, {}, 3), b_zero = byte(b, {}, 4), b_zeros = byte(b, {13}, 5);
      check_cuda({"MatMulInteger", {}, {byte(a, {2, 9, 17}, 1), byte(b, {17, 13}, 2), a_zero, b_zeros}},
                 "integers.plain", {});
      check_cuda({"MatMulInteger", {}, {byte(a, {3, 1, 9, 17}, 1), byte(b, {2, 17, 13}, 2)}}, "integers.plain", {});
      check_cuda({"QLinearMatMul",
                  {},
                  {byte(a, {2, 9, 17}, 1), scale, a_zero, byte(b, {2, 17, 13}, 2), scale, b_zero,
                   numbers(DType::float32, {}, 6, 9, 10), a_zero}},
                 "integers.plain", {1, 0});
      const Attributes window{
          {"strides", Ints{2, 1}}, {"pads", Ints{1, 1, 0, 1}}, {"dilations", Ints{1, 2}}, {"group", std::int64_t{2}}};
      const Tensor x = byte(a, {2, 4, 7, 9}, 1), w = byte(b, {6, 2, 3, 3}, 2);
      check_cuda({"ConvInteger", window, {x, w, a_zero, b_zero}}, "integers.plain", {});
      check_cuda({"QLinearConv",
                  window,
                  {x, scale, a_zero, w, scale, b_zero, numbers(DType::float32, {}, 6, 9, 10), a_zero,
                   numbers(DType::int32, {6}, 7, -999, 999)}},
                 "integers.plain", {1, 0});
    }
  }
  for (const std::int64_t count : {5, 1000, 300000}) {
    check_cuda({"DynamicQuantizeLinear", {}, {numbers(DType::float32, {count}, 1, -3, 5)}, {}, 3}, "quantize.dynamic",
               {1, 0});
  }
  note_what_is_missing();
}

TEST(CudaTyped, ReductionsOverAnyAxes) {
  for (const DType dtype : {DType::float32, DType::float64, DType::float16, DType::int32, DType::int64, DType::uint8}) {
    for (const char* op : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
                           "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"}) {
      const bool is_logarithm = std::string_view(op).find("Log") != std::string_view::npos;
      if (is_logarithm && !is_float(dtype)) continue;
      // In double (or integers, exactly); one rounding of the result.
      const double relative = dtype == DType::float64 ? 1e-12 : tolerance_of(dtype).relative;
      const Tolerance tolerance = is_float(dtype) ? Tolerance{relative, relative} : Tolerance{};
      const Tensor x = numbers(dtype, {3, 4, 5, 6}, 1, 1, 3);
      check_cuda({op, {{"axes", Ints{0, 2}}}, {x}}, "reduce.plain", tolerance);
      if (dtype == DType::float32 || dtype == DType::float16) continue;
      check_cuda({op, {{"axes", Ints{1}}, {"keepdims", std::int64_t{0}}}, {x}}, "reduce.plain", tolerance);
      check_cuda({op, {}, {x}}, "reduce.plain", tolerance);
    }
  }
  note_what_is_missing();
}

TEST(CudaTyped, LettersAreSummed) {
  for (const DType dtype : {DType::float32, DType::float16, DType::float64, DType::int32}) {
    const Tolerance tolerance = is_float(dtype) ? tolerance_of(dtype) : Tolerance{};
    const Tensor x = numbers(dtype, {4, 5, 5}, 1, -2, 3), y = numbers(dtype, {5, 6}, 2, -2, 3);
    check_cuda({"Einsum", {{"equation", std::string("bii->bi")}}, {x}}, "einsum.plain", tolerance);
    check_cuda({"Einsum", {{"equation", std::string("bij->j")}}, {x}}, "einsum.plain", tolerance);
    check_cuda({"Einsum", {{"equation", std::string("bij,jk,ik->bk")}}, {x, y, y}}, "einsum.plain",
               {16 * tolerance.absolute, tolerance.relative});
    check_cuda({"Einsum", {{"equation", std::string("...i,i...->...i")}}, {y, numbers(dtype, {6, 5}, 3)}},
               "einsum.plain", tolerance);
  }
  note_what_is_missing();
}

TEST(CudaTyped, NormalisationsHandOutTheirStatistics) {
  for (const DType dtype : {DType::float32, DType::float16}) {
    const Tensor x = numbers(dtype, {3, 6, 40}, 1, -4, 4);
    check_cuda({"LayerNormalization",
                {{"axis", std::int64_t{1}}},
                {x, numbers(dtype, {6, 40}, 2), numbers(dtype, {6, 40}, 3)},
                {},
                3},
               "normalize.plain", tolerance_of(dtype));
    check_cuda({"LayerNormalization", {{"axis", std::int64_t{1}}}, {x, numbers(dtype, {40}, 2)}, {}, 1},
               "normalize.plain", tolerance_of(dtype));
    const Tensor c = numbers(dtype, {6}, 2), variance = numbers(dtype, {6}, 3, 0.5, 2);
    check_cuda({"BatchNormalization", {}, {x, c, c, c, variance}}, "normalize.channels", tolerance_of(dtype));
    check_cuda({"LRN", {{"size", std::int64_t{4}}, {"alpha", 0.1}, {"beta", 0.75}, {"bias", 1.0}}, {x}},
               "normalize.channels", tolerance_of(dtype));
    for (const std::int64_t p : {1, 2}) {
      check_cuda({"LpNormalization", {{"axis", std::int64_t{1}}, {"p", p}}, {x}}, "columns.normalize",
                 tolerance_of(dtype));
    }
  }
  note_what_is_missing();
}

}  // namespace
}  // namespace tenfold::cuda
