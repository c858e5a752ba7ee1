// Einsum that is no matrix product, and MatMul of float64, of integers and of operands of rank 1, which is an Einsum
// too: one thread for each result, sums in double or in integers that wrap. Import turns other products into MatMul.
#include <algorithm>
#include <cctype>

#include "backend/cuda/element_text.hpp"
#include "backend/cuda/pointwise_text.hpp"
#include "ops/einsum.hpp"
#include "ops/matmul.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kMostOperands = 4;

/// The operator as an equation; "" for a product with an epilogue.
std::string equation_of(const Op& op, const std::vector<TensorType>& inputs) {
  if (op.type() == "Einsum") return op.attributes().get_string("equation");
  const auto& product = dynamic_cast<const MatMul&>(op);
  const Epilogue& epilogue = product.epilogue();
  if (!epilogue.program.empty() || epilogue.output != DType::undefined || inputs.size() != 2) return "";
  const int rank_a = inputs[0].rank(), rank_b = inputs[1].rank();
  if (rank_a < 1 || rank_b < 1 || rank_a > kMaxRank || rank_b > kMaxRank) return "";
  const int batch = std::max({rank_a, rank_b, 2}) - 2;
  const auto leading = [batch](int rank) {  // batch axes are aligned at their ends
    return std::string("abcdefgh")
        .substr(static_cast<std::size_t>(batch - std::max(rank - 2, 0)),
                static_cast<std::size_t>(std::max(rank - 2, 0)));
  };
  const std::string a = leading(rank_a) + (rank_a == 1 ? "k" : product.trans_a() ? "km" : "mk");
  const std::string b = leading(rank_b) + (rank_b == 1 ? "k" : product.trans_b() ? "nk" : "kn");
  return a + "," + b + "->" + leading(batch + 2) + (rank_a == 1 ? "" : "m") + (rank_b == 1 ? "" : "n");
}

struct Arguments {
  const void* x[kMostOperands] = {};
  void* y = nullptr;
  std::int64_t count = 0, length = 1;
  Sizes outer, inner, outer_strides[kMostOperands], inner_strides[kMostOperands];
};

class EinsumKernel final : public Kernel {
 public:
  static Refusal refuses(const Signature& signature) {
    if (signature.inputs.empty() || !signature.has_output(0)) return "operands are missing";
    if (signature.inputs.size() > kMostOperands)
      return fmt::format("{} operands are more than {}", signature.inputs.size(), kMostOperands);
    for (const TensorType& input : signature.inputs) {
      if (input.dtype != signature.outputs[0].dtype) return "the operands differ in type";
    }
    const std::string equation = equation_of(signature.op, signature.inputs);
    if (equation.empty()) return "it has an epilogue";
    // As many loops as there are letters, and axes that an ellipsis stands for.
    std::string letters;
    for (const char c : equation) {
      if (std::isalpha(static_cast<unsigned char>(c)) != 0 && letters.find(c) == std::string::npos) letters += c;
    }
    std::size_t axes = letters.size();
    if (equation.find('.') != std::string::npos) {
      for (const TensorType& type : signature.inputs) axes = std::max(axes, letters.size() + type.dims.size());
    }
    if (axes > kMaxRank) return fmt::format("{} axes are more than {}", axes, kMaxRank);
    return std::nullopt;
  }
  static Source source(const KernelSpec& spec, const DeviceTraits&) {
    const DType dtype = spec.inputs[0].dtype;
    const bool is_real = is_float(dtype);
    Source source;
    source.entries = {"sum_products"};
    source.text =
        fmt::format(R"({}{}
typedef {} T;
typedef {} S;
constexpr int kOperands = {};
struct Arguments {{
  const T* x[4];
  T* y;
  long long count, length;
  Sizes outer, inner, outer_strides[4], inner_strides[4];
}};
extern "C" __global__ void __launch_bounds__(256) sum_products(const __grid_constant__ Arguments a) {{
  tf::begin_early();
  tf::for_each_thread(a.count, [&](long long i) {{
    long long first[kOperands] = {{}}, rest = i;
    for (int d = a.outer.rank - 1; d >= 0; --d) {{
      const long long place = rest % a.outer.at[d];
      rest /= a.outer.at[d];
      for (int k = 0; k < kOperands; ++k) first[k] += place * a.outer_strides[k].at[d];
    }}
    S sum = 0;
    for (long long j = 0; j < a.length; ++j) {{
      long long at[kOperands];
      for (int k = 0; k < kOperands; ++k) at[k] = first[k];
      rest = j;
      for (int d = a.inner.rank - 1; d >= 0; --d) {{
        const long long place = rest % a.inner.at[d];
        rest /= a.inner.at[d];
        for (int k = 0; k < kOperands; ++k) at[k] += place * a.inner_strides[k].at[d];
      }}
      S product = 1;
      for (int k = 0; k < kOperands; ++k) product *= (S){};
      sum += product;
    }}
    a.y[i] = {};
  }});
}}
)",
                    device_prelude(), element_prelude(), device_type(dtype), is_real ? "double" : "unsigned long long",
                    spec.inputs.size(), is_real ? "tf::Element<T>::get(a.x[k][at[k]])" : "a.x[k][at[k]]",
                    is_real ? "tf::Element<T>::put((tf::Element<T>::C)sum)" : "(T)sum");
    return source;
  }
  EinsumKernel(const KernelSpec& spec, const LoadedModule& module)
      : equation_(equation_of(*spec.op, spec.inputs)), function_(module.function("sum_products")) {}
  void run(const Launch& launch) const override {
    const TensorView& y = launch.outputs[0];
    if (y.num_elements() == 0) return;
    std::vector<Shape> dims;
    for (const TensorView& input : launch.inputs) dims.emplace_back(input.dims.begin(), input.dims.end());
    const EinsumLoops loops = einsum_loops(equation_, dims);
    Arguments arguments;
    arguments.y = y.data;
    arguments.count = y.num_elements();
    arguments.length = num_elements(loops.inner);
    arguments.outer = sizes_of(loops.outer);
    arguments.inner = sizes_of(loops.inner);
    for (std::size_t i = 0; i < launch.inputs.size(); ++i) {
      arguments.x[i] = launch.inputs[i].data;
      arguments.outer_strides[i] = sizes_of(loops.outer_strides[i]);
      arguments.inner_strides[i] = sizes_of(loops.inner_strides[i]);
    }
    LaunchConfig config = one_thread_each(function_, arguments.count);
    config.pdl = true;
    cuda_stream(launch).launch(config, arguments);
  }

 private:
  std::string equation_;
  Function function_;
};

/// Of a product only where no other tactic applies.
void product_candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  const bool has_other = std::any_of(out.begin(), out.end(), [](const Candidate& c) { return c.refusal.empty(); });
  PlainTactic<EinsumKernel>::candidates(problem, traits, out);
  if (has_other && out.back().refusal.empty()) out.back().refusal = "a faster tactic takes it";
}

}  // namespace

const CudaTactic kEinsumPlain = plain_tactic<EinsumKernel>("einsum.plain", "Einsum");
const CudaTactic kMatMulSums = {"einsum.plain",
                                "MatMul",
                                product_candidates,
                                nullptr,
                                PlainTactic<EinsumKernel>::source,
                                PlainTactic<EinsumKernel>::make};

}  // namespace tenfold::cuda
