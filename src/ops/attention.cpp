// y[i] = sum over j of p[i, j] v[j],  p[i, :] = softmax over j of (scale * q[i] . k[j] + mask[i, j]).
// Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1; grouped queries: Ainslie et al. 2023, arXiv:2305.13245.
// ONNX's Attention and RotaryEmbedding (operator sets 23 to 25) are imported with this and plain operators.
#include "ops/attention.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "ops/checks.hpp"
#include "ops/numbers.hpp"
#include "ops/registry.hpp"
#include "ops/shape_math.hpp"

namespace tenfold {
namespace {

using Layout = FusedAttention::Layout;

constexpr std::array<std::string_view, 3> kLayouts{"bhld", "blhd", "flat"};

OpPtr make_attention(const Attributes& attributes) {
  const std::string layout = attributes.get_string("layout", kLayouts[0]);
  const auto* found = std::find(kLayouts.begin(), kLayouts.end(), layout);
  require(found != kLayouts.end(), Code::invalid_model, "layout must be bhld, blhd or flat, got '{}'", layout);
  const bool is_flat = static_cast<Layout>(found - kLayouts.begin()) == Layout::flat;
  const auto heads_from = [&](std::string_view name) {
    const std::int64_t heads = attributes.get_int(name, is_flat ? 1 : 0);
    require(is_flat ? heads >= 1 : heads == 0, Code::invalid_model, "{} is {} with layout {}", name, heads, layout);
    return heads;
  };
  const std::int64_t causal = attributes.get_int("causal", 0);
  require(causal == 0 || causal == 1, Code::invalid_model, "causal must be 0 or 1, got {}", causal);
  std::optional<double> scale;
  if (attributes.has("scale")) scale = attributes.get_float("scale");
  require(!scale || std::isfinite(*scale), Code::invalid_model, "scale must be a finite number");
  return std::make_shared<const FusedAttention>(scale, causal == 1, static_cast<Layout>(found - kLayouts.begin()),
                                                heads_from("heads"), heads_from("key_heads"));
}

// --- Import ---------------------------------------------------------------------------------------------------------

const TensorType& type_of(const ImportNode& node, ValueId value) { return node.graph().value(value).type; }

ValueId reshape(ImportNode& node, ValueId value, const std::vector<Dim>& dims) {
  require(are_storable(node.graph(), dims), Code::unsupported,
          "a size of {} is only known to the running network; give the input a fixed shape", to_string(dims));
  Attributes attributes;
  set_dims(attributes, "dims", dims);
  return node.add(make_op("Reshape", attributes), {value});
}

ValueId transpose(ImportNode& node, ValueId value, std::vector<std::int64_t> order) {
  return node.add(make_op("Transpose", {{"perm", std::move(order)}}), {value});
}

ValueId concat(ImportNode& node, std::vector<ValueId> values, std::int64_t axis) {
  return node.add(make_op("Concat", {{"axis", axis}}), std::move(values));
}

/// The elements start, start + step ... before `end` of the last axis.
ValueId slice_last(ImportNode& node, ValueId value, std::int64_t start, std::int64_t end, std::int64_t step) {
  const std::int64_t axis = type_of(node, value).rank() - 1;
  const auto list = [](std::int64_t v) { return std::vector<std::int64_t>{v}; };
  return node.add(
      make_op("Slice", {{"starts", list(start)}, {"ends", list(end)}, {"axes", list(axis)}, {"steps", list(step)}}),
      {value});
}

Dim divided(const Dim& size, std::int64_t parts, std::string_view what) {
  require(parts >= 1, Code::invalid_model, "{} must be 1 or more, got {}", what, parts);
  require(!size.is_constant() || size.constant() % parts == 0, Code::invalid_model,
          "a hidden size of {} does not divide by {} {}", size.to_string(), parts, what);
  return Dim::floordiv(size, parts);
}

void import_attention(ImportNode& node) {
  const Attributes& given = node.attributes();
  const auto refuse = [&](bool unsupported, std::string_view what) {
    require(!unsupported, Code::unsupported, "{} is not supported; export attention as separate operators", what);
  };
  for (int i = 0; i < 3; ++i) {
    require(node.has_input(i), Code::invalid_model, "query, key and value are needed");
    const int rank = type_of(node, node.input(i)).rank();
    require((rank == 3 || rank == 4) && rank == type_of(node, node.input(0)).rank(), Code::invalid_model,
            "query, key and value must have rank 3 or 4, got {}", to_string(type_of(node, node.input(i))));
  }
  refuse(given.get_float("softcap", 0) != 0, "softcap");
  refuse(given.get_int("left_window_size", -1) >= 0 || given.get_int("right_window_size", -1) >= 0, "a sliding window");
  refuse(node.has_input(6), "the input nonpad_kv_seqlen");
  refuse(node.wants_output(3), "the output qk_matmul_output");
  const bool has_past = node.has_input(4) || node.has_input(5);
  require(!has_past || (node.has_input(4) && node.has_input(5)), Code::invalid_model,
          "past_key and past_value are used together");
  const bool is_flat = type_of(node, node.input(0)).rank() == 3;
  const bool wants_present = node.wants_output(1) || node.wants_output(2);
  // A cache is kept by head; without one, tokens of rank 3 need no transposition.
  const Layout layout = is_flat && !has_past && !wants_present ? Layout::blhd : Layout::bhld;

  std::array<ValueId, 3> operands{};
  for (int i = 0; i < 3; ++i) {
    ValueId value = node.input(i);
    if (is_flat) {
      const std::vector<Dim> dims = type_of(node, value).dims;
      const std::int64_t heads = given.get_int(i == 0 ? "q_num_heads" : "kv_num_heads");
      value = reshape(node, value, {dims[0], dims[1], heads, divided(dims[2], heads, "heads")});
      if (layout == Layout::bhld) value = transpose(node, value, {0, 2, 1, 3});
    }
    if (i > 0 && has_past) value = concat(node, {node.input(3 + i), value}, 2);
    operands[static_cast<std::size_t>(i)] = value;
    if (i > 0 && node.wants_output(i)) node.set_output(i, value);
  }
  const std::size_t row = layout == Layout::bhld ? 2 : 1;
  const Dim keys = type_of(node, operands[1]).dims[row];
  const bool causal = given.get_int("is_causal", 0) != 0;
  if (causal && !has_past) {
    // Without a cache, query i sees the keys up to i, whatever their number.
    refuse(type_of(node, operands[0]).dims[row] != keys, "is_causal with different numbers of queries and keys");
  } else if (causal) {
    const Dim fresh = type_of(node, node.input(1)).dims[is_flat ? 1 : 2];
    refuse(type_of(node, operands[0]).dims[row] != fresh, "is_causal with different numbers of queries and keys");
  }
  std::vector<ValueId> inputs(operands.begin(), operands.end());
  if (node.has_input(3)) {
    ValueId mask = node.input(3);
    const TensorType& type = type_of(node, mask);
    require(type.rank() >= 1, Code::invalid_model, "the mask is a scalar");
    refuse(surely_differ(type.dims.back(), keys) && surely_differ(type.dims.back(), 1), "a mask shorter than the keys");
    if (type.dtype == DType::boolean) {
      const DType dtype = type_of(node, operands[0]).dtype;
      const auto scalar = [&](double value) {
        Tensor tensor(dtype, {});
        store_doubles(std::span(&value, 1), {tensor.mutable_data(), dtype, {}, 1});
        return node.constant(tensor);
      };
      mask = node.add(make_op("Where"), {mask, scalar(0), scalar(-INFINITY)});
    }
    inputs.push_back(mask);
  }
  Attributes attributes{{"layout", std::string(kLayouts[static_cast<std::size_t>(layout)])},
                        {"causal", std::int64_t{causal}}};
  if (given.has("scale")) attributes.set("scale", given.get_float("scale"));
  ValueId result = node.add(make_attention(attributes), inputs);
  if (is_flat) {
    if (layout == Layout::bhld) result = transpose(node, result, {0, 2, 1, 3});
    const std::vector<Dim> dims = type_of(node, result).dims;
    result = reshape(node, result, {dims[0], dims[1], dims[2] * dims[3]});
  }
  if (node.wants_output(0)) node.set_output(0, result);
}

/// Rotates pairs of elements: (x1, x2) -> (cos x1 - sin x2, sin x1 + cos x2).
void import_rotary(ImportNode& node) {
  for (int i = 0; i < 3; ++i) require(node.has_input(i), Code::invalid_model, "input {} is missing", i);
  const TensorType type = type_of(node, node.input(0));
  require(type.rank() == 3 || type.rank() == 4, Code::invalid_model, "the input must have rank 3 or 4, got {}",
          to_string(type));
  const bool is_flat = type.rank() == 3;
  ValueId x = node.input(0);
  std::vector<Dim> dims = type.dims;
  if (is_flat) {
    const std::int64_t heads = node.attributes().get_int("num_heads");
    dims = {dims[0], dims[1], heads, divided(dims[2], heads, "heads")};
    x = reshape(node, x, dims);
  }
  require(dims[3].is_constant(), Code::unsupported, "the head size of {} is not known; give the input a fixed shape",
          to_string(type));
  const std::int64_t size = dims[3].constant();
  std::int64_t rotated = node.attributes().get_int("rotary_embedding_dim", 0);
  if (rotated == 0) rotated = size;
  require(2 <= rotated && rotated <= size && rotated % 2 == 0, Code::invalid_model,
          "rotary_embedding_dim must be an even number up to {}, got {}", size, rotated);
  const std::int64_t half = rotated / 2;

  // [B, S, half], with an axis for the heads: after S where they follow it, before it where they precede it.
  std::array<ValueId, 2> angles{};
  for (int i = 0; i < 2; ++i) {
    ValueId cache = node.input(1 + i);
    if (node.has_input(3)) cache = node.add(make_op("Gather", {{"axis", std::int64_t{0}}}), {cache, node.input(3)});
    std::vector<Dim> cache_dims = type_of(node, cache).dims;
    require(cache_dims.size() == 3 && !surely_differ(cache_dims[2], half), Code::invalid_model,
            "the cache must give [batch, sequence, {}], got {}", half, to_string(cache_dims));
    cache_dims.insert(cache_dims.begin() + (is_flat ? 2 : 1), Dim(1));
    angles[static_cast<std::size_t>(i)] = reshape(node, cache, cache_dims);
  }
  const bool interleaved = node.attributes().get_int("interleaved", 0) != 0;
  const ValueId x1 = interleaved ? slice_last(node, x, 0, rotated, 2) : slice_last(node, x, 0, half, 1);
  const ValueId x2 = interleaved ? slice_last(node, x, 1, rotated, 2) : slice_last(node, x, half, rotated, 1);
  const auto binary = [&](std::string_view op, ValueId a, ValueId b) { return node.add(make_op(op), {a, b}); };
  ValueId real = binary("Sub", binary("Mul", angles[0], x1), binary("Mul", angles[1], x2));
  ValueId imaginary = binary("Add", binary("Mul", angles[1], x1), binary("Mul", angles[0], x2));
  ValueId result = kNoValue;
  if (interleaved) {
    std::vector<Dim> pair = dims;
    pair[3] = half;
    pair.push_back(1);
    result = concat(node, {reshape(node, real, pair), reshape(node, imaginary, pair)}, 4);
    std::vector<Dim> joined = dims;
    joined[3] = rotated;
    result = reshape(node, result, joined);
  } else {
    result = concat(node, {real, imaginary}, 3);
  }
  if (rotated < size) result = concat(node, {result, slice_last(node, x, rotated, size, 1)}, 3);
  if (is_flat) result = reshape(node, result, type.dims);
  node.set_output(0, result);
}

}  // namespace

Attributes FusedAttention::attributes() const {
  Attributes attributes{{"causal", std::int64_t{causal_}},
                        {"layout", std::string(kLayouts[static_cast<std::size_t>(layout_)])}};
  if (scale_) attributes.set("scale", *scale_);
  if (layout_ == Layout::flat) {
    attributes.set("heads", heads_);
    attributes.set("key_heads", key_heads_);
  }
  return attributes;
}

std::vector<Dim> FusedAttention::with_heads(const std::vector<Dim>& dims, int index) const {
  if (layout_ != Layout::flat) return dims;
  const std::int64_t heads = index == 0 ? heads_ : key_heads_;
  return {dims[0], dims[1], Dim(heads), Dim::floordiv(dims[2], heads)};
}

Shape FusedAttention::with_heads(std::span<const std::int64_t> dims, int index) const {
  if (layout_ != Layout::flat) return {dims.begin(), dims.end()};
  const std::int64_t heads = index == 0 ? heads_ : key_heads_;
  return {dims[0], dims[1], heads, dims[2] / heads};
}

void FusedAttention::infer(InferContext& context) const {
  check_num_inputs(context, 3, 4);
  check_num_outputs(context, 1, 1);
  constexpr std::array<std::string_view, 3> kNames{"the query", "the key", "the value"};
  for (int i = 0; i < 3; ++i) {
    const auto name = kNames[static_cast<std::size_t>(i)];
    check_float(context, i, name);
    check_same_dtype(context, i, name);
    check_rank(context, i, layout_ == Layout::flat ? 3 : 4, name);
    const Dim& columns = context.input(i).dims.back();
    require(
        layout_ != Layout::flat || (columns.is_constant() && columns.constant() % (i == 0 ? heads_ : key_heads_) == 0),
        Code::invalid_model, "{} of {} columns does not divide into {} heads", name, columns.to_string(),
        i == 0 ? heads_ : key_heads_);
  }
  const std::size_t head = head_axis(), row = row_axis();
  const std::vector<Dim> q = with_heads(context.input(0).dims, 0);
  const std::vector<Dim> k = with_heads(context.input(1).dims, 1);
  const std::vector<Dim> v = with_heads(context.input(2).dims, 2);
  check_dim(k[0], q[0], "the key's batch");
  check_dim(v[0], q[0], "the value's batch");
  check_dim(k[3], q[3], "the key's depth");
  check_dim(v[head], k[head], "the number of value heads");
  check_dim(v[row], k[row], "the number of values");
  if (q[head].is_constant() && k[head].is_constant()) {
    require(k[head].constant() > 0 && q[head].constant() % k[head].constant() == 0, Code::invalid_model,
            "{} query heads do not divide into {} key heads", q[head].constant(), k[head].constant());
  }
  if (context.has_input(kMask)) {
    check_same_dtype(context, kMask, "the mask");
    check_broadcasts_to(context.input(kMask).dims, {q[0], q[head], q[row], k[row]}, "the mask");
  }
  std::vector<Dim> dims = context.input(0).dims;
  dims.back() = layout_ == Layout::flat ? Dim(heads_) * v[3] : v[3];
  context.set_output(0, {context.input(0).dtype, std::move(dims)});
}

void FusedAttention::evaluate(EvalContext& context) const {
  const std::size_t head = head_axis(), row = row_axis();
  const Shape q_dims = with_heads(context.input(0).dims, 0);
  const Shape k_dims = with_heads(context.input(1).dims, 1);
  const Shape v_dims = with_heads(context.input(2).dims, 2);
  const std::int64_t batch = q_dims[0], heads = q_dims[head], queries = q_dims[row], depth = q_dims[3];
  const std::int64_t key_heads = k_dims[head], keys = k_dims[row], width = v_dims[3];
  require(key_heads > 0 && heads % key_heads == 0, Code::invalid_model,
          "{} query heads do not divide into {} key heads", heads, key_heads);
  ensure(k_dims[0] == batch && v_dims[0] == batch && k_dims[3] == depth && v_dims[head] == key_heads &&
             v_dims[row] == keys && context.output(0).num_elements() == batch * heads * queries * width,
         "attention of inconsistent shapes");
  const std::vector<double> q = load_doubles(context.input(0));
  const std::vector<double> k = load_doubles(context.input(1));
  const std::vector<double> v = load_doubles(context.input(2));
  std::vector<double> mask;
  Shape mask_strides(4, 0);
  if (context.has_input(kMask)) {
    mask = load_doubles(context.input(kMask));
    mask_strides = broadcast_strides(context.input(kMask).dims, Shape{batch, heads, queries, keys});
  }
  const Shape q_strides = strides_of(q_dims), k_strides = strides_of(k_dims), v_strides = strides_of(v_dims);
  const Shape y_strides = strides_of(with_heads(context.output(0).dims, 0));
  const double scale = scale_.value_or(1 / std::sqrt(static_cast<double>(depth)));
  std::vector<double> y(static_cast<std::size_t>(context.output(0).num_elements()));
  std::vector<double> weights(static_cast<std::size_t>(keys));
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const std::int64_t key_head = h * key_heads / heads;
      const double* key = k.data() + b * k_strides[0] + key_head * k_strides[head];
      const double* value = v.data() + b * v_strides[0] + key_head * v_strides[head];
      for (std::int64_t i = 0; i < queries; ++i) {
        const double* query = q.data() + b * q_strides[0] + h * q_strides[head] + i * q_strides[row];
        double* out = y.data() + b * y_strides[0] + h * y_strides[head] + i * y_strides[row];
        const std::int64_t visible = causal_ ? std::clamp<std::int64_t>(i + 1 + keys - queries, 0, keys) : keys;
        double largest = -INFINITY;
        for (std::int64_t j = 0; j < visible; ++j) {
          double score = 0;
          for (std::int64_t d = 0; d < depth; ++d) score += query[d] * key[j * k_strides[row] + d];
          score *= scale;
          if (!mask.empty()) {
            score += mask[static_cast<std::size_t>(b * mask_strides[0] + h * mask_strides[1] + i * mask_strides[2] +
                                                   j * mask_strides[3])];
          }
          weights[static_cast<std::size_t>(j)] = score;
          largest = std::max(largest, score);
        }
        if (largest == -INFINITY) continue;  // no key is visible
        double sum = 0;
        for (std::int64_t j = 0; j < visible; ++j) {
          double& weight = weights[static_cast<std::size_t>(j)];
          weight = std::exp(weight - largest);
          sum += weight;
        }
        for (std::int64_t j = 0; j < visible; ++j) {
          const double weight = weights[static_cast<std::size_t>(j)] / sum;
          for (std::int64_t d = 0; d < width; ++d) out[d] += weight * value[j * v_strides[row] + d];
        }
      }
    }
  }
  store_doubles(y, context.output(0));
}

double FusedAttention::flops(std::span<const TensorType> inputs, std::span<const TensorType>) const {
  if (inputs.size() < 3 || !inputs[0].is_static() || !inputs[1].is_static() || !inputs[2].is_static()) return 0;
  const std::vector<Dim> q = with_heads(inputs[0].dims, 0), v = with_heads(inputs[2].dims, 2);
  double flops = 2;
  for (std::size_t a = 0; a < 3; ++a) flops *= static_cast<double>(q[a].constant());
  return flops * static_cast<double>(v[row_axis()].constant()) * static_cast<double>(q[3].constant() + v[3].constant());
}

const OpDef kAttentionDef{"Attention", nullptr, import_attention};
const OpDef kFusedAttentionDef{"FusedAttention", make_attention, nullptr};
const OpDef kRotaryEmbeddingDef{"RotaryEmbedding", nullptr, import_rotary};

}  // namespace tenfold
