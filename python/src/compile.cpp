// Compiling: options come in as Python objects, callbacks run in Python, and a build can be interrupted.
#include <chrono>
#include <exception>
#include <functional>

#include "bindings.hpp"

namespace tenfold::python {
namespace {

/// Calls back while a build runs without the GIL. What Python raises, Ctrl-C included, cancels the build; `rethrow`
/// then raises it in the caller.
class Watcher {
 public:
  explicit Watcher(nb::object progress) : progress_(std::move(progress)) {}

  void install(CompileOptions& options) {
    if (!progress_.is_none()) {
      options.on_progress = [this](const CompileProgress& now) { report(now); };
    }
    options.is_cancelled = [this] { return is_cancelled(); };
  }
  void rethrow() const {
    if (raised_) std::rethrow_exception(raised_);
  }

 private:
  void report(const CompileProgress& now) {
    if (is_cancelled_) return;
    const HeldGil gil;
    try {
      const nb::object remaining =
          now.remaining_seconds < 0 ? nb::none() : nb::object(nb::float_(now.remaining_seconds));
      const nb::object answer = progress_(now.phase, now.item, now.fraction, remaining);
      is_cancelled_ = answer.is(nb::borrow(Py_False));
    } catch (...) {
      raised_ = std::current_exception();
      is_cancelled_ = true;
    }
  }
  bool is_cancelled() {
    if (is_cancelled_) return true;
    // Asked for often, and taking the GIL takes time from other threads.
    constexpr std::chrono::milliseconds kInterval{20};
    const auto now = std::chrono::steady_clock::now();
    if (now < next_look_) return false;
    next_look_ = now + kInterval;
    const HeldGil gil;
    if (PyErr_CheckSignals() == 0) return false;
    try {
      throw nb::python_error();
    } catch (...) {
      raised_ = std::current_exception();
    }
    is_cancelled_ = true;
    return true;
  }

  nb::object progress_;
  std::exception_ptr raised_;
  bool is_cancelled_ = false;
  std::chrono::steady_clock::time_point next_look_{};
};

ShapeRange to_range(nb::handle given, const std::string& input) {
  const std::string what = "profile of input '" + input + "'";
  if (!nb::isinstance<nb::tuple>(given) && !nb::isinstance<nb::list>(given)) {
    fail(Code::invalid_argument, what, ": (min, opt, max) was expected");
  }
  if (nb::len(given) != 3) fail(Code::invalid_argument, what, ": three shapes (min, opt, max) were expected");
  return {to_dims(given[0], what), to_dims(given[1], what), to_dims(given[2], what)};
}

struct CompileResult {
  nb::object engine;
  CompileSummary summary;
};

CompileOptions to_options(const nb::list& profiles, std::uint64_t workspace_bytes, int num_threads, int opt_level,
                          bool strict, bool portable, const nb::object& timing_cache,
                          const nb::object& timing_cache_path, const std::vector<std::string>& disabled_rules,
                          const std::vector<std::string>& extra_outputs) {
  CompileOptions options;
  for (nb::handle profile : profiles) {
    if (!nb::isinstance<nb::dict>(profile)) {
      fail(Code::invalid_argument, "profiles: each one is a dict of (min, opt, max) by input name");
    }
    auto& ranges = options.profiles.emplace_back();
    for (const auto [key, value] : nb::borrow<nb::dict>(profile)) {
      const std::string name = nb::cast<std::string>(nb::str(key));
      ranges[name] = to_range(value, name);
    }
  }
  if (opt_level < 0 || opt_level > 5) {
    fail(Code::invalid_argument, "opt_level is ", std::to_string(opt_level), "; 0 .. 5 are possible");
  }
  if (num_threads < 0 || num_threads > 256) {
    fail(Code::invalid_argument, "num_threads is ", std::to_string(num_threads), "; 0 .. 256 are possible");
  }
  options.workspace_bytes = workspace_bytes;
  options.num_threads = num_threads;
  options.opt_level = opt_level;
  options.strict = strict;
  options.portable = portable;
  if (!timing_cache.is_none()) {
    const Array bytes(timing_cache, "timing_cache", DType::undefined, false);
    options.timing_cache.emplace(static_cast<const char*>(bytes.data()), bytes.size_bytes());
  }
  if (!timing_cache_path.is_none()) options.timing_cache_path = to_path(timing_cache_path, "timing_cache_path");
  options.disabled_rules = disabled_rules;
  options.extra_outputs = extra_outputs;
  return options;
}

CompileResult run_compiler(CompileOptions options, const nb::object& progress,
                           const std::function<std::vector<std::byte>(const CompileOptions&, CompileSummary*)>& work) {
  Watcher watcher(progress);
  watcher.install(options);
  CompileResult result;
  std::vector<std::byte> engine;
  try {
    const ReleasedGil release;
    engine = work(options, &result.summary);
  } catch (const Error& error) {
    if (error.code() == Code::cancelled) watcher.rethrow();
    throw;
  }
  watcher.rethrow();  // raised too late to stop it
  result.engine = nb::bytes(engine.data(), engine.size());
  return result;
}

CompileResult compile_model(const nb::object& model, const nb::list& profiles, std::uint64_t workspace_bytes,
                            int num_threads, int opt_level, bool strict, bool portable, const nb::object& timing_cache,
                            const nb::object& timing_cache_path, const std::vector<std::string>& disabled_rules,
                            const std::vector<std::string>& extra_outputs, const nb::object& progress,
                            const std::string& name, const std::string& device, bool allow_host, bool fp16, bool bf16,
                            bool tf32, const std::vector<std::string>& tactic_sources,
                            const std::vector<std::string>& keep_float32,
                            const std::map<std::string, std::string>& metadata) {
  CompileOptions options = to_options(profiles, workspace_bytes, num_threads, opt_level, strict, portable, timing_cache,
                                      timing_cache_path, disabled_rules, extra_outputs);
  options.device = device;
  options.allow_host = allow_host;
  options.fp16 = fp16;
  options.tf32 = tf32;
  options.bf16 = bf16;
  options.tactic_sources = tactic_sources;
  options.keep_float32 = keep_float32;
  options.metadata = metadata;
  if (nb::isinstance<Network>(model)) {
    // A copy: other threads may change the network meanwhile.
    const Network network = nb::cast<const Network&>(model);
    return run_compiler(std::move(options), progress, [&](const CompileOptions& o, CompileSummary* summary) {
      return compile(network, name, o, summary);
    });
  }
  if (is_path(model)) {
    const std::string path = to_path(model, "model");
    return run_compiler(std::move(options), progress, [&](const CompileOptions& o, CompileSummary* summary) {
      return compile_file(path, o, summary);
    });
  }
  const Array bytes(model, "model", DType::undefined, false);
  const std::span<const std::byte> view(static_cast<const std::byte*>(bytes.data()), bytes.size_bytes());
  return run_compiler(std::move(options), progress,
                      [&](const CompileOptions& o, CompileSummary* summary) { return compile(view, o, summary); });
}

}  // namespace

void bind_compile(nb::module_& module) {
  nb::class_<CompileResult>(module, "CompileResult", "What a build made.")
      .def_prop_ro(
          "engine", [](const CompileResult& r) { return r.engine; }, nb::sig("def engine(self) -> bytes"),
          "The engine file.")
      .def_prop_ro("warnings", [](const CompileResult& r) { return r.summary.warnings; })
      .def_prop_ro(
          "timing_cache",
          [](const CompileResult& r) {
            return nb::bytes(r.summary.timing_cache.data(), r.summary.timing_cache.size());
          },
          "What the cache that was given has become; empty if none was.")
      .def_prop_ro("model_nodes", [](const CompileResult& r) { return r.summary.model_nodes; })
      .def_prop_ro("engine_steps", [](const CompileResult& r) { return r.summary.engine_steps; })
      .def_prop_ro("seconds", [](const CompileResult& r) { return r.summary.seconds; });

  module.def("has_bf16", &has_bf16, nb::arg("device") = "cpu",
             "Has the device instructions for ``compile(bf16=True)``?");
  module.def(
      "compile", &compile_model, nb::arg("model").none(), nb::kw_only(), nb::arg("profiles") = nb::list(),
      nb::arg("workspace_bytes") = std::uint64_t{1} << 40, nb::arg("num_threads") = 0, nb::arg("opt_level") = 3,
      nb::arg("strict") = false, nb::arg("portable") = false, nb::arg("timing_cache").none() = nb::none(),
      nb::arg("timing_cache_path").none() = nb::none(), nb::arg("disabled_rules") = std::vector<std::string>(),
      nb::arg("extra_outputs") = std::vector<std::string>(), nb::arg("progress").none() = nb::none(),
      nb::arg("name") = "", nb::arg("device") = "cpu", nb::arg("allow_host") = false, nb::arg("fp16") = false,
      nb::arg("bf16") = false, nb::arg("tf32") = false, nb::arg("tactic_sources") = std::vector<std::string>(),
      nb::arg("keep_float32") = std::vector<std::string>(), nb::arg("metadata") = std::map<std::string, std::string>(),
      "Compiles a path, the bytes of a model, or a Network. ``profiles``: dicts of (min, opt, max) by input name. "
      "``tactic_sources``: libraries whose kernels are tried on a GPU, 'cublas_lt' and 'cudnn'. "
      "``fp16`` on a CPU rounds weights to float16, except those of the nodes ``keep_float32``; ``bf16`` the factors "
      "of "
      "products to bfloat16. ``metadata`` is kept "
      "in "
      "the "
      "engine. ``timing_cache``: bytes, b'' for an empty one. ``progress(phase, item, fraction, remaining_seconds)`` "
      "is called "
      "from this thread; what it raises cancels the build and is raised here, and returning False raises Error "
      "'cancelled'.");
}

}  // namespace tenfold::python
