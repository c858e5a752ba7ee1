// MatMul by cuBLASLt.
//
// The library counts columns first: a row-major matrix [rows, columns] is to it a matrix of `columns` rows whose
// columns lie `pitch` apart. So it is asked for the transposed product, c' = b' a', whose memory is that of c: its
// operand A is our b, its B our a, its rows are our columns, and a bias for each of its rows is one for each of our
// columns. Epilogues with a bias exist for such results only.
//
// An algorithm is 64 opaque bytes of one version of the library. The builder asks the heuristic at the profile's
// optimum, and the engine keeps the bytes of the candidate that won. Every run asks the library whether the algorithm
// can do these shapes (cublasLtMatmulAlgoCheck: on the host, without the device), because shapes change within a
// profile and because an engine file is not believed; if it cannot, the heuristic names another, within the same
// scratch memory. Descriptions live on the stack, the handle is shared: a run allocates nothing, and many threads may
// run at once.
//
// Library kernels are launched plainly: they begin when the kernel before has ended, and a kernel of ours behind them,
// even if it is launched early, waits for them where it first touches memory.
#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "backend/cuda/cublaslt_api.hpp"
#include "backend/cuda/gemm_kernel.hpp"
#include "backend/cuda/vendor_epilogue.hpp"
#include "backend/cuda/vendor_library.hpp"
#include "ops/matmul.hpp"

namespace tenfold::cuda {
namespace {

constexpr VendorLibrary kLibrary = VendorLibrary::cublas_lt;
constexpr int kMostCandidates = 6;
/// What the library's documentation recommends for Hopper; enough for every way of cutting sums up.
constexpr std::int64_t kMaxWorkspaceBytes = std::int64_t{32} << 20;
/// Operands begin at multiples of this (Backend::operand_alignment), pitched views too: see pitched_input_alignment.
constexpr std::uint32_t kAlignment = 16;

const MatMul& matmul_of(const OpPtr& op) {
  const auto* matmul = op_cast<MatMul>(op);
  ensure(matmul != nullptr, "a tactic of products was given operator {}", op->type());
  return *matmul;
}

/// Everything about a product but its sizes.
struct ProductTypes {
  int element = -1, result = -1, bias = -1;  ///< cudaDataType_t
  int compute = 0;                           ///< cublasComputeType_t
  bool fast_accumulation = false;            ///< of float8
  bool trans_a = false, trans_b = false;     ///< as our MatMul says; b as the kernel reads it
  bool packs_b = false;                      ///< b is constant and is kept transposed
  VendorEpilogue epilogue;
};

/// b has to lie with its sums along the rows, as the library's kernels for 8-bit factors read it.
bool needs_columns(DType element) { return size_of(element) == 1; }

Refusal refuses_elements_here(DType a, DType b, DType result) {
  const bool is_known =
      a == DType::float32 || a == DType::float16 || a == DType::bfloat16 || a == DType::int8 || a == DType::float8e4m3;
  if (!is_known || a != b)
    return fmt::format("cuBLASLt multiplies float32, float16, bfloat16, float8e4m3 and int8 here, not {} by {}",
                       to_string(a), to_string(b));
  const bool is_half = result == DType::float16 || result == DType::bfloat16;
  if (a == DType::int8 ? result == a : a == DType::float8e4m3 ? is_half : result == a || result == DType::float32)
    return std::nullopt;
  return fmt::format("cuBLASLt stores no product of {} as {} here", to_string(a), to_string(result));
}

Refusal refuses_shapes(const MatMul& matmul, const std::vector<TensorType>& inputs,
                       const std::vector<TensorType>& outputs) {
  for (std::size_t i = 0; i < 2; ++i) {
    if (inputs[i].rank() < 2) return "an operand is a vector";
  }
  const Dim& k = inputs[0].dims[inputs[0].dims.size() - (matmul.trans_a() ? 2 : 1)];
  if (!k.is_constant() || k.constant() < 1) return "the length of the sums is not fixed";
  for (std::size_t i = 0; i < 2; ++i) {
    const std::vector<Dim> batch(inputs[i].dims.begin(), inputs[i].dims.end() - 2),
        all(outputs[0].dims.begin(), outputs[0].dims.end() - 2);
    const bool none = std::all_of(batch.begin(), batch.end(), [](const Dim& dim) { return dim == Dim(1); });
    if (!none && batch != all) return fmt::format("operand {} is broadcast over a part of the batch axes", i);
  }
  // 16 bytes along every row, or there is no kernel for 8-bit factors.
  if (needs_columns(inputs[0].dtype)) {
    const Dim& n = outputs[0].dims.back();
    if (k.constant() % kAlignment != 0 || !n.is_constant() || n.constant() % kAlignment != 0)
      return fmt::format("8-bit products of cuBLASLt have rows and columns that are multiples of {}", kAlignment);
    if (matmul.trans_a()) return "8-bit products of cuBLASLt have no transposed a";
  }
  return std::nullopt;
}

/// Checks all that does not depend on sizes at run time. `is_constant_b`: b may be kept in another order.
std::optional<ProductTypes> product_types(const OpPtr& op, const std::vector<TensorType>& inputs,
                                          const std::vector<TensorType>& outputs, bool is_constant_b,
                                          std::string& refusal) {
  const MatMul& matmul = matmul_of(op);
  const auto refuse = [&](const Refusal& reason) {
    if (reason) refusal = *reason;
    return reason.has_value();
  };
  if (inputs.size() < 2 || outputs.empty()) {
    refusal = "operands are missing";
    return std::nullopt;
  }
  const DType element = inputs[0].dtype, result = outputs[0].dtype;
  if (refuse(refuses_quarantined(kLibrary, cublas_lt().version, {*op, inputs, outputs})) ||
      refuse(refuses_elements_here(element, inputs[1].dtype, result)) ||
      refuse(refuses_shapes(matmul, inputs, outputs)))
    return std::nullopt;
  const auto spec = epilogue_spec(matmul.epilogue().program, inputs, MatMul::kFirstEpilogueInput, outputs[0], refusal);
  if (!spec) return std::nullopt;
  const auto epilogue = vendor_epilogue(spec->program, spec->operands, refusal);
  if (!epilogue) return std::nullopt;

  ProductTypes types{.element = cublaslt::data_type_of(element),
                     .result = cublaslt::data_type_of(result),
                     .trans_a = matmul.trans_a(),
                     .trans_b = matmul.trans_b(),
                     .epilogue = *epilogue};
  types.compute = element == DType::int8 ? cublaslt::kComputeInt32 : cublaslt::kComputeFloat32;
  if (needs_columns(element) && !types.trans_b) {
    const bool is_one_matrix =
        std::all_of(inputs[1].dims.begin(), inputs[1].dims.end() - 2, [](const Dim& dim) { return dim == Dim(1); });
    if (!is_constant_b || !is_one_matrix) {
      refusal = "8-bit products of cuBLASLt have a b whose rows are the result's columns";
      return std::nullopt;
    }
    types.packs_b = types.trans_b = true;
  }
  // The bias of an int8 result is float32; else it has the result's type, as has what is added element by element.
  const DType bias = element == DType::int8 ? DType::float32 : result;
  types.bias = cublaslt::data_type_of(bias);
  const auto operand = [&](int index) { return spec->operands[static_cast<std::size_t>(index)].dtype; };
  if (epilogue->bias >= 0 && operand(epilogue->bias) != bias) {
    refusal = fmt::format("cuBLASLt adds a {} bias here, this one is {}", to_string(bias),
                          to_string(operand(epilogue->bias)));
    return std::nullopt;
  }
  if (epilogue->residual >= 0 && (element == DType::int8 || operand(epilogue->residual) != result)) {
    refusal =
        fmt::format("cuBLASLt adds no {} to a {} result", to_string(operand(epilogue->residual)), to_string(result));
    return std::nullopt;
  }
  return types;
}

/// The sizes of one run, and where its operands lie. A product is c[batch] = a[batch] b[batch] of row-major matrices;
/// batches of a over one b are more rows.
struct Operand {
  void* data = nullptr;
  std::int64_t pitch = 0, batch_stride = 0;  ///< elements; 0: the same for every batch
};
struct ProductSizes {
  std::int64_t m = 0, n = 0, k = 0, batches = 1;
  Operand a, b, c, residual;
  const void* bias = nullptr;
};

/// `packed_b`: [n, k] in the place of input 1, or nullptr.
ProductSizes product_sizes(const ProductTypes& types, std::span<const TensorView> inputs, const TensorView& c,
                           const void* packed_b) {
  const TensorView& a = inputs[0];
  const TensorView& b = inputs[1];
  const auto matrices = [](const TensorView& view) { return product_of_dims(view.dims, 0, view.dims.size() - 2); };
  const auto rows_of = [](const TensorView& view) { return view.dims[view.dims.size() - 2]; };
  ProductSizes sizes;
  sizes.m = rows_of(c);
  sizes.n = c.dims.back();
  sizes.k = types.trans_a ? rows_of(a) : a.dims.back();
  sizes.batches = matrices(c);
  const bool b_is_shared = packed_b != nullptr || matrices(b) == 1;
  const auto operand = [&](const TensorView& view) {
    return Operand{view.data, view.pitch, matrices(view) > 1 ? rows_of(view) * view.pitch : 0};
  };
  sizes.a = operand(a);
  sizes.c = operand(c);
  if (packed_b != nullptr)
    sizes.b = {const_cast<void*>(packed_b), sizes.k, 0};  // the library's signature is const
  else
    sizes.b = operand(b);
  const auto extra = [&](int index) { return inputs[static_cast<std::size_t>(MatMul::kFirstEpilogueInput + index)]; };
  if (types.epilogue.residual >= 0) sizes.residual = operand(extra(types.epilogue.residual));
  if (types.epilogue.bias >= 0) sizes.bias = extra(types.epilogue.bias).data;
  if (b_is_shared && !types.trans_a && matrices(a) == sizes.batches) {
    sizes.m *= sizes.batches;
    sizes.batches = 1;
  }
  return sizes;
}

/// One product as the library sees it. Lives on the stack of a run.
class Description {
 public:
  Description(const ProductTypes& types, const ProductSizes& sizes) : has_residual_(types.epilogue.residual >= 0) {
    const CublasLtApi& api = cublas_lt();
    check_cublas_lt(api.init_product(&product_, sizeof product_, types.compute, cublaslt::kFloat32),
                    "describing a product");
    if (types.trans_b) set(cublaslt::kProductTransA, cublaslt::kTransposed);
    if (types.trans_a) set(cublaslt::kProductTransB, cublaslt::kTransposed);
    if (types.fast_accumulation) set(cublaslt::kProductFastAccumulation, std::int8_t{1});
    using Activation = VendorEpilogue::Activation;
    std::uint32_t epilogue = 0;
    if (types.epilogue.activation == Activation::relu) epilogue |= cublaslt::kEpilogueRelu;
    if (types.epilogue.activation == Activation::gelu_tanh) epilogue |= cublaslt::kEpilogueGelu;
    if (types.epilogue.bias >= 0) epilogue |= cublaslt::kEpilogueBias;
    if (epilogue != 0) set(cublaslt::kProductEpilogue, epilogue);
    if (types.epilogue.bias >= 0) {
      set(cublaslt::kProductBiasType, static_cast<std::int32_t>(types.bias));
      set(cublaslt::kProductBias, sizes.bias);
    }
    const auto layout = [&](CublasLtLayout& to, int type, bool transposed, std::int64_t rows, std::int64_t columns,
                            const Operand& operand) {
      if (transposed) std::swap(rows, columns);
      check_cublas_lt(api.init_layout(&to, sizeof to, type, static_cast<std::uint64_t>(rows),
                                      static_cast<std::uint64_t>(columns), operand.pitch),
                      "describing a matrix");
      if (sizes.batches == 1) return;
      set(to, cublaslt::kLayoutBatchCount, static_cast<std::int32_t>(sizes.batches));
      set(to, cublaslt::kLayoutBatchStride, operand.batch_stride);
    };
    layout(a_, types.element, types.trans_b, sizes.n, sizes.k, sizes.b);
    layout(b_, types.element, types.trans_a, sizes.k, sizes.m, sizes.a);
    layout(d_, types.result, false, sizes.n, sizes.m, sizes.c);
    layout(c_, types.result, false, sizes.n, sizes.m, has_residual_ ? sizes.residual : sizes.c);
  }

  /// Up to `count` algorithms within `workspace_bytes` for operands at multiples of `alignment` bytes, best first.
  /// Empty: the library has none.
  std::vector<CublasLtResult> algorithms(CublasLtHandle handle, int count, std::uint64_t workspace_bytes,
                                         bool is_float32) {
    std::vector<CublasLtResult> results(static_cast<std::size_t>(count));
    results.resize(
        static_cast<std::size_t>(find(handle, results.data(), count, workspace_bytes, kAlignment, is_float32)));
    return results;
  }
  /// The same for one, without memory of its own. False: none.
  bool algorithm(CublasLtHandle handle, CublasLtResult& result, std::uint64_t workspace_bytes, std::uint32_t alignment,
                 bool is_float32) {
    return find(handle, &result, 1, workspace_bytes, alignment, is_float32) == 1;
  }
  /// Can this algorithm do it, and in how much scratch memory?
  bool allows(CublasLtHandle handle, const CublasLtAlgorithm& algorithm, CublasLtResult& result) {
    return cublas_lt().check_algorithm(handle, &product_, &a_, &b_, &c_, &d_, &algorithm, &result) == 0;
  }
  void run(CublasLtHandle handle, const ProductTypes& types, const ProductSizes& sizes,
           const CublasLtAlgorithm& algorithm, void* workspace, std::size_t workspace_bytes, CUstream stream) {
    const float alpha = types.epilogue.alpha, beta = has_residual_ ? 1 : 0;
    const void* c = has_residual_ ? sizes.residual.data : sizes.c.data;
    check_cublas_lt(cublas_lt().multiply(handle, &product_, &alpha, sizes.b.data, &a_, sizes.a.data, &b_, &beta, c, &c_,
                                         sizes.c.data, &d_, &algorithm, workspace, workspace_bytes, stream),
                    "multiplying");
  }

 private:
  template <typename T>
  void set(int attribute, const T& value) {
    check_cublas_lt(cublas_lt().set_product(&product_, attribute, &value, sizeof value), "describing a product");
  }
  template <typename T>
  static void set(CublasLtLayout& layout, int attribute, const T& value) {
    check_cublas_lt(cublas_lt().set_layout(&layout, attribute, &value, sizeof value), "describing a batch");
  }
  int find(CublasLtHandle handle, CublasLtResult* results, int count, std::uint64_t workspace_bytes,
           std::uint32_t alignment, bool is_float32) {
    const CublasLtApi& api = cublas_lt();
    CublasLtPreference preference;
    const auto prefer = [&](int attribute, const auto& value) {
      check_cublas_lt(api.set_preference(&preference, attribute, &value, sizeof value), "saying what is wanted");
    };
    check_cublas_lt(api.init_preference(&preference, sizeof preference), "saying what is wanted");
    prefer(cublaslt::kPreferWorkspaceBytes, workspace_bytes);
    // Partial sums stay float32, whatever the result is stored as.
    const std::uint32_t reductions = cublaslt::kReduceInFloat32 | (is_float32 ? cublaslt::kReduceInPlace : 0);
    prefer(cublaslt::kPreferReductions, reductions);
    for (const int attribute : {cublaslt::kPreferAlignmentA, cublaslt::kPreferAlignmentB, cublaslt::kPreferAlignmentC,
                                cublaslt::kPreferAlignmentD}) {
      prefer(attribute, alignment);
    }
    int found = 0;
    const int status = api.heuristic(handle, &product_, &a_, &b_, &c_, &d_, &preference, count, results, &found);
    if (status != 0) return 0;  // "not supported"
    int good = 0;
    for (int i = 0; i < found; ++i) {
      if (results[i].status == 0) results[good++] = results[i];
    }
    return good;
  }

  bool has_residual_;
  CublasLtProduct product_;
  CublasLtLayout a_, b_, c_, d_;  ///< as the library counts them
};

/// What an engine keeps of a candidate.
struct Parameters {
  std::int64_t version = 0;
  std::int64_t compute = 0, fast_accumulation = 0;
  std::int64_t workspace_bytes = 0;  ///< that the algorithm may take, whatever the shapes
  CublasLtAlgorithm algorithm{};

  std::vector<std::int64_t> encode() const {
    std::vector<std::int64_t> numbers{version, compute, fast_accumulation, workspace_bytes};
    for (const std::uint64_t word : algorithm.opaque) numbers.push_back(static_cast<std::int64_t>(word));
    return numbers;
  }
  static Parameters decode(const KernelSpec& spec) {
    constexpr std::size_t kWords = std::size(CublasLtAlgorithm{}.opaque), kNumbers = 4;
    const std::vector<std::int64_t>& numbers = spec.parameters;
    require(numbers.size() == kNumbers + kWords, Code::incompatible_engine, "tactic '{}' has {} parameters, not {}",
            spec.tactic, kNumbers + kWords, numbers.size());
    Parameters parameters{numbers[0], numbers[1], numbers[2], numbers[3], {}};
    require_vendor_version(kLibrary, parameters.version, spec.tactic);
    for (std::size_t i = 0; i < kWords; ++i) {
      parameters.algorithm.opaque[i] = static_cast<std::uint64_t>(numbers[kNumbers + i]);
    }
    const DType element = spec.inputs.empty() ? DType::undefined : spec.inputs[0].dtype;
    const bool is_tf32 = parameters.compute == cublaslt::kComputeTf32;
    const std::int64_t compute = element == DType::int8 ? cublaslt::kComputeInt32 : cublaslt::kComputeFloat32;
    require((parameters.compute == compute || (is_tf32 && element == DType::float32)) &&
                (parameters.fast_accumulation == 0 ||
                 (parameters.fast_accumulation == 1 && element == DType::float8e4m3)) &&
                parameters.workspace_bytes >= 0 && parameters.workspace_bytes <= kMaxWorkspaceBytes,
            Code::incompatible_engine, "tactic '{}': its parameters do not fit the operator", spec.tactic);
    return parameters;
  }
};

class CublasLtKernel final : public Kernel {
 public:
  CublasLtKernel(const ProductTypes& types, const Parameters& parameters, const void* packed_b)
      : types_(types),
        algorithm_(parameters.algorithm),
        limit_(static_cast<std::size_t>(parameters.workspace_bytes)),
        packed_b_(packed_b),
        handle_(cublas_lt_handle()) {}

  std::size_t workspace_bytes(std::span<const TensorView>, std::span<const TensorView>) const override {
    return vendor_workspace_bytes(limit_);
  }
  void run(const Launch& launch) const override {
    const TensorView& c = launch.outputs[0];
    if (c.num_elements() == 0) return;
    CudaStream& stream = cuda_stream(launch);
    stream.make_current();
    const ProductSizes sizes = product_sizes(types_, launch.inputs, c, packed_b_);
    Description product(types_, sizes);
    const std::uint32_t alignment = alignment_of(sizes);
    CublasLtResult chosen{};
    const bool is_allowed =
        alignment >= kAlignment && product.allows(handle_, algorithm_, chosen) && chosen.workspace_bytes <= limit_;
    if (is_allowed) {
      chosen.algorithm = algorithm_;
    } else {
      const bool found = product.algorithm(handle_, chosen, limit_, alignment, types_.result == cublaslt::kFloat32);
      require(found, Code::device_failure, "cuBLASLt has no algorithm for a product of {} by {} by {}", sizes.m,
              sizes.k, sizes.n);
    }
    product.run(handle_, types_, sizes, chosen.algorithm, limit_ > 0 ? aligned_workspace(launch.workspace) : nullptr,
                limit_, stream.handle());
  }
  bool accepts_pitched_input(int index) const override {
    return index < 2 || index == MatMul::kFirstEpilogueInput + types_.epilogue.residual;
  }
  std::int64_t pitched_input_alignment() const override { return kAlignment; }

 private:
  /// What all addresses are multiples of, at most kAlignment.
  static std::uint32_t alignment_of(const ProductSizes& sizes) {
    std::uintptr_t bits = kAlignment;
    for (const void* data :
         std::array<const void*, 5>{sizes.a.data, sizes.b.data, sizes.c.data, sizes.residual.data, sizes.bias}) {
      bits |= reinterpret_cast<std::uintptr_t>(data);
    }
    return static_cast<std::uint32_t>(bits & ~(bits - 1));
  }

  ProductTypes types_;
  CublasLtAlgorithm algorithm_;
  std::size_t limit_;  ///< bytes of scratch memory
  const void* packed_b_;
  CublasLtHandle handle_;
};

/// Views of the operands at the optimum, at addresses that promise kAlignment and are not used.
std::vector<TensorView> described_views(const std::vector<TensorType>& types, const std::vector<Shape>& shapes) {
  std::vector<TensorView> views(types.size());
  for (std::size_t i = 0; i < types.size(); ++i) {
    void* nowhere = reinterpret_cast<void*>(std::uintptr_t{kAlignment});
    views[i] = {nowhere, types[i].dtype, shapes[i], shapes[i].empty() ? 1 : shapes[i].back()};
  }
  return views;
}

void candidates(const Problem& problem, const DeviceTraits& traits, std::vector<Candidate>& out) {
  std::string refusal;
  auto types = product_types(problem.op, problem.inputs, problem.outputs, problem.constants[1] != nullptr, refusal);
  if (types && num_elements(problem.output_shapes[0]) == 0) refusal = "the product is empty";
  if (!types || !refusal.empty()) {
    offer_refusal(refusal, out);
    return;
  }
  const DType element = problem.inputs[0].dtype;
  if (element == DType::float32 && problem.tf32) types->compute = cublaslt::kComputeTf32;
  types->fast_accumulation = element == DType::float8e4m3 && !problem.strict;
  const std::vector<TensorView> inputs = described_views(problem.inputs, problem.input_shapes),
                                outputs = described_views(problem.outputs, problem.output_shapes);
  Description product(*types, product_sizes(*types, inputs, outputs[0], types->packs_b ? inputs[1].data : nullptr));
  const std::size_t first = out.size();
  for (const CublasLtResult& result : product.algorithms(cublas_lt_handle(), kMostCandidates, kMaxWorkspaceBytes,
                                                         problem.outputs[0].dtype == DType::float32)) {
    Parameters parameters{static_cast<std::int64_t>(cublas_lt().version), types->compute,
                          types->fast_accumulation ? 1 : 0, result.workspace_bytes > 0 ? kMaxWorkspaceBytes : 0,
                          result.algorithm};
    Candidate candidate;
    candidate.parameters = parameters.encode();
    candidate.estimated_us = estimate_ranked_us(problem, traits, out.size() - first);
    const bool is_known = std::any_of(out.begin() + static_cast<std::ptrdiff_t>(first), out.end(),
                                      [&](const Candidate& c) { return c.parameters == candidate.parameters; });
    if (!is_known) out.push_back(std::move(candidate));
  }
  if (out.size() == first) offer_refusal("cuBLASLt has no algorithm for this product", out);
}

PackedWeights pack(const Problem& problem, const Candidate&) {
  const bool packs = needs_columns(problem.inputs[0].dtype) && !matmul_of(problem.op).trans_b();
  PackedWeights packed;
  if (!packs) return packed;
  const Tensor& b = *problem.constants[1];
  const Shape& shape = b.shape();
  const std::int64_t k = shape[shape.size() - 2], n = shape.back();
  std::vector<std::byte>& columns = packed.blobs.emplace_back(b.size_bytes());
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t j = 0; j < n; ++j) columns[static_cast<std::size_t>(j * k + i)] = b.data()[i * n + j];
  }
  packed.consumed_inputs = {1};
  return packed;
}

std::unique_ptr<Kernel> make(const KernelSpec& spec, const LoadedModule& module) {
  const Parameters parameters = Parameters::decode(spec);
  std::string refusal;
  auto types = product_types(spec.op, spec.inputs, spec.outputs, spec.weights.size() == 1, refusal);
  require(types.has_value(), Code::incompatible_engine, "tactic '{}' cannot run this product: {}", spec.tactic,
          refusal);
  types->compute = static_cast<int>(parameters.compute);
  types->fast_accumulation = parameters.fast_accumulation == 1;
  std::int64_t expected = 0;
  if (types->packs_b) {
    require(spec.inputs[1].is_static(), Code::incompatible_engine, "tactic '{}' packs a b that is computed",
            spec.tactic);
    expected = num_elements(spec.inputs[1].static_shape());
  }
  require(spec.weights.size() == (types->packs_b ? 1U : 0U) &&
              (!types->packs_b || static_cast<std::int64_t>(spec.weights[0].size()) == expected),
          Code::incompatible_engine, "tactic '{}' expects a packed matrix of {} bytes", spec.tactic, expected);
  return std::make_unique<CublasLtKernel>(*types, parameters, types->packs_b ? module.weight(0) : nullptr);
}

}  // namespace

const CudaTactic kGemmCublasLt{"gemm.cublaslt", "MatMul", candidates, pack, nullptr, make, kLibrary};

}  // namespace tenfold::cuda
