// CUDA kernels that read and write by index, scan, select and sample, against the reference.
#include <cmath>

#include "cuda_case.hpp"

namespace tenfold::cuda {
namespace {

Tensor indices(DType dtype, const Shape& shape, std::uint32_t seed, std::int64_t size) {
  return numbers(dtype, shape, seed, static_cast<double>(-size), static_cast<double>(size));
}
/// Whole numbers.
Tensor whole_numbers(const Tensor& x) {
  Tensor whole(x.dtype(), x.shape());
  const std::vector<double> values = x.to_double();
  dispatch(x.dtype(), [&]<typename T>() {
    auto out = whole.as_mutable<T>();
    for (std::size_t i = 0; i < out.size(); ++i) {
      if constexpr (std::is_integral_v<T>)
        out[i] = static_cast<T>(values[i]);
      else
        out[i] = static_cast<T>(static_cast<float>(std::floor(values[i])));
    }
  });
  return whole;
}
constexpr std::array kElements = {DType::int8, DType::float16, DType::float32, DType::int64, DType::float64};

TEST(CudaIndex, SoftmaxRunsAlongAnyAxis) {
  for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16, DType::float64}) {
    for (const std::int64_t axis : {0, 1, 2}) {
      const Tensor x = numbers(dtype, {3, 16, 40}, 1, -4, 4);
      for (const char* op : {"Softmax", "LogSoftmax", "Hardmax"}) {
        if (axis == 2 && dtype != DType::float64 && std::string_view(op) != "Hardmax") continue;
        check_cuda({op, {{"axis", axis}}, {x}}, "columns.softmax", tolerance_of(dtype));
      }
    }
  }
  note_what_is_missing();
}

TEST(CudaIndex, ElementsAndTuplesAreGathered) {
  for (const DType dtype : kElements) {
    for (const DType index : {DType::int32, DType::int64}) {
      const Tensor x = numbers(dtype, {4, 9, 7}, 1, -99, 99);
      check_cuda({"GatherElements", {{"axis", std::int64_t{1}}}, {x, indices(index, {4, 20, 5}, 2, 9)}},
                 "gather.places", {});
      check_cuda({"GatherElements", {{"axis", std::int64_t{-1}}}, {x, indices(index, {3, 9, 40}, 2, 7)}},
                 "gather.places", {});
      check_cuda({"GatherND", {}, {x, indices(index, {6, 5, 2}, 2, 4)}}, "gather.places", {});
      check_cuda({"GatherND", {}, {x, indices(index, {30, 3}, 2, 4)}}, "gather.places", {});
      check_cuda({"GatherND", {{"batch_dims", std::int64_t{1}}}, {x, indices(index, {4, 11, 1}, 2, 7)}},
                 "gather.places", {});
    }
  }
  note_what_is_missing();
}

TEST(CudaIndex, UpdatesAreScatteredInTheirOrder) {
  for (const DType dtype : kElements) {
    for (const char* reduction : {"none", "add", "mul", "max", "min"}) {
      const Attributes how{{"reduction", std::string(reduction)}};
      // Small integers: sums and products are exact in every type, so the order does not show in their rounding.
      const Tensor x = numbers(dtype, {4, 9, 7}, 1, -2, 3);
      const auto updates = [&](const Shape& shape) { return whole_numbers(numbers(dtype, shape, 3, 1, 3)); };
      const Tensor data = whole_numbers(x);
      Attributes elements = how;
      elements.set("axis", std::int64_t{1});
      check_cuda({"ScatterElements", elements, {data, indices(DType::int64, {4, 8, 5}, 2, 9), updates({4, 8, 5})}},
                 "scatter.places", {});
      check_cuda({"ScatterND", how, {data, indices(DType::int64, {8, 2}, 2, 4), updates({8, 7})}}, "scatter.places",
                 {});
      check_cuda({"ScatterND", how, {data, indices(DType::int32, {3, 5, 3}, 2, 4), updates({3, 5})}}, "scatter.places",
                 {});
    }
  }
  note_what_is_missing();
}

TEST(CudaIndex, DiagonalsOneHotsAndReversedSequences) {
  for (const DType dtype : kElements) {
    const Tensor x = numbers(dtype, {3, 6, 9}, 1, -99, 99);
    for (const std::int64_t upper : {0, 1}) {
      check_cuda({"Trilu", {{"upper", upper}}, {x}}, "fill.diagonal", {});
      check_cuda({"Trilu", {{"upper", upper}}, {x, Tensor::of_int64({}, Ints{-2})}}, "fill.diagonal", {});
    }
    check_cuda({"EyeLike", {{"k", std::int64_t{1}}}, {numbers(dtype, {5, 7}, 1)}}, "fill.diagonal", {});
    for (const std::int64_t axis : {0, 1, -1}) {
      check_cuda({"OneHot",
                  {{"axis", axis}},
                  {indices(DType::int64, {4, 5}, 2, 12), Tensor::of_int64({}, Ints{9}), numbers(dtype, {2}, 3)},
                  {false, true}},
                 "fill.one_hot", {});
    }
    for (const std::int64_t time : {0, 1}) {
      check_cuda({"ReverseSequence",
                  {{"batch_axis", 1 - time}, {"time_axis", time}},
                  {numbers(dtype, {5, 5, 6}, 1), Tensor::of_int64({5}, Ints{0, 1, 3, 5, 4})}},
                 "copy.reversed", {});
    }
  }
  note_what_is_missing();
}

TEST(CudaIndex, SumsAndProductsRunAlongAnAxis) {
  for (const DType dtype : {DType::float32, DType::float16, DType::int32, DType::int64, DType::float64}) {
    for (const std::int64_t axis : {0, 1, 2}) {
      for (const std::int64_t flags : {0, 1, 2, 3}) {
        const Attributes how{{"exclusive", flags & 1}, {"reverse", flags >> 1}};
        const Tensor x = numbers(dtype, {3, 5, 700}, 1, -2, 2);
        // Sums of up to 700 numbers of magnitude 2 in double, rounded once; a result near 0 was rounded as it is.
        check_cuda({"CumSum", how, {x, Tensor::of_int64({}, Ints{axis})}}, "scan.columns",
                   is_float(dtype) ? Tolerance{1e-9, tolerance_of(dtype).relative} : Tolerance{});
        check_cuda({"CumProd", how, {numbers(dtype, {4, 5, 9}, 1, 1, 2), Tensor::of_int64({}, Ints{axis})}},
                   "scan.columns", is_float(dtype) ? tolerance_of(dtype) : Tolerance{});
      }
    }
  }
  note_what_is_missing();
}

TEST(CudaIndex, ResultsAsLongAsTheDataSays) {
  for (const DType dtype : {DType::float32, DType::boolean, DType::int64, DType::float16}) {
    for (const Shape& shape : {Shape{7}, Shape{3, 5, 6}, Shape{33, 1000}}) {
      Tensor x = whole_numbers(numbers(dtype, shape, 1, -1, 2));
      check_cuda({"NonZero", {}, {x}}, "select.places", {});
    }
    const Tensor x = numbers(dtype, {6, 50, 3}, 1, -9, 9);
    check_cuda({"Compress", {}, {x, numbers(DType::boolean, {900}, 2, 0, 2)}}, "select.places", {});
    check_cuda({"Compress", {{"axis", std::int64_t{1}}}, {x, numbers(DType::boolean, {50}, 2, 0, 2)}}, "select.places",
               {});
    check_cuda({"Compress", {{"axis", std::int64_t{0}}}, {x, numbers(DType::boolean, {4}, 3, 0, 2)}}, "select.places",
               {});
  }
  note_what_is_missing();
}

TEST(CudaIndex, OverlappingBoxesAreDropped) {
  Tensor most = Tensor::of_int64({1}, Ints{40});
  const auto number = [](float value) {
    Tensor tensor(DType::float32, {1});
    tensor.as_mutable<float>()[0] = value;
    return tensor;
  };
  for (const std::int64_t center : {0, 1}) {
    for (const std::int64_t count : {1, 31, 300, 9000}) {
      const Tensor boxes = numbers(DType::float32, {2, count, 4}, 1, 0, 10);
      const Tensor scores = numbers(DType::float32, {2, 3, count}, 2, 0, 1);
      const Attributes how{{"center_point_box", center}};
      check_cuda({"NonMaxSuppression", how, {boxes, scores, most, number(0.3F), number(0.4F)}}, "boxes.suppress", {});
      check_cuda({"NonMaxSuppression", how, {boxes, scores, most}}, "boxes.suppress", {});
      check_cuda({"NonMaxSuppression", how, {boxes, scores}}, "boxes.suppress", {});
      // All scores equal: the order of the boxes decides.
      check_cuda(
          {"NonMaxSuppression", how, {boxes, numbers(DType::float32, {2, 3, count}, 2, 1, 1), most, number(0.5F)}},
          "boxes.suppress", {});
    }
  }
  note_what_is_missing();
}

TEST(CudaIndex, PoolingsOfAnyLayoutAndRank) {
  for (const DType dtype : {DType::float32, DType::float16, DType::float64, DType::uint8}) {
    for (const auto& [shape, kernel] : {std::pair(Shape{2, 3, 40}, Ints{3}), std::pair(Shape{2, 5, 9, 11}, Ints{3, 2}),
                                        std::pair(Shape{1, 2, 6, 7, 8}, Ints{2, 3, 3})}) {
      const Ints ones(kernel.size(), 1), twos(kernel.size(), 2);
      Ints pads(2 * kernel.size(), 1);
      for (const std::int64_t ceil : {0, 1}) {
        const Attributes how{{"kernel_shape", kernel}, {"strides", twos}, {"pads", pads}, {"ceil_mode", ceil}};
        const Tensor x = numbers(dtype, shape, 1, -9, 9);
        check_cuda({"MaxPool", how, {x}, {}, 2}, "pool.plain", {});
        if (!is_float(dtype)) continue;
        Attributes padded = how;
        padded.set("count_include_pad", std::int64_t{1});
        check_cuda({"AveragePool", how, {x}}, "pool.plain", tolerance_of(dtype));
        check_cuda({"AveragePool", padded, {x}}, "pool.plain", tolerance_of(dtype));
        Attributes norm = how;
        norm.set("p", std::int64_t{3});
        // A power of a number of magnitude 9, and sums of 18 of them, in the accuracy of pow.
        check_cuda({"LpPool", norm, {x}}, "pool.plain",
                   {tolerance_of(dtype).absolute, 4 * tolerance_of(dtype).relative});
      }
    }
  }
  note_what_is_missing();
}

TEST(CudaIndex, PositionsThatAreComputed) {
  const auto list = [](const Ints& values) { return Tensor::of_int64({std::ssize(values)}, values); };
  for (const DType dtype : kElements) {
    const Tensor x = numbers(dtype, {4, 9, 7}, 1, -99, 99);
    // The shapes are known here because the positions are constants; the kernels read them on the device all the same.
    const std::vector<bool> known{false, true, true, true, true};
    check_cuda({"Slice", {}, {x, list({1, -3}), list({4, 100}), list({0, 2}), list({2, 1})}, known}, "slice.computed",
               {});
    check_cuda({"Slice", {}, {x, list({-1, 100}), list({-100, 0}), list({1, -1}), list({-2, -1})}, known},
               "slice.computed", {});
    check_cuda({"Slice", {}, {x, list({0, 2, 3}), list({4, 5, 6})}, known}, "slice.computed", {});
    for (const char* mode : {"constant", "reflect", "edge", "wrap"}) {
      const Attributes how{{"mode", std::string(mode)}};
      check_cuda({"Pad", how, {x, list({1, 0, 3, 2, -1, 0}), numbers(dtype, {}, 2)}, known}, "pad.computed", {});
      check_cuda({"Pad", how, {x, list({3, 2, 0, 4}), Tensor(), list({-1, 0})}, known}, "pad.computed", {});
    }
  }
  note_what_is_missing();
}

TEST(CudaIndex, ImagesAreSampledAtPlacesAndRegions) {
  for (const DType dtype : {DType::float32, DType::float16, DType::float64}) {
    for (const char* mode : {"linear", "nearest", "cubic"}) {
      for (const char* padding : {"zeros", "border", "reflection"}) {
        for (const std::int64_t align : {0, 1}) {
          const Attributes how{
              {"mode", std::string(mode)}, {"padding_mode", std::string(padding)}, {"align_corners", align}};
          check_cuda({"GridSample", how, {numbers(dtype, {2, 3, 9, 7}, 1), numbers(dtype, {2, 5, 6, 2}, 2, -1.5, 1.5)}},
                     "sample.grid", tolerance_of(dtype));
          check_cuda(
              {"GridSample", how, {numbers(dtype, {2, 3, 4, 5, 6}, 1), numbers(dtype, {2, 3, 4, 5, 3}, 2, -1.5, 1.5)}},
              "sample.grid", tolerance_of(dtype));
        }
      }
    }
    for (const char* mode : {"avg", "max"}) {
      for (const char* coordinates : {"half_pixel", "output_half_pixel"}) {
        for (const std::int64_t ratio : {0, 2}) {
          check_cuda({"RoiAlign",
                      {{"mode", std::string(mode)},
                       {"coordinate_transformation_mode", std::string(coordinates)},
                       {"output_height", std::int64_t{3}},
                       {"output_width", std::int64_t{4}},
                       {"sampling_ratio", ratio},
                       {"spatial_scale", 0.5}},
                      {numbers(dtype, {2, 5, 12, 14}, 1), numbers(dtype, {6, 4}, 2, -2, 30),
                       numbers(DType::int64, {6}, 3, 0, 2)}},
                     "sample.regions", tolerance_of(dtype));
        }
      }
    }
  }
  note_what_is_missing();
}

}  // namespace
}  // namespace tenfold::cuda
