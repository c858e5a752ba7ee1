// Attention as one operator: softmax(scale * q k^T + mask) v.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "graph/op.hpp"

namespace tenfold {

/// Inputs: q, k, v, optional float mask, added before the softmax and broadcast to [B, H, L, S].
///   layout bhld: q [B, H, L, D], k [B, Hk, S, D], v [B, Hk, S, Dv], result [B, H, L, Dv]
///   layout blhd: q [B, L, H, D], k [B, S, Hk, D], v [B, S, Hk, Dv], result [B, L, H, Dv]
///   layout flat: q [B, L, H * D], k [B, S, Hk * D], v [B, S, Hk * Dv], result [B, L, H * Dv]
/// Hk divides H: query head h reads key head h * Hk / H (grouped queries). With `causal`, query i sees keys 0 .. i + S
/// - L. A query that sees no key gives 0.
class FusedAttention final : public Op {
 public:
  enum class Layout : std::uint8_t { bhld = 0, blhd = 1, flat = 2 };
  static constexpr int kMask = 3;

  /// `heads`, `key_heads`: H and Hk of layout flat; 0 with another.
  FusedAttention(std::optional<double> scale, bool causal, Layout layout, std::int64_t heads = 0,
                 std::int64_t key_heads = 0)
      : scale_(scale), causal_(causal), layout_(layout), heads_(heads), key_heads_(key_heads) {}
  /// nullopt: 1 / sqrt(D).
  std::optional<double> scale() const { return scale_; }
  bool causal() const { return causal_; }
  Layout layout() const { return layout_; }
  /// The dims of input `index` (0 to 2; the result's are like 0's) with four axes: layout flat becomes blhd.
  /// Requires dims that fit the layout.
  std::vector<Dim> with_heads(const std::vector<Dim>& dims, int index) const;
  Shape with_heads(std::span<const std::int64_t> dims, int index) const;
  /// Which of the four axes counts heads, and which rows.
  std::size_t head_axis() const { return layout_ == Layout::bhld ? 1 : 2; }
  std::size_t row_axis() const { return layout_ == Layout::bhld ? 2 : 1; }

  std::string_view type() const override { return "FusedAttention"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  std::optional<double> scale_;
  bool causal_;
  Layout layout_;
  std::int64_t heads_, key_heads_;
};

}  // namespace tenfold
