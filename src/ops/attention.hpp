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
/// Hk divides H: query head h reads key head h * Hk / H (grouped queries). With `causal`, query i sees keys 0 .. i + S
/// - L. A query that sees no key gives 0.
class FusedAttention final : public Op {
 public:
  enum class Layout : std::uint8_t { bhld = 0, blhd = 1 };
  static constexpr int kMask = 3;

  FusedAttention(std::optional<double> scale, bool causal, Layout layout)
      : scale_(scale), causal_(causal), layout_(layout) {}
  /// nullopt: 1 / sqrt(D).
  std::optional<double> scale() const { return scale_; }
  bool causal() const { return causal_; }
  Layout layout() const { return layout_; }

  std::string_view type() const override { return "FusedAttention"; }
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  std::optional<double> scale_;
  bool causal_;
  Layout layout_;
};

}  // namespace tenfold
