// The extension module tenfold._core: the C++ API for Python. The package `tenfold` is what users see.
#include <unistd.h>

#include "bindings.hpp"

namespace tenfold::python {
namespace {

/// tenfold.Error; lives as long as the interpreter.
PyObject* error_type = nullptr;

void raise(Code code, const char* message) {
  try {
    nb::object error = nb::borrow(error_type)(message);
    error.attr("code") = std::string(to_string(code));
    PyErr_SetObject(error_type, error.ptr());
  } catch (nb::python_error& failure) {
    failure.restore();
  }
}

/// The sink keeps a Python function; calls may come from any thread.
struct PythonSink {
  explicit PythonSink(nb::object f) : function(std::move(f)) {}
  ~PythonSink() {
    if (Py_IsInitialized() == 0) {
      (void)function.release();
      return;
    }
    const HeldGil gil;
    function.reset();
  }
  PythonSink(const PythonSink&) = delete;
  PythonSink& operator=(const PythonSink&) = delete;
  nb::object function;
};

void set_sink(const nb::object& function, const std::string& least) {
  if (function.is_none()) {
    set_log_sink({});
    return;
  }
  const LogLevel level =
      least == "debug"  ? LogLevel::debug
      : least == "info" ? LogLevel::info
      : least == "warning"
          ? LogLevel::warning
          : throw Error(Code::invalid_argument, "the least level is 'debug', 'info' or 'warning', not '" + least + "'");
  auto sink = std::make_shared<PythonSink>(function);
  set_log_sink(
      [sink](LogLevel of_message, std::string_view message) {
        const HeldGil gil;
        static constexpr const char* kNames[] = {"debug", "info", "warning"};
        try {
          sink->function(kNames[static_cast<int>(of_message)], nb::str(message.data(), message.size()));
        } catch (nb::python_error& error) {
          error.discard_as_unraisable("a log sink");  // a message is never worth more than the work it tells about
        }
      },
      level);
}

}  // namespace

void wait_for_the_end() noexcept {
  for (;;) pause();
}

void bind_errors(nb::module_& module) {
  error_type = PyErr_NewExceptionWithDoc(
      "tenfold.Error",
      "A call that failed. ``code`` says what can be done about it:\n\n"
      "- ``invalid_argument``: the call is wrong: a shape, a name, an option, a path\n"
      "- ``invalid_model``: the model file is broken or contradicts itself\n"
      "- ``unsupported``: the model is valid, but this version cannot compile or run it\n"
      "- ``out_of_memory``: memory or a configured memory limit is exhausted\n"
      "- ``device_failure``: the device or its driver failed\n"
      "- ``incompatible_engine``: the engine is broken or was built for another version or processor\n"
      "- ``cancelled``: the caller asked to stop\n"
      "- ``io_failure``: a file could not be read or written\n"
      "- ``internal``: a broken invariant of Tenfold itself; please report it",
      PyExc_RuntimeError, nullptr);
  if (error_type == nullptr) throw nb::python_error();
  nb::borrow(error_type).attr("code") = "internal";
  module.attr("Error") = nb::borrow(error_type);
  nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
    try {
      std::rethrow_exception(pointer);
    } catch (const Error& error) {
      raise(error.code(), error.what());
    } catch (const std::bad_alloc&) {
      raise(Code::out_of_memory, "memory is exhausted");
    }
  });
}

}  // namespace tenfold::python

NB_MODULE(_core, module) {
  using namespace tenfold::python;
  module.doc() = "The C++ API of Tenfold. Use the package ``tenfold``; names here may change.";
  module.attr("__version__") = TENFOLD_VERSION;
  bind_errors(module);
  bind_engine(module);
  bind_network(module);
  bind_compile(module);
  module.def("set_log_sink", &set_sink, nb::arg("sink").none(), nb::arg("least") = "info",
             nb::sig("def set_log_sink(sink: Callable[[str, str], None] | None, least: str = 'info') -> None"),
             "Messages of at least this level ('debug', 'info', 'warning') go to ``sink(level, message)``, from any "
             "thread; None switches them off. An exception in the sink is reported as unraisable.");
}
