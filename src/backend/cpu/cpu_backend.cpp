// The CPU backend: finds the tactics in tactics.inc, adds the reference as the last resort, owns host memory.
#include <algorithm>
#include <array>
#include <cpuid.h>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sys/mman.h>

#include "backend/cpu/cpu_tactic.hpp"
#include "backend/cpu/tier.hpp"
#include "base/cpu_count.hpp"
#include "base/env.hpp"

namespace tenfold {
namespace cpu {
namespace {

std::span<const CpuTactic* const> all_tactics() {
  static constexpr auto kAll = std::to_array<const CpuTactic*>({
#define TENFOLD_CPU_TACTIC(name) &name,
#include "backend/cpu/tactics.inc"
#undef TENFOLD_CPU_TACTIC
      nullptr,  // an array cannot be empty
  });
  return std::span(kAll).first(kAll.size() - 1);
}

const CpuTactic* find_tactic(std::string_view name, std::string_view op_type) {
  for (const CpuTactic* tactic : all_tactics()) {
    if (tactic->name == name && tactic->op_type == op_type) return tactic;
  }
  return nullptr;
}

constexpr std::string_view kReference = "reference";

/// Op::evaluate on a launch's operands: runs every operator, on one thread.
class ReferenceKernel final : public Kernel {
 public:
  explicit ReferenceKernel(OpPtr op) : op_(std::move(op)) {}

  void run(const Launch& launch) const override {
    Operands operands(launch);
    op_->evaluate(operands);
  }

 private:
  class Operands final : public EvalContext {
   public:
    explicit Operands(const Launch& launch) : launch_(launch) {}
    int num_inputs() const override { return static_cast<int>(launch_.inputs.size()); }
    int num_outputs() const override { return static_cast<int>(launch_.outputs.size()); }
    bool has_input(int index) const override { return index < num_inputs() && input(index).dtype != DType::undefined; }
    const TensorView& input(int index) const override { return launch_.inputs[static_cast<std::size_t>(index)]; }
    bool wants_output(int index) const override {
      return index < num_outputs() && output(index).dtype != DType::undefined;
    }
    const TensorView& output(int index) const override { return launch_.outputs[static_cast<std::size_t>(index)]; }
    const TensorView& resize_output(int index, const Shape& dims) override {
      ensure(launch_.resize != nullptr, "an operator sets the shape of its output {}, but nobody listens", index);
      return (*launch_.resize)(index, dims);
    }

   private:
    const Launch& launch_;
  };

  OpPtr op_;
};

/// What the reference takes, roughly: it is there so that everything runs, not to win.
double estimate_reference_us(const Problem& problem) {
  std::vector<TensorType> inputs = problem.inputs, outputs = problem.outputs;
  double elements = 0;
  const auto fix = [&elements](std::vector<TensorType>& types, const std::vector<Shape>& shapes) {
    for (std::size_t i = 0; i < types.size() && i < shapes.size(); ++i) {
      if (types[i].dtype == DType::undefined) continue;
      types[i].dims.assign(shapes[i].begin(), shapes[i].end());
      elements += static_cast<double>(num_elements(shapes[i]));
    }
  };
  fix(inputs, problem.input_shapes);
  fix(outputs, problem.output_shapes);
  constexpr double kElementsPerUs = 100, kFlopsPerUs = 500;
  return 10 + elements / kElementsPerUs + problem.op->flops(inputs, outputs) / kFlopsPerUs;
}

class HostBuffer final : public Buffer {
 public:
  explicit HostBuffer(std::size_t bytes) : size_(bytes) {
    // Large blocks are aligned for huge pages, which spare the address translation many misses.
    constexpr std::size_t kLine = 64, kHugePage = std::size_t{1} << 21;
    const std::size_t alignment = bytes >= 2 * kHugePage ? kHugePage : kLine;
    if (bytes <= SIZE_MAX - alignment) {
      const std::size_t rounded = std::max(alignment, (bytes + alignment - 1) / alignment * alignment);
      data_ = std::aligned_alloc(alignment, rounded);
      if (data_ != nullptr && alignment == kHugePage) madvise(data_, rounded, MADV_HUGEPAGE);  // only a hint
      // Pages that are there spare the first inference its faults. Not for memory that might never be needed: large
      // blocks are made for the largest shapes.
      constexpr std::size_t kPage = 4096, kSmallest = 64 << 10, kLargest = 64 << 20;
      if (data_ != nullptr && kSmallest <= rounded && rounded <= kLargest) {
        const auto first = (reinterpret_cast<std::uintptr_t>(data_) + kPage - 1) / kPage * kPage;
        const auto end = (reinterpret_cast<std::uintptr_t>(data_) + rounded) / kPage * kPage;
        madvise(reinterpret_cast<void*>(first), end - first, MADV_POPULATE_WRITE);  // only a hint
      }
    }
    require(data_ != nullptr, Code::out_of_memory, "{} bytes of memory were asked for and are not there", bytes);
  }
  ~HostBuffer() override { std::free(data_); }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;
  void* data() override { return data_; }
  std::size_t size_bytes() const override { return size_; }

 private:
  void* data_ = nullptr;
  std::size_t size_;
};

/// "AMD EPYC 7543 32-Core Processor", from CPUID.
std::string processor_name() {
  std::array<unsigned, 12> words{};
  for (unsigned i = 0; i < 3; ++i) {
    unsigned* w = words.data() + 4 * i;
    if (!__get_cpuid(0x80000002U + i, w, w + 1, w + 2, w + 3)) return "x86-64 processor";
  }
  std::array<char, sizeof words> text{};
  std::memcpy(text.data(), words.data(), sizeof words);
  std::string name(text.data(), strnlen(text.data(), text.size()));
  const auto begin = name.find_first_not_of(' ');
  if (begin == std::string::npos) return "x86-64 processor";
  return name.substr(begin, name.find_last_not_of(' ') - begin + 1);
}

class CpuBackend final : public Backend {
 public:
  std::string_view name() const override { return "cpu"; }
  Abilities abilities() const override {
    const bool has_kernels = tier() != Tier::none;
    return {.integer_products = has_kernels,
            .bf16 = has_bf16_dot(),
            .bf16_values = has_bf16_tiles(),
            .zero_points = has_kernels};
  }
  std::string target() const override { return std::string(target_string(tier())); }

  std::optional<std::string> refuses_target(std::string_view target) const override {
    const std::string_view here = target_string(tier());
    if (target == here) return std::nullopt;
    for (const Tier lower : {Tier::avx2, Tier::none}) {
      if (lower < tier() && target == target_string(lower)) {
        return fmt::format("the engine was built for {} and kernels here are for {}; build it anew, or set {}={}",
                           target, here, kCpuTierVariable.name, lower == Tier::avx2 ? "avx2" : "none");
      }
    }
    if (tier() < machine_tier() && target == target_string(machine_tier())) {
      return fmt::format("the engine was built for {}, and {} limits kernels to {}; unset it, or build the engine anew",
                         target, kCpuTierVariable.name, here);
    }
    return fmt::format("the engine was built for {}, this processor offers {}; build it anew here", target, here);
  }

  std::string device_name() const override {
    return fmt::format("{}, {} core{}", processor_name(), cpu_count(), cpu_count() == 1 ? "" : "s");
  }
  bool is_host() const override { return true; }

  std::unique_ptr<Stream> make_stream(const StreamOptions& options) const override {
    const int threads = options.num_threads == 0 ? std::min(cpu_count(), 256) : options.num_threads;
    auto stream = std::make_unique<CpuStream>(threads);
    stream->scratch();  // now, and not in the first inference of this thread
    return stream;
  }
  std::unique_ptr<Buffer> allocate(std::size_t bytes) const override { return std::make_unique<HostBuffer>(bytes); }
  void copy_to_device(void* device, const void* host, std::size_t bytes, Stream&) const override {
    if (bytes != 0) std::memcpy(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes, Stream&) const override {
    if (bytes != 0) std::memcpy(host, device, bytes);
  }

  std::vector<Candidate> candidates(const Problem& problem) const override {
    std::vector<Candidate> found;
    if (tier() != Tier::none) {
      for (const CpuTactic* tactic : all_tactics()) {
        if (tactic->op_type != problem.op->type()) continue;
        const std::size_t before = found.size();
        tactic->candidates(problem, found);
        for (std::size_t i = before; i < found.size(); ++i) found[i].tactic = tactic->name;
      }
    }
    found.push_back({.tactic = std::string(kReference), .estimated_us = estimate_reference_us(problem)});
    return found;
  }

  PackedWeights pack(const Problem& problem, const Candidate& candidate) const override {
    if (candidate.tactic == kReference) return {};
    const CpuTactic* tactic = find_tactic(candidate.tactic, problem.op->type());
    ensure(tactic != nullptr, "no CPU tactic '{}' for {}", candidate.tactic, problem.op->type());
    return tactic->pack ? tactic->pack(problem, candidate) : PackedWeights{};
  }

  std::unique_ptr<Kernel> make_kernel(const KernelSpec& spec) const override {
    ensure(spec.op != nullptr, "a kernel was asked for without an operator");
    if (spec.tactic == kReference) {
      require(spec.parameters.empty() && spec.weights.empty(), Code::incompatible_engine,
              "the reference of {} takes no parameters and no weights", spec.op->type());
      return std::make_unique<ReferenceKernel>(spec.op);
    }
    const CpuTactic* tactic = find_tactic(spec.tactic, spec.op->type());
    require(tactic != nullptr, Code::incompatible_engine, "there is no CPU tactic '{}' for {}", spec.tactic,
            spec.op->type());
    require(tier() != Tier::none, Code::incompatible_engine, "tactic '{}' needs AVX2, which this processor lacks",
            spec.tactic);
    return tactic->make(spec);
  }
};

}  // namespace
}  // namespace cpu

const Backend& cpu_backend() {
  static const cpu::CpuBackend backend;
  return backend;
}

}  // namespace tenfold
