// Recurrent layers: RNN, GRU and LSTM.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "graph/op.hpp"

namespace tenfold {

/// Inputs: x [T, N, I], weights w [D, G*H, I], recurrent weights r [D, G*H, H], optional bias [D, 2*G*H] (of w, then of
/// r), optional sequence lengths int32 [N], optional initial h [D, N, H]; LSTM also initial c [D, N, H] and peepholes
/// [D, 3*H]. D directions; G = 1, 3, 4 gates in the order z r h (GRU), i o f c (LSTM; peepholes i o f).
/// Outputs, each optional: all h [T, D, N, H], the last h [D, N, H], LSTM: the last c [D, N, H].
/// Steps beyond a sequence's length give 0 and do not change the state.
class Recurrent final : public Op {
 public:
  enum class Kind : std::uint8_t { rnn = 0, gru = 1, lstm = 2 };
  enum class Direction : std::uint8_t { forward = 0, reverse = 1, bidirectional = 2 };
  struct Activation {
    std::string name;  ///< ONNX's, lower case: "tanh"
    double alpha = 0, beta = 0;
    double operator()(double x) const;
    bool operator==(const Activation&) const = default;
  };
  struct Spec {
    Kind kind = Kind::lstm;
    Direction direction = Direction::forward;
    std::vector<Activation> activations;  ///< f, (g, (h)) for each direction
    double clip = 0;                      ///< gates' sums are limited to [-clip, clip]; 0: not
    bool input_forget = false;            ///< LSTM: f = 1 - i
    bool linear_before_reset = false;     ///< GRU: the reset gate acts after the product with r
  };
  static constexpr int kBias = 3;
  static constexpr int kLengths = 4;
  static constexpr int kInitialH = 5;
  static constexpr int kInitialC = 6;
  static constexpr int kPeepholes = 7;

  explicit Recurrent(Spec spec) : spec_(std::move(spec)) {}
  const Spec& spec() const { return spec_; }
  int num_directions() const { return spec_.direction == Direction::bidirectional ? 2 : 1; }
  int num_gates() const { return spec_.kind == Kind::rnn ? 1 : spec_.kind == Kind::gru ? 3 : 4; }
  /// Are all activations those that the kind has when nothing is said (sigmoid, tanh, tanh)?
  bool has_default_activations() const;

  std::string_view type() const override;
  Attributes attributes() const override;
  void infer(InferContext& context) const override;
  void evaluate(EvalContext& context) const override;
  double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const override;

 private:
  Spec spec_;
};

}  // namespace tenfold
