// What a backend is: it knows one kind of device, offers tactics for problems, and makes kernels that run.
//
// The builder asks `candidates` for every node (a Problem), times the ones that do not refuse, keeps the best, and
// stores its name, parameters and packed weights in the engine. The runtime calls `make_kernel` with what the file says
// (untrusted: the backend validates it) and runs the kernel on a Stream. Nothing here says where memory lies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/weight_panels.hpp"
#include "graph/graph.hpp"

namespace tenfold {

/// An order of work on a device. Kernels enqueued on one stream run one after the other.
class Stream {
 public:
  virtual ~Stream() = default;
  /// Waits until everything enqueued has finished. Throws Error(device_failure) if it failed.
  virtual void synchronize() = 0;

  /// On the host: how many threads share a kernel's work.
  virtual int num_threads() const { return 1; }
  /// A stream for the kernels of one thread, used inside `run_lanes` only. nullptr: the backend has none.
  virtual std::unique_ptr<Stream> make_lane() const { return nullptr; }
  /// Calls f(i) once for each lane, as many at once as there are threads; returns when all are done. f(i) may enqueue
  /// on lanes[i] and must not throw. At most num_threads() lanes, all of them this stream's.
  virtual void run_lanes(std::span<const std::unique_ptr<Stream>> lanes, const std::function<void(int lane)>& f) {
    for (std::size_t i = 0; i < lanes.size(); ++i) f(static_cast<int>(i));
  }
};

/// Memory of a device. Freed with the object.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() = 0;  ///< address on the device, aligned to 64 bytes
  virtual std::size_t size_bytes() const = 0;
};

/// A sequence of launches recorded once and replayed as a whole.
class CapturedGraph {
 public:
  virtual ~CapturedGraph() = default;
  virtual void replay(Stream& stream) = 0;
  /// Replays and waits; what it took on the device, in microseconds.
  virtual double replay_timed(Stream& stream) = 0;
};

/// The operands of one run.
struct Launch {
  /// In the operator's order. An omitted operand, and a constant that lives in the kernel's packed weights, has no
  /// data.
  std::span<const TensorView> inputs;
  std::span<const TensorView> outputs;
  /// At least workspace_bytes(...) for these shapes, 64-byte aligned, contents undefined.
  std::span<std::byte> workspace;
  Stream* stream = nullptr;
  /// On a device: the contents of input i on the host where the runtime knows them (constants, sizes), else nullptr.
  /// May be shorter than `inputs`. On the host it is empty: `inputs` says all.
  std::span<const void* const> host_inputs;
  /// For operators that set their output's shape: gives output `index` the dims; returns the view to write to.
  std::function<const TensorView&(int index, const Shape& dims)>* resize = nullptr;
  /// On the host: what the step reads that is expected to read weights next. Only a hint.
  WeightPanels next_weights;
};

/// A compiled step. Immutable and shared by all contexts of an engine; `run` is thread-safe with distinct operands.
class Kernel {
 public:
  virtual ~Kernel() = default;
  /// Scratch memory for these operand shapes. Never decreases when a dimension grows.
  virtual std::size_t workspace_bytes(std::span<const TensorView> inputs, std::span<const TensorView> outputs) const {
    (void)inputs, (void)outputs;
    return 0;
  }
  /// Enqueues. Neither allocates nor throws, except when the device fails.
  virtual void run(const Launch& launch) const = 0;
  /// May input `index` / output `index` be a view with a pitch larger than its last dimension?
  virtual bool accepts_pitched_input(int index) const {
    (void)index;
    return false;
  }
  virtual bool accepts_pitched_output(int index) const {
    (void)index;
    return false;
  }
  /// On the host: the weights that a thread waits for when it begins, for Launch::next_weights of the steps before.
  virtual WeightPanels first_weights() const { return {}; }
  /// What the start and the pitch of a pitched input must be multiples of.
  virtual std::int64_t pitched_input_alignment() const { return 1; }
  /// May output 0 share its memory with input `index` (same shape, last reader)?
  virtual bool can_run_in_place(int index) const {
    (void)index;
    return false;
  }
};

/// Libraries of a device's maker whose kernels may stand beside our own. An engine that uses one needs it to run.
struct LibraryTactics {
  bool cublas_lt = false;
  bool cudnn = false;
};

/// A node to be run: the operator with its operands.
struct Problem {
  OpPtr op;
  std::vector<TensorType> inputs;        ///< dtype undefined: omitted
  std::vector<TensorType> outputs;       ///< dtype undefined: not wanted
  std::vector<const Tensor*> constants;  ///< per input; nullptr: computed at run time
  std::vector<Shape> input_shapes;       ///< at the profile's optimum, where tactics are timed
  std::vector<Shape> output_shapes;
  bool strict = false;        ///< refuse tactics that reorder arithmetic beyond plain summation (Winograd, Strassen)
  bool half_weights = false;  ///< weights are to be stored as float16: refuse what stores more for a small gain
  bool tf32 = false;          ///< products of float32 may round their operands to 11 bits
  bool bf16 = false;          ///< factors of products may be rounded to bfloat16
  LibraryTactics libraries;   ///< offered only when asked for
};

/// A tactic's answer to a problem.
struct Candidate {
  std::string tactic;                    ///< "conv.direct", "gemm.packed" ...; stored in the engine
  std::vector<std::int64_t> parameters;  ///< tile sizes and the like; stored in the engine
  std::string refusal;                   ///< why it cannot; empty if it can
  double estimated_us = 0;               ///< roofline model's guess, for the shortlist; 0: no idea
  /// What a measured time is multiplied by before candidates are compared: above 1 where a good measurement may not
  /// last, because what the kernel runs on is shared, or slowed down at times.
  double caution = 1;
};

/// Constants as a kernel wants them.
struct PackedWeights {
  std::vector<std::vector<std::byte>> blobs;
  std::vector<int> consumed_inputs;  ///< constant inputs that the kernel no longer needs in their plain form
};

/// What the engine file says about a step. `make_kernel` believes none of it without a check.
struct KernelSpec {
  OpPtr op;
  std::string tactic;
  std::vector<std::int64_t> parameters;
  std::vector<TensorType> inputs;
  std::vector<TensorType> outputs;
  /// Mapped from the file, 64-byte aligned; outlives the kernel.
  std::vector<std::span<const std::byte>> weights;
  /// Where they lie on a device, one each; outlives the kernel. Empty on the host.
  std::vector<const void*> device_weights;
  /// What `device_code` gave for this spec when the engine was built, from a trusted file; empty: it is made anew.
  std::span<const std::byte> code;
};

/// What a compiler says of one entry of a kernel's machine code.
struct CodeFacts {
  std::string entry;
  int registers = 0;                                         ///< of a thread
  std::int64_t shared_bytes = 0;                             ///< of a block, those asked for at launch not counted
  std::int64_t stack_bytes = 0;                              ///< of a thread
  std::int64_t spill_store_bytes = 0, spill_load_bytes = 0;  ///< in the code, whatever runs how often
};

struct StreamOptions {
  int num_threads = 0;  ///< CPU: 0 takes all cores this process may use
};

/// What a backend has kernels for beyond the graphs that every backend gets; passes make such nodes only for it.
struct Abilities {
  bool norm_epilogues = false;    ///< GroupNormalization with an epilogue
  bool integer_products = false;  ///< Conv and MatMul of 8-bit integers with an epilogue
  bool float8_products = false;   ///< Conv and MatMul of float8e4m3 with an epilogue
  bool bf16 = false;              ///< products of factors rounded to bfloat16
  bool bf16_values = false;       ///< and fast ones of values that are stored as bfloat16
  bool zero_points = false;       ///< and with a zero point of their input, and fast epilogues that round twice
  bool merged_products = false;   ///< GatedMatMul, FusedAttention of layout flat; it and products read parts of rows
  bool conv_max_pools = false;    ///< ConvMaxPool
  bool conv_pairs = false;        ///< ConvPair
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual Abilities abilities() const { return {}; }
  virtual std::string_view name() const = 0;  ///< "cpu", "cuda"
  /// What a kernel of this backend needs to run, and what the engine is locked to: "x86-64 avx2", "sm_90".
  virtual std::string target() const = 0;
  /// May an engine built for `target` run here? A reason if not.
  virtual std::optional<std::string> refuses_target(std::string_view target) const = 0;
  /// The device in words, for reports and timing-cache keys: processor model, cores.
  virtual std::string device_name() const = 0;
  /// Is its memory host memory? Then inputs and outputs are used in place.
  virtual bool is_host() const = 0;
  /// What the address of an operand that is no pitched view must be a multiple of, in bytes.
  virtual std::int64_t operand_alignment() const { return 1; }

  virtual std::unique_ptr<Stream> make_stream(const StreamOptions& options) const = 0;
  /// Throws Error(out_of_memory) saying how much was asked for.
  virtual std::unique_ptr<Buffer> allocate(std::size_t bytes) const = 0;
  virtual void copy_to_device(void* device, const void* host, std::size_t bytes, Stream& stream) const = 0;
  virtual void copy_to_host(void* host, const void* device, std::size_t bytes, Stream& stream) const = 0;
  /// A caller's stream (CUDA: a CUstream or cudaStream_t), which must outlive the result. Throws Error(unsupported).
  virtual std::unique_ptr<Stream> wrap_stream(void* native) const;
  /// Host memory that the device copies from and to at full speed and without blocking the caller.
  virtual std::unique_ptr<Buffer> allocate_staging(std::size_t bytes) const { return allocate(bytes); }
  virtual void copy_on_device(void* to, const void* from, std::size_t bytes, Stream& stream) const;
  /// Does this address belong to the device, so that its kernels can use it in place?
  virtual bool is_device_address(const void* address) const { return (void)address, is_host(); }
  /// nullptr if this backend cannot capture.
  virtual std::unique_ptr<CapturedGraph> capture(Stream& stream, const std::function<void()>& enqueue) const {
    (void)stream, (void)enqueue;
    return nullptr;
  }

  /// All tactics that know this operator, those that refuse included. Empty: the operator cannot run here.
  virtual std::vector<Candidate> candidates(const Problem& problem) const = 0;
  virtual PackedWeights pack(const Problem& problem, const Candidate& candidate) const = 0;
  /// Machine code that `make_kernel` will need for this spec; empty: none. Engines embed it.
  virtual std::vector<std::byte> device_code(const KernelSpec& spec) const {
    return (void)spec, std::vector<std::byte>{};
  }
  /// Compiles what `make_kernel` would need, whether it is known or not, and says what came of it. Empty: nothing is
  /// compiled for this spec. Needs no device. Throws Error(unsupported) without a compiler.
  virtual std::vector<CodeFacts> examine_code(const KernelSpec& spec) const {
    return (void)spec, std::vector<CodeFacts>{};
  }
  /// May be called before `make_kernel` for many specs at once, to compile what they need in parallel.
  virtual void prepare(std::span<const KernelSpec> specs) const { (void)specs; }
  /// Throws Error(incompatible_engine) when the spec does not hold together: unknown tactic, parameters outside the
  /// legal box, weights of the wrong size.
  virtual std::unique_ptr<Kernel> make_kernel(const KernelSpec& spec) const = 0;
};

/// The embedded CPU backend; lives as long as the process.
const Backend& cpu_backend();

/// "cpu", "cuda" (device 0), "cuda:1", or "cuda:h100": what can be said without a device. Lives as long as the process.
/// Others than the CPU's are libraries of their own, libtenfold_cuda.so, opened on first use: beside this library or
/// program, in ../lib, or in TENFOLD_BACKEND_PATH.
/// Throws Error(invalid_argument) for a name that nobody has, Error(unsupported) when the library is not there or is of
/// another version, and whatever the backend itself says: no driver, no device.
const Backend& find_backend(std::string_view device);

}  // namespace tenfold
