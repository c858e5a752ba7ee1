// Engines and contexts.
#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "bindings.hpp"

namespace tenfold::python {
namespace {

/// Python code that an observer runs may fail; the run then ends with what it raised.
class PythonContext {
 public:
  PythonContext(const Engine& engine, int profile)
      : engine_(engine),
        context_(engine.make_context(profile)),
        inputs_(engine.inputs()),
        outputs_(engine.outputs()),
        held_inputs_(inputs_.size()),
        held_outputs_(outputs_.size()),
        profile_(profile) {}

  void set_input(const std::string& name, nb::handle array) {
    const Use use(*this);
    const std::size_t index = find(inputs_, name, "input");
    Array held(array, "input '" + name + "'", inputs_[index].dtype, false);
    check_size(held, "input '" + name + "'", inputs_[index].dtype);
    context_.set_input(name, held.dims(), held.data());
    held_inputs_[index] = std::move(held);
  }

  void set_output_address(const std::string& name, std::uint64_t address, std::uint64_t capacity_bytes) {
    const Use use(*this);
    const std::size_t index = find(outputs_, name, "output");
    context_.set_output(name, reinterpret_cast<void*>(address), capacity_bytes);  // NOLINT(performance-no-int-to-ptr)
    held_outputs_[index] = Array();
  }

  void set_output_array(const std::string& name, nb::handle array) {
    const Use use(*this);
    const std::size_t index = find(outputs_, name, "output");
    if (array.is_none()) {
      context_.set_output(name, nullptr, 0);
      held_outputs_[index] = Array();
      return;
    }
    Array held(array, "output '" + name + "'", outputs_[index].dtype, false, true);
    check_size(held, "output '" + name + "'", outputs_[index].dtype);
    context_.set_output(name, held.data(), held.size_bytes());
    held_outputs_[index] = std::move(held);
  }

  void run() {
    const Use use(*this);
    const ReleasedGil release;
    context_.run();
  }

  void enqueue(std::uint64_t stream) {
    const Use use(*this);
    const ReleasedGil release;
    context_.enqueue(reinterpret_cast<void*>(stream));  // NOLINT(performance-no-int-to-ptr)
  }

  void warm_up() {
    const Use use(*this);
    const ReleasedGil release;
    context_.warm_up();
  }

  void set_profile(int profile) {
    const Use use(*this);
    context_.set_profile(profile);
    profile_ = profile;
    for (Array& held : held_inputs_) held = Array();
  }
  int profile() const { return profile_; }

  OutputView output(const std::string& name) {
    const Use use(*this);
    (void)find(outputs_, name, "output");
    return context_.output(name);
  }
  nb::object output_array(const std::string& name) {
    const OutputView view = output(name);
    return copy_to_array(view.dtype, view.dims, view.data, view.size_bytes);
  }
  nb::tuple output_dims(const std::string& name) {
    const Use use(*this);
    return to_tuple(context_.output_dims(name));
  }

  void set_profiling(bool on) {
    const Use use(*this);
    context_.set_profiling(on);
  }
  std::vector<StepTime> step_times() {
    const Use use(*this);
    return context_.step_times();
  }

  void set_observer(const nb::object& observer) {
    const Use use(*this);
    observer_ = observer;
    if (observer.is_none()) {
      context_.set_observer(nullptr);
      return;
    }
    // The context, and with it this function, is destroyed by Python, hence with the GIL.
    context_.set_observer(
        [this](std::string_view step, std::span<const std::string> names, std::span<const OutputView> outputs) {
          const HeldGil gil;
          nb::dict values;
          for (std::size_t i = 0; i < names.size(); ++i) {
            values[names[i].c_str()] =
                copy_to_array(outputs[i].dtype, outputs[i].dims, outputs[i].data, outputs[i].size_bytes);
          }
          observer_(nb::str(step.data(), step.size()), values);
        });
  }
  nb::object& observer() { return observer_; }

 private:
  /// One thread at a time: others, and calls from within an observer, are refused.
  struct Use {
    explicit Use(PythonContext& in_use) : context(in_use) {
      if (context.is_busy_.exchange(true, std::memory_order_acquire)) {
        throw Error(Code::invalid_argument,
                    "the context is running already; make one context for each thread with Engine.make_context");
      }
    }
    ~Use() { context.is_busy_.store(false, std::memory_order_release); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    PythonContext& context;
  };

  static std::size_t find(const std::vector<TensorInfo>& infos, const std::string& name, const char* kind) {
    std::string known;
    for (std::size_t i = 0; i < infos.size(); ++i) {
      if (infos[i].name == name) return i;
      known += (i == 0 ? "'" : ", '") + infos[i].name + "'";
    }
    fail(Code::invalid_argument, "there is no ", kind, " '", name, "'; the engine has ", known);
  }
  static void check_size(const Array& array, const std::string& what, DType dtype) {
    __int128 needed = size_of(dtype);
    for (const std::int64_t dim : array.dims()) {
      if (dim < 0) fail(Code::invalid_argument, what, ": shape ", to_text(array.dims()), " has a negative size");
      needed = std::min<__int128>(needed * dim, __int128{1} << 64);
    }
    if (needed != static_cast<__int128>(array.size_bytes())) {
      fail(Code::invalid_argument, what, ": shape ", to_text(array.dims()), " of ", to_string(dtype),
           " does not take the ", std::to_string(array.size_bytes()), " bytes that were given");
    }
  }

  Engine engine_;
  Context context_;
  std::vector<TensorInfo> inputs_, outputs_;
  std::vector<Array> held_inputs_, held_outputs_;
  nb::object observer_ = nb::none();
  int profile_ = 0;
  std::atomic<bool> is_busy_{false};
};

/// An engine with a stock of contexts, so that any number of threads may call it. The stock is guarded by the GIL.
class PythonEngine {
 public:
  explicit PythonEngine(Engine engine)
      : engine_(std::move(engine)), inputs_(engine_.inputs()), outputs_(engine_.outputs()) {
    for (const TensorInfo& info : inputs_) input_labels_.push_back("input '" + info.name + "'");
    for (const TensorInfo& info : outputs_) output_labels_.push_back("output '" + info.name + "'");
    for (int i = 0; i < engine_.num_profiles(); ++i) profiles_.push_back(engine_.profile(i));
  }

  PythonEngine(PythonEngine&&) = default;
  PythonEngine(const PythonEngine&) = delete;

  const Engine& engine() const { return engine_; }
  const std::vector<TensorInfo>& inputs() const { return inputs_; }
  const std::vector<TensorInfo>& outputs() const { return outputs_; }

  /// Makes the first call's context now, so that the call need not.
  void prepare() { const Loan loan(*this); }

  /// Positional arrays give an array, or a tuple of several; one dict gives a dict.
  nb::object call(const nb::tuple& given, nb::handle out) {
    const bool is_named = given.size() == 1 && nb::isinstance<nb::dict>(given[0]);
    Loan loan(*this);
    Worker& worker = loan.worker();
    if (is_named) {
      take_named(worker, nb::borrow<nb::dict>(given[0]));
    } else {
      take_positional(worker, given);
    }
    bind_inputs(worker);
    std::vector<nb::object> results(outputs_.size());
    std::vector<Array> into = bind_outputs(worker, out, results);
    {
      const ReleasedGil release;
      worker.context.run();
    }
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (results[i].is_valid()) continue;
      const OutputView view = worker.context.output(outputs_[i].name);
      results[i] = copy_to_array(view.dtype, view.dims, view.data, view.size_bytes);
    }
    loan.is_clean = true;
    if (is_named) {
      nb::dict named;
      for (std::size_t i = 0; i < results.size(); ++i) named[outputs_[i].name.c_str()] = results[i];
      return named;
    }
    if (results.size() == 1) return results[0];
    const nb::object tuple = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(results.size())));
    if (!tuple.is_valid()) throw nb::python_error();
    for (std::size_t i = 0; i < results.size(); ++i) {
      PyTuple_SET_ITEM(tuple.ptr(), static_cast<Py_ssize_t>(i), results[i].release().ptr());
    }
    return tuple;
  }

 private:
  struct Worker {
    Worker(const Engine& engine, std::size_t num_inputs, std::size_t num_outputs)
        : context(engine.make_context()), arrays(num_inputs), dims(num_inputs), output_dims(num_outputs) {}
    Context context;
    int profile = 0;
    bool is_prepared = false;   // `dims` and `output_dims` hold for the context as it is
    std::vector<Array> arrays;  // of this call
    std::vector<std::vector<std::int64_t>> dims;
    std::vector<std::vector<std::int64_t>> output_dims;  // with -1: decided while running
  };
  /// A worker for the time of one call.
  class Loan {
   public:
    explicit Loan(PythonEngine& engine) : engine_(engine) {
      if (engine.idle_.empty()) {
        worker_ = std::make_unique<Worker>(engine.engine_, engine.inputs_.size(), engine.outputs_.size());
      } else {
        worker_ = std::move(engine.idle_.back());
        engine.idle_.pop_back();
      }
    }
    ~Loan() {
      for (Array& array : worker_->arrays) array = Array();
      if (!is_clean) worker_->is_prepared = false;
      engine_.idle_.push_back(std::move(worker_));
    }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    Worker& worker() { return *worker_; }
    bool is_clean = false;

   private:
    PythonEngine& engine_;
    std::unique_ptr<Worker> worker_;
  };

  std::string names(const std::vector<TensorInfo>& infos) const {
    std::string text;
    for (const TensorInfo& info : infos) text += (text.empty() ? "'" : ", '") + info.name + "'";
    return text;
  }

  void take_positional(Worker& worker, const nb::tuple& given) {
    if (given.size() != inputs_.size()) {
      fail(Code::invalid_argument, "the engine has ", std::to_string(inputs_.size()), " inputs (", names(inputs_),
           "), but ", std::to_string(given.size()), " arrays were given");
    }
    for (std::size_t i = 0; i < inputs_.size(); ++i) take(worker, i, given[i]);
  }
  void take_named(Worker& worker, const nb::dict& given) {
    std::size_t used = 0;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      PyObject* item = PyDict_GetItemString(given.ptr(), inputs_[i].name.c_str());
      if (item == nullptr) fail(Code::invalid_argument, input_labels_[i], " is missing");
      take(worker, i, item);
      ++used;
    }
    if (used == given.size()) return;
    for (const auto [key, value] : given) {
      const std::string name = nb::cast<std::string>(nb::str(key));
      const bool is_known = std::any_of(inputs_.begin(), inputs_.end(), [&](const auto& i) { return i.name == name; });
      if (!is_known) {
        fail(Code::invalid_argument, "there is no input '", name, "'; the engine has ", names(inputs_));
      }
    }
  }
  void take(Worker& worker, std::size_t index, nb::handle object) {
    if (nb::isinstance<nb::tuple>(object)) {
      fail(Code::invalid_argument, input_labels_[index], ": an array was expected, got a tuple");
    }
    worker.arrays[index] = Array(object, input_labels_[index], inputs_[index].dtype, true);
  }

  bool fits(const Worker& worker, std::size_t profile) const {
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const std::span<const std::int64_t> dims = worker.arrays[i].dims();
      const ShapeRange& range = profiles_[profile][i];
      if (dims.size() != range.min.size()) return false;
      for (std::size_t axis = 0; axis < dims.size(); ++axis) {
        if (dims[axis] < range.min[axis] || dims[axis] > range.max[axis]) return false;
      }
    }
    return true;
  }

  void bind_inputs(Worker& worker) {
    bool is_same = worker.is_prepared;
    for (std::size_t i = 0; is_same && i < inputs_.size(); ++i) {
      is_same = std::ranges::equal(worker.arrays[i].dims(), worker.dims[i]);
    }
    if (!is_same && profiles_.size() > 1 && !fits(worker, static_cast<std::size_t>(worker.profile))) {
      for (std::size_t p = 0; p < profiles_.size(); ++p) {
        if (!fits(worker, p)) continue;
        worker.context.set_profile(static_cast<int>(p));
        worker.profile = static_cast<int>(p);
        break;
      }
    }
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      worker.context.set_input(inputs_[i].name, worker.arrays[i].dims(), worker.arrays[i].data());
    }
    if (is_same) return;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      worker.dims[i].assign(worker.arrays[i].dims().begin(), worker.arrays[i].dims().end());
    }
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      worker.output_dims[i] = worker.context.output_dims(outputs_[i].name);
    }
    worker.is_prepared = true;
  }

  /// Makes arrays for the outputs whose sizes are known; the others stay in the context's memory.
  std::vector<Array> bind_outputs(Worker& worker, nb::handle out, std::vector<nb::object>& results) {
    std::vector<Array> into;
    const bool is_dict = !out.is_none() && nb::isinstance<nb::dict>(out);
    const bool is_list = !out.is_none() && (nb::isinstance<nb::tuple>(out) || nb::isinstance<nb::list>(out));
    if (is_list && nb::len(out) != outputs_.size()) {
      fail(Code::invalid_argument, "out: the engine has ", std::to_string(outputs_.size()), " outputs, but ",
           std::to_string(nb::len(out)), " arrays were given");
    }
    if (!out.is_none() && !is_dict && !is_list && outputs_.size() != 1) {
      fail(Code::invalid_argument, "out: the engine has several outputs (", names(outputs_),
           "); pass a dict or a tuple of arrays");
    }
    std::size_t used = 0;
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      const std::vector<std::int64_t>& dims = worker.output_dims[i];
      const bool is_known = std::find(dims.begin(), dims.end(), -1) == dims.end();
      nb::object target;
      if (is_dict) {
        PyObject* item = PyDict_GetItemString(out.ptr(), outputs_[i].name.c_str());
        if (item != nullptr) target = nb::borrow(item);
      } else if (is_list) {
        target = out[i];
      } else if (!out.is_none()) {
        target = nb::borrow(out);
      }
      if (target.is_valid() && !target.is_none()) {
        ++used;
        if (nb::isinstance<nb::tuple>(target)) fail(Code::invalid_argument, output_labels_[i], ": no array in `out`");
        Array array(target, output_labels_[i], outputs_[i].dtype, false, true);
        if (!is_known) {
          fail(Code::unsupported, output_labels_[i],
               ": its size is only known after running, so it cannot be written to an array given beforehand");
        }
        if (!std::ranges::equal(array.dims(), dims)) {
          fail(Code::invalid_argument, output_labels_[i], ": the array in `out` has shape ", to_text(array.dims()),
               ", but the output has ", to_text(dims));
        }
        worker.context.set_output(outputs_[i].name, array.data(), array.size_bytes());
        into.push_back(std::move(array));
        results[i] = std::move(target);
      } else if (is_known) {
        void* data = nullptr;
        results[i] = new_array(outputs_[i].dtype, dims, &data);
        std::size_t bytes = size_of(outputs_[i].dtype);
        for (const std::int64_t dim : dims) bytes *= static_cast<std::size_t>(dim);
        worker.context.set_output(outputs_[i].name, data, bytes);
      } else {
        worker.context.set_output(outputs_[i].name, nullptr, 0);
      }
    }
    if (is_dict && used != nb::len(out)) {
      fail(Code::invalid_argument, "out: it has names that are no outputs; the engine has ", names(outputs_));
    }
    return into;
  }

  Engine engine_;
  std::vector<TensorInfo> inputs_, outputs_;
  std::vector<std::string> input_labels_, output_labels_;
  std::vector<std::vector<ShapeRange>> profiles_;
  std::vector<std::unique_ptr<Worker>> idle_;
};

PythonEngine load(const nb::object& source, bool verify, int num_threads, bool portable,
                  std::int64_t max_loop_iterations, const std::string& device) {
  LoadOptions options;
  options.verify = verify;
  if (num_threads < 0 || num_threads > 256) {
    fail(Code::invalid_argument, "num_threads is ", std::to_string(num_threads), "; 0 .. 256 are possible");
  }
  options.num_threads = num_threads;
  options.max_loop_iterations = max_loop_iterations;
  options.device = device;
  options.on_mismatch = portable ? LoadOptions::OnMismatch::portable : LoadOptions::OnMismatch::fail;
  if (is_path(source)) {
    const std::string path = to_path(source, "engine");
    const ReleasedGil release;
    return PythonEngine(Engine::load(path, options));
  }
  const Array bytes(source, "engine", DType::undefined, false);
  const std::span<const std::byte> view(static_cast<const std::byte*>(bytes.data()), bytes.size_bytes());
  const ReleasedGil release;
  return PythonEngine(Engine::load(view, options));
}

nb::tuple shape_of(const TensorInfo& info) {
  nb::list sizes;
  for (std::size_t i = 0; i < info.dims.size(); ++i) {
    if (info.dims[i] >= 0) {
      sizes.append(info.dims[i]);
    } else {
      sizes.append(info.dim_names[i]);
    }
  }
  return nb::tuple(sizes);
}

int traverse_context(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (!nb::inst_ready(self)) return 0;
  Py_VISIT(nb::inst_ptr<PythonContext>(self)->observer().ptr());
  return 0;
}
int clear_context(PyObject* self) {
  nb::inst_ptr<PythonContext>(self)->observer() = nb::none();
  return 0;
}
const PyType_Slot kContextSlots[] = {{Py_tp_traverse, reinterpret_cast<void*>(&traverse_context)},
                                     {Py_tp_clear, reinterpret_cast<void*>(&clear_context)},
                                     {0, nullptr}};

}  // namespace

void bind_engine(nb::module_& module) {
  nb::class_<TensorInfo>(module, "TensorInfo", "A named input, output or value.")
      .def_ro("name", &TensorInfo::name, "The model's name for it.")
      .def_prop_ro(
          "dtype", [](const TensorInfo& i) { return dtype_name(i.dtype); }, "For instance 'float32'.")
      .def_prop_ro(
          "dims", [](const TensorInfo& i) { return to_tuple(i.dims); }, nb::sig("def dims(self) -> tuple[int, ...]"),
          "Sizes; -1: decided when it runs.")
      .def_prop_ro("shape", &shape_of, nb::sig("def shape(self) -> tuple[int | str, ...]"),
                   "Sizes; an expression such as 'batch' or '2*floordiv(w, 8)' where it is decided when it runs.")
      .def("__repr__", [](const TensorInfo& i) {
        std::string text = "TensorInfo('" + i.name + "', " + dtype_name(i.dtype) + "[";
        for (std::size_t axis = 0; axis < i.dims.size(); ++axis) text += (axis == 0 ? "" : ", ") + i.dim_names[axis];
        return text + "])";
      });

  nb::class_<ShapeRange>(module, "ShapeRange", "The shapes that a profile accepts for one input.")
      .def_prop_ro("min", [](const ShapeRange& r) { return to_tuple(r.min); })
      .def_prop_ro("opt", [](const ShapeRange& r) { return to_tuple(r.opt); })
      .def_prop_ro("max", [](const ShapeRange& r) { return to_tuple(r.max); })
      .def("__repr__", [](const ShapeRange& r) {
        return "ShapeRange(" + to_text(r.min) + ", " + to_text(r.opt) + ", " + to_text(r.max) + ")";
      });

  nb::class_<StepTime>(module, "StepTime", "What one step of a run took.")
      .def_ro("name", &StepTime::name, "The step.")
      .def_ro("origins", &StepTime::origins, "Names of the model's nodes that it computes.")
      .def_ro("op_type", &StepTime::op_type)
      .def_ro("tactic", &StepTime::tactic, "The kernel.")
      .def_ro("start_us", &StepTime::start_us, "Microseconds since the start of the run.")
      .def_ro("duration_us", &StepTime::duration_us, "Microseconds.")
      .def_ro("flops", &StepTime::flops, "Arithmetic operations (a multiply-add is 2); 0 if it only moves data.")
      .def_ro("bytes", &StepTime::bytes, "Operands read and written once.")
      .def("__repr__", [](const StepTime& t) {
        return "StepTime('" + t.name + "', " + t.tactic + ", " + std::to_string(t.duration_us) + " us)";
      });

  nb::class_<StepCandidate>(module, "StepCandidate", "A kernel that the builder looked at for one step.")
      .def_ro("profile", &StepCandidate::profile)
      .def_ro("tactic", &StepCandidate::tactic)
      .def_ro("parameters", &StepCandidate::parameters)
      .def_ro("refusal", &StepCandidate::refusal, "Why it cannot compute the step; empty if it can.")
      .def_ro("time_us", &StepCandidate::time_us, "Microseconds; 0 if it was not timed.")
      .def_ro("chosen", &StepCandidate::chosen);

  nb::class_<StepInfo>(module, "StepInfo", "One step of an engine.")
      .def_ro("name", &StepInfo::name)
      .def_ro("origins", &StepInfo::origins, "Names of the model's nodes that it computes.")
      .def_ro("op_type", &StepInfo::op_type)
      .def_ro("attributes", &StepInfo::attributes, "As text: '{axis=1}'.")
      .def_ro("inputs", &StepInfo::inputs)
      .def_ro("outputs", &StepInfo::outputs)
      .def_ro("tactics", &StepInfo::tactics, "The kernel of each profile; empty for what the runtime does itself.")
      .def_ro("workspace_bytes", &StepInfo::workspace_bytes, "Scratch memory in each profile.")
      .def_ro("candidates", &StepInfo::candidates, "What else was looked at, with times and reasons of refusal.")
      .def("__repr__", [](const StepInfo& s) {
        return "StepInfo('" + s.name + "', " + s.op_type + (s.tactics.empty() ? "" : ", " + s.tactics[0]) + ")";
      });

  nb::class_<EngineInfo>(module, "EngineInfo", "Where an engine comes from and what it was built for.")
      .def_ro("backend", &EngineInfo::backend)
      .def_ro("target", &EngineInfo::target, "The processor's properties that it needs.")
      .def_ro("num_threads", &EngineInfo::num_threads, "Its kernels were chosen for so many.")
      .def_ro("model_name", &EngineInfo::model_name)
      .def_ro("model_producer", &EngineInfo::model_producer)
      .def_ro("model_hash", &EngineInfo::model_hash, "XXH3-128 of the model file.")
      .def_ro("model_nodes", &EngineInfo::model_nodes)
      .def_ro("options", &EngineInfo::options)
      .def_ro("passes", &EngineInfo::passes, "Which rewrites were made, and how often.")
      .def_ro("is_portable", &EngineInfo::is_portable);

  nb::class_<PythonContext>(module, "Context", nb::type_slots(kContextSlots),
                            R"(A place to run with memory of its own. Made by :meth:`Engine.make_context`.

It is for one thread at a time: a call while another one runs, also one from within an observer, raises
:class:`tenfold.Error` with the code ``invalid_argument``. All methods raise it for unknown names.)")
      .def("set_input", &PythonContext::set_input, nb::arg("name"), nb::arg("array"),
           R"(Set shape and data of an input for the next runs.

:param name: the input.
:param array: a NumPy array or any tensor with DLPack, of exactly the input's dtype, its elements one after the other.
    It is held and read where it lies, each time that the context runs. A tuple (address, dims, nbytes) stands for
    memory that the caller keeps valid.
:raises tenfold.Error: ``invalid_argument`` for another dtype, a shape outside the profile, or elements that do not lie
    one after the other.)")
      .def("set_output", &PythonContext::set_output_address, nb::arg("name"), nb::arg("address"),
           nb::arg("capacity_bytes"))
      .def("set_output", &PythonContext::set_output_array, nb::arg("name"), nb::arg("array").none(),
           R"(Have an output written to the caller's memory from now on.

:param name: the output.
:param array: a writable array of the output's dtype, large enough; None goes back to the context's own memory.
:param address: instead of an array, memory that the caller keeps valid; 0 goes back to the context's own.
:param capacity_bytes: how large it is.)")
      .def("run", &PythonContext::run,
           R"(Run once and wait. Other Python threads go on meanwhile.

:raises tenfold.Error: ``invalid_argument`` for an input that is not set or memory for an output that is too small.)")
      .def("enqueue", &PythonContext::enqueue, nb::arg("stream") = 0,
           R"(Enqueue one run on a stream of a GPU and return. On engines for the CPU it is :meth:`run`.

:param stream: a ``cudaStream_t`` as a number; 0: the context's own. Outputs hold the results, and inputs may change,
    once the stream is synchronized.)")
      .def("warm_up", &PythonContext::warm_up,
           R"(Do what the first run would do besides, at the shapes that are set or else the profile's best ones.)")
      .def("output", &PythonContext::output_array, nb::arg("name"),
           nb::sig("def output(self, name: str) -> numpy.ndarray"), R"(An output of the last run, as a new array.

:param name: the output.)")
      .def(
          "output_view",
          [](PythonContext& self, const std::string& name) {
            const OutputView view = self.output(name);
            return nb::make_tuple(dtype_name(view.dtype), to_tuple(view.dims),
                                  reinterpret_cast<std::uintptr_t>(view.data), view.size_bytes);
          },
          nb::arg("name"), nb::sig("def output_view(self, name: str) -> tuple[str, tuple[int, ...], int, int]"),
          R"((dtype, dims, address, bytes) of an output of the last run; valid until the next one.)")
      .def("output_dims", &PythonContext::output_dims, nb::arg("name"),
           nb::sig("def output_dims(self, name: str) -> tuple[int, ...]"),
           R"(The shape that an output will have with the inputs that are set.

:param name: the output.
:returns: sizes in elements; -1 for one that is decided while running.
:raises tenfold.Error: ``invalid_argument`` for an input that is not set, and for shapes that contradict each other.)")
      .def("set_profile", &PythonContext::set_profile, nb::arg("index"),
           R"(Make another profile current; inputs must be set again.

:param index: into :attr:`Engine.profiles`.)")
      .def_prop_ro("profile", &PythonContext::profile, "Index of the current profile.")
      .def("set_profiling", &PythonContext::set_profiling, nb::arg("on"),
           R"(Have the next runs record what each step takes, which slows them down a little.)")
      .def(
          "step_times", &PythonContext::step_times,
          R"(What each step of the last run with profiling took: objects with ``name``, ``origins``, ``op_type``, ``tactic``,
``start_us``, ``duration_us`` (microseconds), ``flops`` and ``bytes``.)")
      .def("set_observer", &PythonContext::set_observer, nb::arg("observer").none(),
           nb::sig("def set_observer(self, observer: Callable[[str, dict[str, numpy.ndarray]], None] | None) -> None"),
           R"(Have a function called after each step of a run, for debugging.

:param observer: called as ``observer(step, values)`` with a dict of new arrays by name; what it raises ends the run.
    None switches it off.)");

  nb::class_<PythonEngine>(module, "Engine", "A loaded engine. Thread-safe.")
      .def_static("load", &load, nb::arg("source"), nb::arg("verify") = true, nb::arg("num_threads") = 0,
                  nb::arg("portable") = false, nb::arg("max_loop_iterations") = std::int64_t{10'000'000},
                  nb::arg("device") = "", "From a path, or from an object with the buffer protocol, which is copied.")
      .def("prepare", &PythonEngine::prepare, "Make the memory and threads of a first call.")
      .def("serialize",
           [](const PythonEngine& self) {
             const std::span<const std::byte> bytes = self.engine().file_bytes();
             return nb::bytes(bytes.data(), bytes.size());
           })
      .def(
          "save",
          [](const PythonEngine& self, nb::handle path) {
            const std::string to = to_path(path, "path");
            const ReleasedGil release;
            self.engine().save(to);
          },
          nb::arg("path"))
      .def_prop_ro("inputs", [](const PythonEngine& self) { return self.inputs(); })
      .def_prop_ro("outputs", [](const PythonEngine& self) { return self.outputs(); })
      .def_prop_ro("num_profiles", [](const PythonEngine& self) { return self.engine().num_profiles(); })
      .def(
          "profile", [](const PythonEngine& self, int index) { return self.engine().profile(index); }, nb::arg("index"),
          "Ranges of one profile, in the order of the inputs.")
      .def_prop_ro("metadata", [](const PythonEngine& self) { return self.engine().metadata(); })
      .def_prop_ro("num_steps", [](const PythonEngine& self) { return self.engine().num_steps(); })
      .def_prop_ro("weight_bytes", [](const PythonEngine& self) { return self.engine().weight_bytes(); })
      .def(
          "arena_bytes", [](const PythonEngine& self, int profile) { return self.engine().arena_bytes(profile); },
          nb::arg("profile") = 0)
      .def("steps", [](const PythonEngine& self) { return self.engine().steps(); })
      .def_prop_ro("info", [](const PythonEngine& self) { return self.engine().info(); })
      .def(
          "make_context",
          [](const PythonEngine& self, int profile) { return std::make_unique<PythonContext>(self.engine(), profile); },
          nb::arg("profile") = 0)
      .def("call", &PythonEngine::call, nb::arg("inputs"), nb::arg("out").none() = nb::none(),
           nb::sig("def call(self, inputs: tuple, out: object | None = None) -> object"));
}

}  // namespace tenfold::python
