// What a node computes. Operators are immutable and shared; the files in src/ops define one each.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/attributes.hpp"
#include "graph/tensor.hpp"

namespace tenfold {

class Graph;

/// What shape inference knows about a node, and where it leaves what it finds. The same rule runs at build time with
/// symbolic dimensions, and at run time with numbers where a shape depends on data.
class InferContext {
 public:
  virtual ~InferContext() = default;

  virtual int num_inputs() const = 0;           ///< trailing absent inputs included
  virtual bool has_input(int index) const = 0;  ///< false beyond the end and for an omitted optional input
  virtual const TensorType& input(int index) const = 0;
  /// The input's data when it is known: a constant, or at run time a host tensor. nullptr when unknown.
  virtual const Tensor* constant(int index) const = 0;
  /// The input's elements as expressions, when it is an integer tensor whose elements are known as expressions
  /// (a constant, or the result of shape arithmetic). Row-major for any rank.
  virtual std::optional<std::vector<Dim>> integers(int index) const = 0;
  virtual int num_outputs() const = 0;
  virtual bool wants_output(int index) const = 0;  ///< false for an optional output that nobody names
  /// Bodies of If, Loop and Scan. Inference may refine the types inside them.
  virtual std::span<Graph> blocks() = 0;

  virtual void set_output(int index, TensorType type) = 0;
  /// Elements of an integer output as expressions; count must equal the output's number of elements.
  virtual void set_integers(int index, std::vector<Dim> elements) = 0;
  /// A size that only a running kernel, or the value of an input that is not known yet, decides. `at_most` bounds it
  /// if a bound is known. Always the same symbol for the same output and axis.
  virtual Dim fresh(int output, int axis, std::optional<Dim> at_most = std::nullopt) = 0;
};

/// The operands of one evaluation on the host. Output dims are already what `infer` gave; a data-dependent operator
/// (`sets_output_shape`) calls `resize_output` before it writes.
class EvalContext {
 public:
  virtual ~EvalContext() = default;
  virtual bool has_input(int index) const = 0;
  virtual const TensorView& input(int index) const = 0;
  virtual int num_inputs() const = 0;
  virtual int num_outputs() const = 0;
  virtual bool wants_output(int index) const = 0;
  virtual const TensorView& output(int index) const = 0;
  /// Gives the output its real dims and memory for them; returns the view to write to.
  virtual const TensorView& resize_output(int index, const Shape& dims) = 0;
};

class Op {
 public:
  virtual ~Op() = default;
  /// The operator's name: ONNX's where it has one. Never changes once an engine file may hold it.
  virtual std::string_view type() const = 0;
  /// Everything that distinguishes this operator from others of its type: `make_op(type(), attributes())` equals it.
  virtual Attributes attributes() const = 0;
  /// Output types from input types. Throws Error(invalid_model) when the inputs do not fit.
  virtual void infer(InferContext& context) const = 0;
  /// The plain reference: the operator's meaning. Accumulates in double. Deterministic, thread-safe.
  virtual void evaluate(EvalContext& context) const = 0;
  /// True if output sizes come out of the computation itself (NonZero), so `infer` cannot know them even from values.
  virtual bool sets_output_shape() const { return false; }
  /// False for random numbers and the like: such nodes are neither folded nor merged.
  virtual bool is_pure() const { return true; }
  /// Input values that `infer` needs when the output shape is not known from types (Reshape: {1}). The runtime keeps
  /// these inputs on the host.
  virtual std::vector<int> shape_inputs() const { return {}; }
  /// Arithmetic operations for these shapes (a multiply-add is 2), for roofline estimates; 0: counts bytes only.
  virtual double flops(std::span<const TensorType> inputs, std::span<const TensorType> outputs) const;
};
using OpPtr = std::shared_ptr<const Op>;

/// Same type and attributes.
bool equal(const Op& a, const Op& b);
/// The op as `T` if it is one, else nullptr.
template <typename T>
const T* op_cast(const OpPtr& op) {
  return dynamic_cast<const T*>(op.get());
}

}  // namespace tenfold
