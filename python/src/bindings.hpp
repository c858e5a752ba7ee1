// What the files of the binding share. No logic lives in them: each function converts, calls the C++ API and converts
// back. The GIL is released around C++ work only, never around making or dropping Python objects.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include "tenfold/network.hpp"
#include "tenfold/tenfold.hpp"

namespace tenfold::python {

namespace nb = nanobind;

void bind_errors(nb::module_& module);
void bind_engine(nb::module_& module);
void bind_network(nb::module_& module);
void bind_compile(nb::module_& module);

// Taking the lock in a thread that is still at work when the interpreter ends ends that thread (Python before 3.14), by
// unwinding a stack that is not made for it. Such a thread waits here instead until the process is gone.
[[noreturn]] void wait_for_the_end() noexcept;

/// Other Python threads go on while this lives.
class ReleasedGil {
 public:
  ReleasedGil() : state_(PyEval_SaveThread()) {}
  ~ReleasedGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      wait_for_the_end();
    }
  }
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

 private:
  PyThreadState* state_;
};

/// Python may be called while this lives.
class HeldGil {
 public:
  HeldGil() : state_(take()) {}
  ~HeldGil() { PyGILState_Release(state_); }
  HeldGil(const HeldGil&) = delete;
  HeldGil& operator=(const HeldGil&) = delete;

 private:
  static PyGILState_STATE take() {
    try {
      return PyGILState_Ensure();
    } catch (...) {
      wait_for_the_end();
    }
  }
  PyGILState_STATE state_;
};

template <typename... Parts>
[[noreturn]] void fail(Code code, const Parts&... parts) {
  std::string message;
  ((message += parts), ...);
  throw Error(code, message);
}

/// "float32" -> DType; also accepts what numpy.dtype accepts. `what` says whose it is.
DType to_dtype(nb::handle dtype, std::string_view what);
std::string dtype_name(DType dtype);
/// (2, 3)
nb::tuple to_tuple(std::span<const std::int64_t> dims);
std::string to_text(std::span<const std::int64_t> dims);
/// A sequence of integers, also of numpy's. Throws Error(invalid_argument) starting with `what`.
std::vector<std::int64_t> to_dims(nb::handle sequence, std::string_view what);
/// The text of a str or os.PathLike.
std::string to_path(nb::handle path, std::string_view what);
bool is_path(nb::handle object);

/// Memory of an array, held as long as this object lives. Making and dropping it needs the GIL.
class Array {
 public:
  Array() = default;
  /// Any object with the buffer protocol or DLPack, in the host's memory; or a tuple (address, dims, nbytes), for which
  /// the caller vouches. `dtype` undefined: the array's own, otherwise it must be that one.
  /// Elements that do not lie one after the other: an error, or a copy if `may_copy`.
  Array(nb::handle object, std::string_view what, DType dtype, bool may_copy, bool writable = false);
  Array(Array&& other) noexcept;
  Array& operator=(Array&& other) noexcept;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array();

  DType dtype() const { return dtype_; }
  std::span<const std::int64_t> dims() const { return dims_; }
  void* data() const { return data_; }
  std::size_t size_bytes() const { return size_bytes_; }

 private:
  bool from_buffer(nb::handle object, std::string_view what, bool may_copy, bool writable);
  bool from_dlpack(nb::handle object, std::string_view what, bool may_copy, bool writable);
  void from_address(nb::handle object, std::string_view what);
  void check_dtype(std::string_view what, DType dtype) const;

  DType dtype_ = DType::undefined;
  std::vector<std::int64_t> dims_;
  void* data_ = nullptr;
  std::size_t size_bytes_ = 0;
  Py_buffer buffer_{};
  bool has_buffer_ = false;
  std::shared_ptr<void> tensor_;  // of DLPack
};

/// A new NumPy array; `data` is where its elements are. ml_dtypes provides bfloat16.
nb::object new_array(DType dtype, std::span<const std::int64_t> dims, void** data);
/// The array with a copy of the bytes.
nb::object copy_to_array(DType dtype, std::span<const std::int64_t> dims, const void* data, std::size_t size_bytes);

/// Bytes that share a tensor's memory.
HostTensor to_host_tensor(nb::handle object, std::string_view what);
nb::object from_host_tensor(const HostTensor& tensor);

}  // namespace tenfold::python
