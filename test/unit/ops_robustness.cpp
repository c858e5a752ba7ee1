// Every operator against nonsense: random attributes, operands and sizes. Plans and models are untrusted, so shape
// rules and references must either work or throw Error; anything else (a crash, another exception, a sanitizer's
// finding) is a defect. The trials are the same in every run.
#include <random>
#include <set>

#include "ops_case.hpp"

namespace tenfold {
namespace {

using namespace ops_case;  // NOLINT(google-build-using-namespace): the vocabulary of these tests

class Nonsense {
 public:
  explicit Nonsense(std::uint32_t seed) : random_(seed) {}

  int below(int count) { return static_cast<int>(random_() % static_cast<std::uint32_t>(count)); }
  template <typename T>
  T one_of(std::initializer_list<T> choices) {
    return *(choices.begin() + below(static_cast<int>(choices.size())));
  }
  /// Mostly small, sometimes absurd.
  std::int64_t integer() {
    if (below(12) == 0) {
      return one_of({std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max(),
                     std::int64_t{1} << 40, -(std::int64_t{1} << 31), std::int64_t{1} << 62});
    }
    return below(8) - 3;
  }
  std::vector<std::int64_t> integers() {
    std::vector<std::int64_t> list(static_cast<std::size_t>(below(6)));
    for (std::int64_t& element : list) element = below(4) == 0 ? integer() : below(4);
    return list;
  }
  DType dtype() {
    return below(3) > 0 ? one_of({DType::float32, DType::int64}) : static_cast<DType>(1 + below(kNumDTypes - 1));
  }
  Shape shape() {
    Shape dims(static_cast<std::size_t>(below(5)));
    for (std::int64_t& dim : dims) dim = one_of<std::int64_t>({0, 1, 1, 2, 2, 3, 4});
    return dims;
  }
  Tensor tensor() { return tensor(dtype(), shape()); }
  Tensor tensor(DType type, Shape dims) {
    Tensor result(type, std::move(dims));
    dispatch(type, [&]<typename T>() {
      for (T& element : result.as_mutable<T>()) {
        if constexpr (std::is_same_v<T, bool>) {
          element = below(2) == 1;
        } else if constexpr (std::is_integral_v<T>) {
          element = static_cast<T>(integer());
        } else {
          element = T(below(20) == 0 ? std::numeric_limits<float>::infinity() : static_cast<float>(below(9)) / 2 - 2);
        }
      }
    });
    return result;
  }
  Attributes attributes() {
    Attributes result;
    for (const char* name : {"axis",
                             "keepdims",
                             "start",
                             "end",
                             "k",
                             "upper",
                             "exclusive",
                             "reverse",
                             "fmod",
                             "blocksize",
                             "batch_dims",
                             "batch_axis",
                             "time_axis",
                             "largest",
                             "sorted",
                             "allowzero",
                             "group",
                             "select_last_index",
                             "trans_a",
                             "trans_b",
                             "ceil_mode",
                             "hidden_size",
                             "num_inputs",
                             "to",
                             "num_groups",
                             "size",
                             "p",
                             "causal",
                             "center_point_box",
                             "count_include_pad"}) {
      if (below(3) == 0) result.set(name, integer());
    }
    for (const char* name : {"axes", "perm", "sizes", "starts", "ends", "steps", "pads", "strides", "dilations",
                             "kernel_shape", "output_padding", "shape"}) {
      if (below(4) == 0) result.set(name, integers());
    }
    for (const char* name : {"dims", "elements"}) {
      if (below(4) > 0) continue;
      std::vector<std::string> texts;
      for (const std::int64_t element : integers()) texts.push_back(std::to_string(element));
      result.set(name, std::move(texts));
    }
    if (below(2) == 0) result.set("to", std::string(to_string(dtype())));
    if (below(4) == 0) result.set("dtype", std::string(to_string(dtype())));
    if (below(2) == 0) result.set("direction", one_of<std::string>({"LEFT", "RIGHT", "forward", "bidirectional"}));
    if (below(2) == 0) {
      result.set("mode", one_of<std::string>({"constant", "reflect", "edge", "wrap", "DCR", "CRD", "linear", "cubic"}));
    }
    if (below(3) == 0) result.set("reduction", one_of<std::string>({"none", "add", "mul", "max", "min"}));
    if (below(3) == 0) result.set("layout", one_of<std::string>({"nchw", "nhwc", "bhld"}));
    if (below(4) == 0) result.set("equation", one_of<std::string>({"ij,jk->ik", "ii", "...a,a", "->"}));
    if (below(3) == 0) result.set("value", tensor(dtype(), {1}));
    if (below(4) == 0) result.set("program", "relu 0");
    if (below(4) == 0) result.set("alpha", 0.5);
    return result;
  }

 private:
  std::mt19937 random_;
};

/// A list of sizes or a scalar is what many operators want as a further operand.
Tensor further_operand(Nonsense& nonsense, const Tensor& first) {
  switch (nonsense.below(6)) {
    case 0:
      return nonsense.tensor();
    case 1:
      return nonsense.tensor(DType::int64, {nonsense.below(5)});
    case 2:
      return nonsense.tensor(DType::int64, {first.rank()});
    case 3:
      return nonsense.tensor(nonsense.one_of({DType::int64, DType::int32, DType::boolean}), first.shape());
    case 4:
      return nonsense.tensor(first.dtype(), {});
    default:
      return nonsense.tensor(first.dtype(), first.shape());
  }
}

void expect_only_errors(const OpDef& def, std::uint32_t seed) {
  Nonsense nonsense(seed);
  OpPtr op;
  try {
    op = def.make(nonsense.below(3) == 0 ? Attributes{} : nonsense.attributes());
  } catch (const Error&) {
    return;
  }
  try {
    EXPECT_TRUE(equal(*op, *def.make(op->attributes())));
    std::vector<Tensor> inputs;
    const int count = nonsense.below(6);
    for (int i = 0; i < count; ++i) {
      if (nonsense.below(10) == 0) {
        inputs.emplace_back();
      } else {
        inputs.push_back(inputs.empty() || inputs[0].empty() ? nonsense.tensor()
                                                             : further_operand(nonsense, inputs[0]));
      }
    }
    const int num_outputs = 1 + nonsense.below(3);
    // Once with sizes that are symbols, once with numbers.
    Graph graph;
    std::vector<ValueId> ids;
    std::vector<const Tensor*> operands;
    for (const Tensor& input : inputs) {
      operands.push_back(input.empty() ? nullptr : &input);
      if (input.empty()) {
        ids.push_back(kNoValue);
        continue;
      }
      TensorType type = input.type();
      for (Dim& dim : type.dims) {
        if (nonsense.below(3) == 0) dim = Dim::symbol(nonsense.one_of<std::string>({"n", "m"}));
      }
      ids.push_back(nonsense.below(2) == 0 ? graph.add_constant("c", input) : graph.add_input("x", std::move(type)));
    }
    const NodeId id = graph.add_node(op, ids, num_outputs, "node");
    try {
      graph.infer_types(id);
    } catch (const Error& error) {
      EXPECT_NE(error.code(), Code::internal) << error.message();
    }
    InterpretOptions options;
    options.max_tensor_bytes = 1 << 20;
    const std::vector<Tensor> outputs = evaluate_node(graph.node(id), operands, {}, options);
    EXPECT_EQ(static_cast<int>(outputs.size()), num_outputs);
  } catch (const Error& error) {
    EXPECT_NE(error.code(), Code::internal) << error.message();
  }
}

TEST(EveryOperator, AnswersNonsenseWithAnErrorOrAResult) {
  constexpr std::uint32_t kTrials = 150;
  for (const OpDef* def : all_ops()) {
    // Blocks have tests of their own.
    static const std::set<std::string_view> with_blocks{"If", "Loop", "Samples", "Scan"};
    if (def->make == nullptr || with_blocks.contains(def->type)) continue;
    SCOPED_TRACE(std::string(def->type));
    for (std::uint32_t trial = 0; trial < kTrials; ++trial) {
      SCOPED_TRACE(trial);
      expect_only_errors(*def, trial);
      if (testing::Test::HasFailure()) break;
    }
  }
}

}  // namespace
}  // namespace tenfold
