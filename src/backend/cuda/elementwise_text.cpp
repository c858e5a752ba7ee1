#include "backend/cuda/elementwise_text.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "backend/cuda/loop_nest.hpp"
#include "backend/cuda/pointwise_text.hpp"

namespace tenfold::cuda {

int elementwise_vector(const ElementwiseSpec& spec) {
  // 16 bytes of the output; of 8-bit elements fewer, because their values occupy registers of 4 bytes.
  constexpr std::size_t kBytes = 16, kMost = 8;
  return static_cast<int>(std::min(kBytes / size_of(spec.output), kMost));
}

Source elementwise_source(const ElementwiseSpec& spec) {
  const std::size_t count = spec.operands.size();
  const std::string_view output = device_type(spec.output);
  std::string loads;
  std::string names;
  for (std::size_t k = 0; k < count; ++k) {
    const std::string_view type = device_type(spec.operands[k]);
    loads += fmt::format(
        "  const {0}* p{1} = ({0}*)nest.operands[{1}].data + offset[{1}];\n"
        "  tf::Vector<{0}, V> v{1};\n"
        "  if (V > 1 && (nest.repeated >> {1} & 1)) {{\n"
        "#pragma unroll\n"
        "    for (int i = 0; i < V; ++i) v{1}.at[i] = *p{1};\n"
        "  }} else {{\n"
        "    v{1} = *(const tf::Vector<{0}, V>*)p{1};\n"
        "  }}\n",
        type, k);
    names += fmt::format("    const {} x{} = v{}.at[i];\n", type, k, k);
  }
  Source source;
  source.entries = {"vectors", "elements"};
  source.text = fmt::format(R"({prelude}{nest}{helpers}
// Each thread makes V neighbouring elements of the output. All operands are loaded before the first is used.
template <int V>
TF_FN void make(const Nest<{num_nest}>& nest) {{
  tf::begin_early();
  const long long index = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (index >= nest.count) return;
  long long offset[{num_nest}];
  tf::offsets(nest, index, offset);
{loads}  tf::Vector<{output}, V> result;
#pragma unroll
  for (int i = 0; i < V; ++i) {{
{names}{body}    result.at[i] = y;
  }}
  *(tf::Vector<{output}, V>*)(({output}*)nest.operands[{count}].data + offset[{count}]) = result;
}}
extern "C" __global__ void __launch_bounds__(256) vectors(const __grid_constant__ Nest<{num_nest}> nest) {{ make<{vector}>(nest); }}
extern "C" __global__ void __launch_bounds__(256) elements(const __grid_constant__ Nest<{num_nest}> nest) {{ make<1>(nest); }}
)",
                            fmt::arg("prelude", device_prelude()), fmt::arg("nest", nest_prelude()),
                            fmt::arg("helpers", spec.helpers),
                            fmt::arg("num_nest", count + 1), fmt::arg("loads", loads), fmt::arg("output", output),
                            fmt::arg("names", names), fmt::arg("body", spec.body), fmt::arg("count", count),
                            fmt::arg("vector", elementwise_vector(spec)));
  return source;
}

}  // namespace tenfold::cuda
