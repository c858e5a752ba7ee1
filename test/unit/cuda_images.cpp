// CUDA kernels over windows, axes and positions, against the reference.
#include "cuda_case.hpp"

namespace tenfold::cuda {
namespace {

Attributes image(Attributes attributes) {
  attributes.set("layout", std::string("nhwc"));
  return attributes;
}

TEST(CudaImages, PoolingsSeeTheirWindows) {
  for (const DType dtype : {DType::float32, DType::float16, DType::int8, DType::uint8}) {
    for (const std::int64_t channels : {64, 5}) {
      const Tensor x = numbers(dtype, {2, 17, 15, channels}, 1, -9, 9);
      for (const Attributes& attributes :
           {Attributes{{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}},
            Attributes{{"kernel_shape", Ints{2, 3}},
                       {"strides", Ints{1, 2}},
                       {"pads", Ints{0, 2, 1, 0}},
                       {"dilations", Ints{2, 1}}},
            Attributes{{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}, {"ceil_mode", std::int64_t{1}}},
            Attributes{{"kernel_shape", Ints{2, 11}}, {"strides", Ints{1, 1}}}}) {
        check_cuda({"MaxPool", image(attributes), {x}}, "images.pool", {});
        if (!is_float(dtype)) continue;
        check_cuda({"AveragePool", image(attributes), {x}}, "images.pool", tolerance_of(dtype));
        Attributes padded = attributes;
        padded.set("count_include_pad", std::int64_t{1});
        check_cuda({"AveragePool", image(padded), {x}}, "images.pool", tolerance_of(dtype));
      }
    }
    check_cuda(
        {"MaxPool", image({{"kernel_shape", Ints{3}}, {"strides", Ints{2}}}), {numbers(dtype, {2, 33, 16}, 1, -9, 9)}},
        "images.pool", {});
  }
  note_what_is_missing();
}

TEST(CudaImages, DepthwiseConvolutionsAgreeWithTheirReference) {
  for (const DType dtype : kFloats) {
    for (const std::int64_t channels : {32, 6}) {
      for (const auto& [kernel, strides, dilations, pads] : {std::tuple(3, Ints{1, 1}, Ints{1, 1}, Ints{1, 1, 1, 1}),
                                                             std::tuple(3, Ints{2, 2}, Ints{1, 1}, Ints{0, 0, 1, 1}),
                                                             std::tuple(5, Ints{1, 2}, Ints{1, 1}, Ints{2, 2, 2, 2}),
                                                             std::tuple(3, Ints{1, 1}, Ints{2, 3}, Ints{2, 3, 2, 3})}) {
        Attributes attributes =
            image({{"strides", strides}, {"dilations", dilations}, {"pads", pads}, {"group", channels}});
        const Tensor x = numbers(dtype, {2, 14, 13, channels}, 1),
                     w = numbers(dtype, {channels, 1, kernel, kernel}, 2, -0.3, 0.3);
        const Tensor bias = numbers(DType::float32, {channels}, 3);
        check_cuda({"Conv", attributes, {x, w, bias}, {false, true, true}}, "conv.depthwise", tolerance_of(dtype));
        attributes.set("epilogue", std::string("mul 0 1; hard_swish 2"));
        attributes.set("epilogue_inputs", std::int64_t{1});
        check_cuda({"Conv", attributes, {x, w, Tensor(), numbers(dtype, {channels}, 4)}, {false, true}},
                   "conv.depthwise", tolerance_of(dtype));
      }
    }
  }
  note_what_is_missing();
}

TEST(CudaImages, GridsAreResized) {
  for (const DType dtype : kFloats) {
    for (const char* mode : {"nearest", "linear"}) {
      for (const char* coordinates : {"half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"}) {
        for (const auto& [shape, scales] : {std::pair(Shape{2, 6, 7, 16}, std::vector<double>{1, 2, 2, 1}),
                                            std::pair(Shape{2, 3, 6, 7}, std::vector<double>{1, 1, 2.5, 0.7})}) {
          check_cuda({"Resize",
                      {{"mode", std::string(mode)},
                       {"coordinate_transformation_mode", std::string(coordinates)},
                       {"scales", scales}},
                      {numbers(dtype, shape, 1)}},
                     "resize.grid", tolerance_of(dtype));
        }
      }
    }
    check_cuda({"Resize",
                {{"nearest_mode", std::string("floor")},
                 {"coordinate_transformation_mode", std::string("asymmetric")},
                 {"sizes", Ints{2, 3, 13, 5}}},
                {numbers(dtype, {2, 3, 6, 7}, 1)}},
               "resize.grid", {});
  }
  note_what_is_missing();
}

TEST(CudaImages, AxesAreReduced) {
  for (const DType dtype : kFloats) {
    for (const char* op : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2",
                           "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd"}) {
      const bool is_product = std::string(op) == "ReduceProd";
      for (const auto& [shape, axes] :
           {std::pair(Shape{3, 7, 40}, Ints{2}), std::pair(Shape{3, 49, 72}, Ints{1}),
            std::pair(Shape{2, 7, 7, 33}, Ints{1, 2}), std::pair(Shape{2, 5, 600}, Ints{1, 2})}) {
        // Positive, so that no sum cancels; sums of n numbers round at their own magnitude, which is relative.
        const Tensor x = is_product ? numbers(dtype, shape, 1, 0.98, 1.02) : numbers(dtype, shape, 1, 0.01, 0.2);
        const double length = static_cast<double>(num_elements(shape));
        check_cuda(
            {op, {{"axes", axes}, {"keepdims", std::int64_t{1}}}, {x}}, "reduce.sums",
            dtype == DType::float32 ? Tolerance{0x1p-20, std::sqrt(length) * 0x1p-23} : Tolerance{0x1p-10, 0x1p-10});
      }
    }
    for (const char* op : {"ArgMax", "ArgMin"}) {
      for (const std::int64_t axis : {0, 1, 2}) {
        for (const std::int64_t last : {0, 1}) {
          check_cuda({op, {{"axis", axis}, {"select_last_index", last}}, {numbers(dtype, {6, 5, 70}, 1)}},
                     "reduce.position", {});
          check_cuda({op, {{"axis", axis}, {"select_last_index", last}}, {numbers(DType::int64, {6, 5, 70}, 1, 0, 5)}},
                     "reduce.position", {});
        }
      }
    }
  }
  note_what_is_missing();
}

TEST(CudaImages, ElementsAreReadByPosition) {
  for (const DType dtype : {DType::int8, DType::float16, DType::float32, DType::int64}) {
    for (const DType index : {DType::int32, DType::int64}) {
      for (const std::int64_t axis : {0, 1, 2}) {
        check_cuda(
            {"Gather", {{"axis", axis}}, {numbers(dtype, {7, 6, 48}, 1, 0, 100), numbers(index, {2, 3}, 2, -6, 6)}},
            "gather.rows", {});
      }
      check_cuda({"Gather", {}, {numbers(dtype, {7}, 1, 0, 100), numbers(index, {}, 2, 0, 6)}}, "gather.rows", {});
    }
    for (const char* mode : {"constant", "reflect", "edge", "wrap"}) {
      check_cuda({"Pad",
                  {{"mode", std::string(mode)}, {"pads", Ints{0, 2, 3, 0, 1, 2}}, {"value", 3.0}},
                  {numbers(dtype, {2, 5, 6}, 1, 0, 100)}},
                 "pad.elements", {});
      check_cuda({"Pad",
                  {{"mode", std::string(mode)}, {"pads", Ints{0, 2, 0, 0, -1, 0}}},
                  {numbers(dtype, {2, 5, 16}, 1, 0, 100)}},
                 "pad.elements", {});
    }
  }
  note_what_is_missing();
}

TEST(CudaImages, SequencesAndShapesAreWritten) {
  const auto number = [](std::int64_t value) { return Tensor::of_int64({}, std::span(&value, 1)); };
  check_cuda({"Range", {}, {number(3), number(1003), number(7)}, {true, true, true}}, "fill.sequence", {});
  check_cuda({"Range", {}, {number(9), number(-9), number(-2)}, {true, true, true}}, "fill.sequence", {});
  const Ints dims{3, 70};
  check_cuda(
      {"ConstantOfShape", {{"value", Tensor::scalar(2.5F).reshaped({1})}}, {Tensor::of_int64({2}, dims)}, {true}},
      "fill.value", {});
  check_cuda({"Shape", {{"start", std::int64_t{1}}}, {numbers(DType::float32, {3, 4, 5}, 1)}}, "fill.sizes", {});
  note_what_is_missing();
}

TEST(CudaImages, TheLargestComeFirst) {
  const auto check = [](const Tensor& x, std::int64_t axis, std::int64_t k) {
    for (const std::int64_t largest : {0, 1}) {
      check_cuda({"TopK",
                  {{"largest", largest}, {"axis", axis}},
                  {x, Tensor::of_int64({1}, std::span(&k, 1))},
                  {false, true},
                  2},
                 "top_k.select", {});
    }
  };
  for (const DType dtype : {DType::float32, DType::float16, DType::int64, DType::float64, DType::uint8}) {
    for (const std::int64_t length : {1, 37, 1000, 8400, 30000}) {
      check(numbers(dtype, {3, length}, 1, -5, 5), -1, std::min<std::int64_t>(length, 20));
    }
    check(numbers(dtype, {2, 50, 6}, 1, -5, 5), 1, 50);
    // More than shared memory sorts, and many equal elements.
    check(numbers(dtype, {2, 20000}, 1, -5, 5), -1, 9000);
  }
  note_what_is_missing();
}

}  // namespace
}  // namespace tenfold::cuda
