// The CUDA backend: finds the tactics in tactics.inc, compiles and loads their modules, owns device memory and streams.
//
// All work of a process on one device happens in the device's primary context, which PyTorch and the CUDA runtime use
// too, so pointers and streams can be exchanged with them.
#include "backend/cuda/cuda_backend.hpp"

#include <algorithm>
#include <map>
#include <mutex>

#include "backend/cuda/cubin.hpp"
#include "backend/cuda/ptxas_log.hpp"
#include "backend/cuda/vendor_library.hpp"
#include "base/all_cores.hpp"
#include "base/hash.hpp"
#include "base/log.hpp"
#include "ops/conv.hpp"

namespace tenfold::cuda {
namespace {

constexpr int kOldestSm = 80;

std::string target_name(int sm) { return fmt::format("sm_{}", sm); }

void make_current(CUcontext context) { check(driver().set_context(context), "making the device current"); }

class DeviceBuffer final : public Buffer {
 public:
  DeviceBuffer(CUcontext context, std::size_t bytes) : context_(context), size_(bytes) {
    make_current(context);
    CUdeviceptr address = 0;
    const CUresult result = driver().allocate(&address, std::max<std::size_t>(bytes, 1));
    if (result == kErrorOutOfMemory) {
      std::size_t available = 0;
      std::size_t total = 0;
      driver().memory_info(&available, &total);
      throw Error(Code::out_of_memory, fmt::format("{} bytes of device memory were asked for, but {} of {} are free",
                                                   bytes, available, total));
    }
    check(result, "allocating device memory");
    address_ = reinterpret_cast<void*>(address);
  }
  ~DeviceBuffer() override {
    driver().set_context(context_);
    driver().release(reinterpret_cast<CUdeviceptr>(address_));
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  void* data() override { return address_; }
  std::size_t size_bytes() const override { return size_; }

 private:
  CUcontext context_;
  void* address_ = nullptr;
  std::size_t size_;
};

/// Page-locked host memory.
class PinnedBuffer final : public Buffer {
 public:
  PinnedBuffer(CUcontext context, std::size_t bytes) : context_(context), size_(bytes) {
    make_current(context);
    const CUresult result = driver().allocate_pinned(&address_, std::max<std::size_t>(bytes, 1), 0);
    require(result != kErrorOutOfMemory, Code::out_of_memory, "{} bytes of page-locked memory are not there", bytes);
    check(result, "allocating page-locked memory");
  }
  ~PinnedBuffer() override {
    driver().set_context(context_);
    driver().release_pinned(address_);
  }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  void* data() override { return address_; }
  std::size_t size_bytes() const override { return size_; }

 private:
  CUcontext context_;
  void* address_ = nullptr;
  std::size_t size_;
};

class Event {
 public:
  Event() { check(driver().event_create(&handle_, 0), "creating an event"); }
  ~Event() { driver().event_destroy(handle_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(CUstream stream) { check(driver().event_record(handle_, stream), "recording an event"); }
  double us_since(const Event& start) {
    check(driver().event_synchronize(handle_), "waiting for the device");
    float ms = 0;
    check(driver().event_elapsed(&ms, start.handle_, handle_), "reading the time");
    constexpr double kUsPerMs = 1000;
    return ms * kUsPerMs;
  }

 private:
  CUevent handle_ = nullptr;
};

class GraphExec final : public CapturedGraph {
 public:
  GraphExec(CUcontext context, CUgraph graph) : context_(context) {
    const CUresult result = driver().graph_instantiate(&handle_, graph, 0);
    driver().graph_destroy(graph);
    check(result, "making a captured run executable");
  }
  ~GraphExec() override {
    driver().set_context(context_);
    driver().graph_exec_destroy(handle_);
  }
  GraphExec(const GraphExec&) = delete;
  GraphExec& operator=(const GraphExec&) = delete;
  void replay(Stream& stream) override {
    auto& cuda = static_cast<CudaStream&>(stream);
    cuda.make_current();
    check(driver().graph_launch(handle_, cuda.handle()), "launching a captured run");
  }
  double replay_timed(Stream& stream) override {
    auto& cuda = static_cast<CudaStream&>(stream);
    cuda.make_current();
    if (!start_) {
      start_ = std::make_unique<Event>();
      end_ = std::make_unique<Event>();
    }
    start_->record(cuda.handle());
    replay(stream);
    end_->record(cuda.handle());
    return end_->us_since(*start_);
  }

 private:
  CUcontext context_;
  CUgraphExec handle_ = nullptr;
  std::unique_ptr<Event> start_, end_;
};

/// Machine code in the device; shared by all kernels that were made from equal code.
class Module {
 public:
  Module(CUcontext context, std::span<const std::byte> code) : context_(context) {
    make_current(context);
    const CUresult result = driver().module_load(&handle_, code.data());
    require(result == kSuccess, result == kErrorOutOfMemory ? Code::out_of_memory : Code::incompatible_engine,
            "the driver does not load {} bytes of machine code: {}", code.size(), describe(result));
  }
  ~Module() {
    driver().set_context(context_);
    driver().module_unload(handle_);
  }
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  CUmodule handle() const { return handle_; }
  CUcontext context() const { return context_; }

 private:
  CUcontext context_;
  CUmodule handle_ = nullptr;
};

class ModuleView final : public LoadedModule {
 public:
  ModuleView(std::shared_ptr<const Module> module, const KernelSpec& spec, const DeviceTraits& traits)
      : module_(std::move(module)), spec_(spec), traits_(traits) {}

  Function function(std::string_view entry) const override {
    ensure(module_ != nullptr, "tactic '{}' has no module, but asks for '{}'", spec_.tactic, entry);
    make_current(module_->context());
    CUfunction handle = nullptr;
    const CUresult result = driver().module_function(&handle, module_->handle(), std::string(entry).c_str());
    require(result == kSuccess, Code::incompatible_engine, "the code of tactic '{}' has no kernel '{}': {}",
            spec_.tactic, entry, describe(result));
    int fixed_bytes = 0;
    check(driver().function_attribute(&fixed_bytes, kFunctionSharedBytes, handle), "asking about a kernel");
    const int dynamic_bytes = static_cast<int>(traits_.smem_optin_bytes) - fixed_bytes;
    check(driver().set_function_attribute(handle, kFunctionMaxDynamicSharedBytes, dynamic_bytes),
          "raising a kernel's limit of shared memory");
    return {handle, module_};
  }
  const void* weight(std::size_t index) const override {
    ensure(index < spec_.device_weights.size(), "tactic '{}': packed weight {} is not on the device", spec_.tactic,
           index);
    return spec_.device_weights[index];
  }
  const DeviceTraits& traits() const override { return traits_; }

 private:
  std::shared_ptr<const Module> module_;
  const KernelSpec& spec_;
  const DeviceTraits& traits_;
};

bool is_asked_for(VendorLibrary library, const LibraryTactics& libraries) {
  return library == VendorLibrary::none || (library == VendorLibrary::cublas_lt && libraries.cublas_lt) ||
         (library == VendorLibrary::cudnn && libraries.cudnn);
}

/// Passes make such products only for backends with Abilities::zero_points.
bool has_zero_point(const Op& op, std::span<const TensorType> inputs) {
  if (op.type() == "Conv" && inputs.size() > 2 && Conv::is_zero_point(inputs[0].dtype, inputs[2].dtype)) return true;
  return (op.type() == "Conv" || op.type() == "MatMul") && op.attributes().get_int("zero_point", 0) != 0;
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(CUcontext context, DeviceTraits traits) : context_(context), traits_(std::move(traits)) {}

  std::string_view name() const override { return "cuda"; }
  Abilities abilities() const override {
    // Without tensor cores for them nothing is gained by merging, and gated products have no kernel.
    return {.norm_epilogues = true,
            .integer_products = true,
            .float8_products = traits_.sm >= kFloat8Sm,
            .merged_products = traits_.sm == 90,
            .conv_max_pools = traits_.sm == 90,
            .conv_pairs = traits_.sm == 90};
  }
  std::string target() const override { return target_name(traits_.sm); }
  std::optional<std::string> refuses_target(std::string_view target) const override {
    if (target == this->target()) return std::nullopt;
    return fmt::format("the engine was built for {}, this GPU ({}) is {}; build it anew for this one", target,
                       traits_.name, this->target());
  }
  std::string device_name() const override {
    return fmt::format("{}, {} multiprocessors", traits_.name, traits_.num_sms);
  }
  bool is_host() const override { return false; }
  std::int64_t operand_alignment() const override { return 16; }  // vectors, asynchronous copies, tensor maps

  std::unique_ptr<Stream> make_stream(const StreamOptions& /*options*/) const override {
    need_device();
    make_current(context_);
    CUstream handle = nullptr;
    constexpr unsigned kNonBlocking = 1;
    check(driver().stream_create(&handle, kNonBlocking), "creating a stream");
    return std::make_unique<CudaStream>(context_, handle, true, has_pdl());
  }
  std::unique_ptr<Stream> wrap_stream(void* native) const override {
    need_device();
    return std::make_unique<CudaStream>(context_, static_cast<CUstream>(native), false, has_pdl());
  }
  std::unique_ptr<Buffer> allocate(std::size_t bytes) const override {
    need_device();
    return std::make_unique<DeviceBuffer>(context_, bytes);
  }
  std::unique_ptr<Buffer> allocate_staging(std::size_t bytes) const override {
    need_device();
    return std::make_unique<PinnedBuffer>(context_, bytes);
  }
  void copy_to_device(void* device, const void* host, std::size_t bytes, Stream& stream) const override {
    if (bytes == 0) return;
    make_current(context_);
    check(driver().copy_to_device(reinterpret_cast<CUdeviceptr>(device), host, bytes,
                                  static_cast<CudaStream&>(stream).handle()),
          "copying to the device");
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes, Stream& stream) const override {
    if (bytes == 0) return;
    make_current(context_);
    check(driver().copy_to_host(host, reinterpret_cast<CUdeviceptr>(device), bytes,
                                static_cast<CudaStream&>(stream).handle()),
          "copying from the device");
  }
  void copy_on_device(void* to, const void* from, std::size_t bytes, Stream& stream) const override {
    static_cast<CudaStream&>(stream).copy(to, from, bytes);
  }
  bool is_device_address(const void* address) const override {
    need_device();
    make_current(context_);
    constexpr int kMemoryType = 2;
    constexpr unsigned kOnDevice = 2;
    unsigned type = 0;
    const CUresult result = driver().pointer_attribute(&type, kMemoryType, reinterpret_cast<CUdeviceptr>(address));
    return result == kSuccess && type == kOnDevice;  // plain host memory is unknown to the driver: an error
  }

  std::unique_ptr<CapturedGraph> capture(Stream& stream, const std::function<void()>& enqueue) const override {
    auto& cuda = static_cast<CudaStream&>(stream);
    cuda.make_current();
    constexpr int kThreadLocal = 1;
    check(driver().begin_capture(cuda.handle(), kThreadLocal), "beginning to capture a run");
    CUgraph graph = nullptr;
    try {
      enqueue();
    } catch (...) {
      if (driver().end_capture(cuda.handle(), &graph) == kSuccess && graph != nullptr) driver().graph_destroy(graph);
      throw;
    }
    check(driver().end_capture(cuda.handle(), &graph), "ending the capture of a run");
    return std::make_unique<GraphExec>(context_, graph);
  }

  std::vector<Candidate> candidates(const Problem& problem) const override {
    std::vector<Candidate> result;
    if (context_ != nullptr) require_libraries(problem.libraries);
    for (const CudaTactic* tactic : all_tactics()) {
      if (tactic->op_type != problem.op->type() || !is_asked_for(tactic->library, problem.libraries)) continue;
      const std::size_t first = result.size();
      if (tactic->library != VendorLibrary::none && context_ == nullptr) {
        result.push_back({.refusal = fmt::format("{} answers on a device only, and this {} is a description",
                                                 name_of(tactic->library), traits_.name)});
      } else if (has_zero_point(*problem.op, problem.inputs)) {
        result.push_back({.refusal = "products with a zero point have no kernel here"});
      } else {
        tactic->candidates(problem, traits_, result);
      }
      for (std::size_t i = first; i < result.size(); ++i) result[i].tactic = std::string(tactic->name);
    }
    return result;
  }
  PackedWeights pack(const Problem& problem, const Candidate& candidate) const override {
    const CudaTactic& tactic = tactic_of(candidate.tactic, *problem.op);
    return tactic.pack != nullptr ? tactic.pack(problem, candidate) : PackedWeights{};
  }
  std::vector<std::byte> device_code(const KernelSpec& spec) const override {
    const CudaTactic& tactic = tactic_of(spec.tactic, *spec.op);
    if (tactic.source == nullptr) return {};
    return *cached_cubin(tactic.source(spec, traits_), traits_.sm);
  }
  std::vector<CodeFacts> examine_code(const KernelSpec& spec) const override {
    const CudaTactic& tactic = tactic_of(spec.tactic, *spec.op);
    if (tactic.source == nullptr) return {};
    const PtxasReport report = read_ptxas_log(compiled_cubin(tactic.source(spec, traits_), traits_.sm)->log);
    if (!report.serialised.empty()) {
      log(LogLevel::warning, "tactic '{}' ({}): {}", spec.tactic, fmt::join(spec.parameters, ", "),
          fmt::join(report.serialised, "; "));
    }
    return report.entries;
  }
  void prepare(std::span<const KernelSpec> specs) const override {
    std::map<Hash128, Source> sources;  // equal texts once
    for (const KernelSpec& spec : specs) {
      const CudaTactic& tactic = tactic_of(spec.tactic, *spec.op);
      if (tactic.source == nullptr) continue;
      Source source = tactic.source(spec, traits_);
      sources.try_emplace(hash128(std::as_bytes(std::span(source.text))), std::move(source));
    }
    std::vector<const Source*> work;
    for (const auto& [hash, source] : sources) work.push_back(&source);
    run_on_all_cores(work.size(), [&](std::size_t i) {
      try {
        cached_cubin(*work[i], traits_.sm);
      } catch (const Error&) {  // NOLINT(bugprone-empty-catch): make_kernel meets it again and says where
      }
    });
  }
  std::unique_ptr<Kernel> make_kernel(const KernelSpec& spec) const override {
    need_device();
    const CudaTactic& tactic = tactic_of(spec.tactic, *spec.op);
    require(!has_zero_point(*spec.op, spec.inputs), Code::incompatible_engine, "tactic '{}' takes no zero point",
            spec.tactic);
    ensure(spec.device_weights.size() == spec.weights.size(),
           "tactic '{}': {} packed weights, {} of them on the device", spec.tactic, spec.weights.size(),
           spec.device_weights.size());
    std::shared_ptr<const Module> module;
    if (tactic.source != nullptr) {
      if (spec.code.empty()) {
        module = load(*cached_cubin(tactic.source(spec, traits_), traits_.sm));
      } else {
        module = load(spec.code);
      }
    }
    make_current(context_);  // libraries have a handle for each context
    return tactic.make(spec, ModuleView(module, spec, traits_));
  }

 private:
  /// A library that was asked for and is not here ends the build, whatever the problem. Throws Error(unsupported).
  void require_libraries(const LibraryTactics& libraries) const {
    if (libraries.cublas_lt) vendor_version(VendorLibrary::cublas_lt);
    if (libraries.cudnn) vendor_version(VendorLibrary::cudnn);
    if (libraries.cublas_lt || libraries.cudnn) make_current(context_);
  }
  void need_device() const {
    require(context_ != nullptr, Code::device_failure, "this backend describes a {} but has no device", traits_.name);
  }
  bool has_pdl() const {
    constexpr int kHopper = 90;
    return traits_.sm >= kHopper;
  }
  static const CudaTactic& tactic_of(std::string_view name, const Op& op) {
    const CudaTactic* tactic = find_tactic(name, op.type());
    require(tactic != nullptr, Code::incompatible_engine, "tactic '{}' for {} is not known to the CUDA backend", name,
            op.type());
    return *tactic;
  }
  std::shared_ptr<const Module> load(std::span<const std::byte> code) const {
    const std::lock_guard lock(mutex_);
    std::weak_ptr<const Module>& known = modules_[hash128(code)];
    std::shared_ptr<const Module> module = known.lock();
    if (module == nullptr) {
      module = std::make_shared<const Module>(context_, code);
      known = module;
    }
    return module;
  }

  CUcontext context_;  // nullptr: no device
  DeviceTraits traits_;
  mutable std::mutex mutex_;
  mutable std::map<Hash128, std::weak_ptr<const Module>> modules_;
};

DeviceTraits traits_of(CUdevice device) {
  const DriverApi& api = driver();
  const auto attribute = [&](int id) {
    int value = 0;
    check(api.device_attribute(&value, id, device), "asking about the device");
    return value;
  };
  // CUdevice_attribute
  constexpr int kClockKhz = 13, kNumSms = 16, kMemoryClockKhz = 36, kBusBits = 37, kL2Bytes = 38, kMajor = 75,
                kMinor = 76, kSharedOptin = 97;
  DeviceTraits traits;
  std::array<char, 256> name{};
  check(api.device_name(name.data(), static_cast<int>(name.size()), device), "asking for the device's name");
  traits.name = name.data();
  traits.sm = 10 * attribute(kMajor) + attribute(kMinor);
  traits.num_sms = attribute(kNumSms);
  traits.smem_optin_bytes = static_cast<std::size_t>(attribute(kSharedOptin));
  traits.l2_bytes = static_cast<std::size_t>(attribute(kL2Bytes));
  check(api.device_memory(&traits.memory_bytes, device), "asking for the device's memory");
  traits.clock_ghz = attribute(kClockKhz) * 1e-6;
  constexpr double kTransfersPerClock = 2, kBitsPerByte = 8;
  traits.bandwidth_gb_s = kTransfersPerClock * attribute(kMemoryClockKhz) * 1e-6 * attribute(kBusBits) / kBitsPerByte;
  return traits;
}

}  // namespace

std::span<const CudaTactic* const> all_tactics() {
  static constexpr auto kAll = std::to_array<const CudaTactic*>({
#define TENFOLD_CUDA_TACTIC(name) &name,
#include "backend/cuda/tactics.inc"
#undef TENFOLD_CUDA_TACTIC
  });
  return kAll;
}

const CudaTactic* find_tactic(std::string_view name, std::string_view op_type) {
  for (const CudaTactic* tactic : all_tactics()) {
    if (tactic->name == name && tactic->op_type == op_type) return tactic;
  }
  return nullptr;
}

DeviceTraits preset_traits(std::string_view name) {
  constexpr std::size_t kKiB = 1024;
  constexpr std::size_t kMiB = kKiB * kKiB;
  constexpr std::size_t kGiB = kKiB * kMiB;
  // From the data sheets and the occupancy tables of the CUDA C++ Programming Guide.
  if (name == "h100") return {"NVIDIA H100 80GB HBM3", 90, 132, 227 * kKiB, 50 * kMiB, 80 * kGiB, 1.98, 3352};
  if (name == "a100") return {"NVIDIA A100-SXM4-80GB", 80, 108, 163 * kKiB, 40 * kMiB, 80 * kGiB, 1.41, 2039};
  if (name == "l4") return {"NVIDIA L4", 89, 58, 99 * kKiB, 48 * kMiB, 24 * kGiB, 2.04, 300};
  throw Error(Code::invalid_argument, fmt::format("there is no preset '{}'; known are h100, a100 and l4", name));
}

std::unique_ptr<Backend> make_cuda_backend(int device) {
  const DriverApi& api = driver();
  int count = 0;
  check(api.device_count(&count), "counting devices");
  require(device >= 0 && device < count, Code::device_failure,
          "there is no GPU number {}; the driver sees {}, numbered from 0", device, count);
  CUdevice handle = 0;
  check(api.device_get(&handle, device), "opening the device");
  DeviceTraits traits = traits_of(handle);
  require(traits.sm >= kOldestSm, Code::device_failure, "GPU {} ({}) is {}; kernels exist from {} on", device,
          traits.name, target_name(traits.sm), target_name(kOldestSm));
  CUcontext context = nullptr;
  check(api.retain_context(&context, handle), "starting the device");
  return std::make_unique<CudaBackend>(context, std::move(traits));
}

std::unique_ptr<Backend> make_offline_backend(DeviceTraits traits) {
  return std::make_unique<CudaBackend>(nullptr, std::move(traits));
}

}  // namespace tenfold::cuda
