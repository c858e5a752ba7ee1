// Blocks of channels as blocks of pixels and back; channels are the second axis.
//   DepthToSpace, mode DCR:  y[n, c, h b + i, w b + j] = x[n, (i b + j) C' + c, h, w],  C' = C / b^2
//                 mode CRD:  y[n, c, h b + i, w b + j] = x[n, c b^2 + i b + j, h, w]
//   SpaceToDepth, mode DCR:  y[n, (i b + j) C + c, h, w] = x[n, c, h b + i, w b + j]
//                 mode CRD:  y[n, c b^2 + i b + j, h, w] = x[n, c, h b + i, w b + j]
// Attributes: blocksize b, mode. Source: ONNX operator sets 1 to 28, DepthToSpace and SpaceToDepth.
#include "ops/elementwise.hpp"
#include "ops/movement.hpp"

namespace tenfold {
namespace {

constexpr std::int64_t kMaxBlock = std::int64_t{1} << 20;

std::int64_t block_from(const Attributes& attributes) {
  const std::int64_t block = attributes.get_int("blocksize");
  require(1 <= block && block <= kMaxBlock, Code::invalid_model, "blocksize must be 1 to {}, got {}", kMaxBlock, block);
  return block;
}
Dim divided(const Dim& size, std::int64_t by, std::string_view what) {
  require(!size.is_constant() || size.constant() % by == 0, Code::invalid_model, "{} {} are no multiple of {}",
          size.to_string(), what, by);
  return Dim::floordiv(size, Dim(by));
}

class DepthToSpace final : public Op {
 public:
  DepthToSpace(std::int64_t block, bool column_row_depth) : block_(block), column_row_depth_(column_row_depth) {}
  std::string_view type() const override { return "DepthToSpace"; }
  Attributes attributes() const override {
    return {{"blocksize", block_}, {"mode", std::string(column_row_depth_ ? "CRD" : "DCR")}};
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    check_rank(context, 0, 4, "the input");
    TensorType y = context.input(0);
    y.dims[1] = divided(y.dims[1], block_ * block_, "channels");
    y.dims[2] = y.dims[2] * Dim(block_);
    y.dims[3] = y.dims[3] * Dim(block_);
    context.set_output(0, std::move(y));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const std::int64_t b = block_;
    const std::int64_t channels = x.dim(1) / (b * b);
    const std::int64_t height = x.dim(2);
    const std::int64_t width = x.dim(3);
    require(channels * b * b == x.dim(1), Code::invalid_argument, "{} channels are no multiple of {}", x.dim(1), b * b);
    check_output(context, 0, Shape{x.dim(0), channels, height * b, width * b});
    // As [N, c, h, i, w, j], row-major in the result.
    const std::int64_t plane = height * width;
    const std::int64_t channel = column_row_depth_ ? b * b * plane : plane;
    const std::int64_t part = column_row_depth_ ? plane : channels * plane;
    const std::array dims{x.dim(0), channels, height, b, width, b};
    const std::array from{x.dim(1) * plane, channel, width, b * part, std::int64_t{1}, part};
    dispatch_bits(x.dtype, [&]<typename T>() {
      copy_strided<T>(dims, x.as<const T>(), from, context.output(0).as<T>(), strides_of(dims));
    });
  }

 private:
  std::int64_t block_;
  bool column_row_depth_;
};

class SpaceToDepth final : public Op {
 public:
  SpaceToDepth(std::int64_t block, bool column_row_depth) : block_(block), column_row_depth_(column_row_depth) {}
  std::string_view type() const override { return "SpaceToDepth"; }
  Attributes attributes() const override {
    return {{"blocksize", block_}, {"mode", std::string(column_row_depth_ ? "CRD" : "DCR")}};
  }
  void infer(InferContext& context) const override {
    check_num_inputs(context, 1, 1);
    check_num_outputs(context, 1, 1);
    check_rank(context, 0, 4, "the input");
    TensorType y = context.input(0);
    y.dims[1] = y.dims[1] * Dim(block_ * block_);
    y.dims[2] = divided(y.dims[2], block_, "rows");
    y.dims[3] = divided(y.dims[3], block_, "columns");
    context.set_output(0, std::move(y));
  }
  void evaluate(EvalContext& context) const override {
    const TensorView& x = context.input(0);
    const std::int64_t b = block_;
    const std::int64_t channels = x.dim(1);
    const std::int64_t height = x.dim(2) / b;
    const std::int64_t width = x.dim(3) / b;
    require(height * b == x.dim(2) && width * b == x.dim(3), Code::invalid_argument,
            "an image of {} x {} is no multiple of {}", x.dim(2), x.dim(3), b);
    check_output(context, 0, Shape{x.dim(0), channels * b * b, height, width});
    const std::int64_t row = x.dim(3);
    const std::int64_t plane = x.dim(2) * row;
    // As [N, i, j, c, h, w] or [N, c, i, j, h, w], row-major in the result.
    std::array dims{x.dim(0), b, b, channels, height, width};
    std::array from{channels * plane, row, std::int64_t{1}, plane, b * row, b};
    if (column_row_depth_) {
      std::rotate(dims.begin() + 1, dims.begin() + 3, dims.begin() + 4);
      std::rotate(from.begin() + 1, from.begin() + 3, from.begin() + 4);
    }
    dispatch_bits(x.dtype, [&]<typename T>() {
      copy_strided<T>(dims, x.as<const T>(), from, context.output(0).as<T>(), strides_of(dims));
    });
  }

 private:
  std::int64_t block_;
  bool column_row_depth_;
};

bool is_column_row_depth(const Attributes& attributes) {
  const std::string mode = attributes.get_string("mode", "DCR");
  require(mode == "DCR" || mode == "CRD", Code::invalid_model, "mode must be DCR or CRD, got '{}'", mode);
  return mode == "CRD";
}
OpPtr make_depth_to_space(const Attributes& attributes) {
  return std::make_shared<const DepthToSpace>(block_from(attributes), is_column_row_depth(attributes));
}
OpPtr make_space_to_depth(const Attributes& attributes) {
  return std::make_shared<const SpaceToDepth>(block_from(attributes), is_column_row_depth(attributes));
}

}  // namespace

const OpDef kDepthToSpaceDef{"DepthToSpace", make_depth_to_space, import_plain};
const OpDef kSpaceToDepthDef{"SpaceToDepth", make_space_to_depth, import_plain};

}  // namespace tenfold
