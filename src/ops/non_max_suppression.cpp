// Non-maximum suppression: for each image and class, boxes by falling score; one that overlaps an accepted box by more
// than the threshold (intersection over union) is dropped. Output: rows (image, class, box).
// Source: ONNX operator sets 10 and 11, NonMaxSuppression. Equal scores keep the order of the boxes.
#include <algorithm>
#include <array>
#include <cmath>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"
#include "ops/registry.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

/// Corners in any order, or centre and size.
struct Box {
  double top, left, bottom, right;
  double area() const { return (bottom - top) * (right - left); }
};

Box box_at(const double* values, bool center_point) {
  if (center_point) {
    const double x = values[0], y = values[1], half_width = values[2] / 2, half_height = values[3] / 2;
    return {y - half_height, x - half_width, y + half_height, x + half_width};
  }
  return {std::min(values[0], values[2]), std::min(values[1], values[3]), std::max(values[0], values[2]),
          std::max(values[1], values[3])};
}

double overlap(const Box& a, const Box& b) {
  const double height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  const double width = std::min(a.right, b.right) - std::max(a.left, b.left);
  if (height <= 0 || width <= 0) return 0;
  const double both = height * width;
  const double either = a.area() + b.area() - both;
  return either <= 0 ? 0 : both / either;
}

class NonMaxSuppression final : public Op {
 public:
  static constexpr int kMaxBoxes = 2;
  static constexpr int kOverlap = 3;
  static constexpr int kScore = 4;

  explicit NonMaxSuppression(bool center_point) : center_point_(center_point) {}
  std::string_view type() const override { return "NonMaxSuppression"; }
  Attributes attributes() const override { return {{"center_point_box", std::int64_t{center_point_}}}; }
  bool sets_output_shape() const override { return true; }

  void infer(InferContext& context) const override {
    check_num_inputs(context, 2, 5);
    check_num_outputs(context, 1, 1);
    check_dtype(context, 0, DType::float32, "the boxes");
    check_dtype(context, 1, DType::float32, "the scores");
    check_rank(context, 0, 3, "the boxes");
    check_rank(context, 1, 3, "the scores");
    const std::vector<Dim>& boxes = context.input(0).dims;
    const std::vector<Dim>& scores = context.input(1).dims;
    check_dim(boxes[2], 4, "the last axis of the boxes");
    check_dim(scores[0], boxes[0], "the number of images of the scores");
    check_dim(scores[2], boxes[1], "the number of scores");
    for (int i = kMaxBoxes; i <= kScore; ++i) {
      if (!context.has_input(i)) continue;
      check_dtype(context, i, i == kMaxBoxes ? DType::int64 : DType::float32, "a limit");
      check_dim(context.input(i).num_elements(), 1, "the number of elements of a limit");
    }
    // At most so many boxes for each image and class.
    Dim most = boxes[1];
    if (!context.has_input(kMaxBoxes)) {
      most = 0;
    } else if (const auto limit = known_integers(context, kMaxBoxes); limit && limit->size() == 1) {
      most = Dim::min(most, Dim::max((*limit)[0], 0));
    }
    context.set_output(0, {DType::int64, {context.fresh(0, 0, scores[0] * scores[1] * most), 3}});
  }

  void evaluate(EvalContext& context) const override {
    const TensorView& scores_view = context.input(1);
    const std::vector<double> boxes = load_doubles(context.input(0));
    const std::vector<double> scores = load_doubles(scores_view);
    const std::int64_t images = scores_view.dim(0);
    const std::int64_t classes = scores_view.dim(1);
    const std::int64_t count = scores_view.dim(2);
    ensure(std::ssize(boxes) == images * count * 4, "boxes and scores do not fit");
    const std::int64_t most = context.has_input(kMaxBoxes) ? load_int64(context.input(kMaxBoxes)).at(0) : 0;
    const double threshold = context.has_input(kOverlap) ? load_doubles(context.input(kOverlap)).at(0) : 0;
    const double least = context.has_input(kScore) ? load_doubles(context.input(kScore)).at(0) : -INFINITY;

    std::vector<std::int64_t> selected;
    std::vector<std::int64_t> order;
    std::vector<Box> accepted;
    for (std::int64_t image = 0; image < images; ++image) {
      for (std::int64_t c = 0; c < classes; ++c) {
        const double* score = scores.data() + (image * classes + c) * count;
        order.clear();
        for (std::int64_t i = 0; i < count; ++i) {
          if (score[i] > least) order.push_back(i);
        }
        std::stable_sort(order.begin(), order.end(),
                         [&](std::int64_t a, std::int64_t b) { return score[a] > score[b]; });
        accepted.clear();
        for (const std::int64_t i : order) {
          if (std::ssize(accepted) >= most) break;
          const Box box = box_at(boxes.data() + (image * count + i) * 4, center_point_);
          const bool is_covered = std::any_of(accepted.begin(), accepted.end(),
                                              [&](const Box& other) { return overlap(box, other) > threshold; });
          if (is_covered) continue;
          accepted.push_back(box);
          selected.insert(selected.end(), {image, c, i});
        }
      }
    }
    const TensorView& out = context.resize_output(0, {std::ssize(selected) / 3, 3});
    std::copy(selected.begin(), selected.end(), out.as<std::int64_t>());
  }

 private:
  bool center_point_;
};

OpPtr make_nms(const Attributes& attributes) {
  const std::int64_t center_point = attributes.get_int("center_point_box", 0);
  require(center_point == 0 || center_point == 1, Code::invalid_model, "center_point_box must be 0 or 1, got {}",
          center_point);
  return std::make_shared<const NonMaxSuppression>(center_point == 1);
}

}  // namespace

const OpDef kNonMaxSuppressionDef{"NonMaxSuppression", make_nms, import_plain};

}  // namespace tenfold
