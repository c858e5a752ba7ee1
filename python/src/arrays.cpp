// Arrays of the caller: NumPy and everything else with the buffer protocol or DLPack, seen as plain memory, and new
// NumPy arrays for results. Nothing here is copied unless the caller allowed it.
#include <algorithm>
#include <cstring>
#include <memory>

#include <nanobind/ndarray.h>

#include "bindings.hpp"

namespace tenfold::python {
namespace {

/// Of the buffer protocol; undefined for what Tenfold has no type for. Sizes in bytes decide between int and long.
DType dtype_of_format(const char* format, Py_ssize_t itemsize) {
  if (format == nullptr) return DType::uint8;
  if (*format == '@' || *format == '=' || *format == '<') ++format;  // all processors that Tenfold runs on
  if (format[0] == '\0' || format[1] != '\0') return DType::undefined;
  const auto sized = [&](DType one, DType two, DType four, DType eight) {
    return itemsize == 1 ? one : itemsize == 2 ? two : itemsize == 4 ? four : itemsize == 8 ? eight : DType::undefined;
  };
  switch (*format) {
    case 'f':
    case 'd':
    case 'e':
      return sized(DType::undefined, DType::float16, DType::float32, DType::float64);
    case 'b':
    case 'h':
    case 'i':
    case 'l':
    case 'q':
    case 'n':
      return sized(DType::int8, DType::int16, DType::int32, DType::int64);
    case 'B':
    case 'H':
    case 'I':
    case 'L':
    case 'Q':
    case 'N':
      return sized(DType::uint8, DType::uint16, DType::uint32, DType::uint64);
    case '?':
      return DType::boolean;
    default:
      return DType::undefined;
  }
}

DType dtype_of_dlpack(nb::dlpack::dtype dtype) {
  if (dtype.lanes != 1) return DType::undefined;
  using Kind = nb::dlpack::dtype_code;
  constexpr int kFloat8E4M3Fn = 10;  // since DLPack 1.1
  const auto kind = static_cast<Kind>(dtype.code);
  struct Row {
    Kind kind;
    int bits;
    DType dtype;
  };
  static constexpr Row kRows[] = {
      {Kind::Float, 16, DType::float16}, {Kind::Float, 32, DType::float32},
      {Kind::Float, 64, DType::float64}, {Kind::Bfloat, 16, DType::bfloat16},
      {Kind::Bool, 8, DType::boolean},   {Kind::Int, 8, DType::int8},
      {Kind::Int, 16, DType::int16},     {Kind::Int, 32, DType::int32},
      {Kind::Int, 64, DType::int64},     {Kind::UInt, 8, DType::uint8},
      {Kind::UInt, 16, DType::uint16},   {Kind::UInt, 32, DType::uint32},
      {Kind::UInt, 64, DType::uint64},   {static_cast<Kind>(kFloat8E4M3Fn), 8, DType::float8e4m3}};
  for (const Row& row : kRows) {
    if (row.kind == kind && row.bits == dtype.bits) return row.dtype;
  }
  return DType::undefined;
}

/// Kernels may count on elements that lie at multiples of their size.
bool is_aligned(const void* data, DType dtype) { return reinterpret_cast<std::uintptr_t>(data) % size_of(dtype) == 0; }

/// Do elements lie one after the other? Strides count elements or bytes, as `unit` does.
bool is_contiguous(std::span<const std::int64_t> dims, const auto* strides, std::int64_t unit) {
  if (strides == nullptr) return true;
  std::int64_t expected = unit;
  for (std::size_t i = dims.size(); i-- > 0;) {
    if (dims[i] == 0) return true;
    if (dims[i] != 1 && strides[i] != expected) return false;
    expected *= dims[i];
  }
  return true;
}

std::string name_of_type(nb::handle object) { return nb::cast<std::string>(nb::type_name(object.type())); }

/// What NumPy itself has no type for: a package adds it, and arrays give no buffer but of the bits.
struct AddedType {
  DType dtype;
  const char* name;  ///< in ml_dtypes
  const char* bits;  ///< NumPy's type of the same size
};
constexpr AddedType kAddedTypes[] = {{DType::bfloat16, "bfloat16", "uint16"},
                                     {DType::float8e4m3, "float8_e4m3fn", "uint8"}};

nb::object numpy(const char* name) { return nb::module_::import_("numpy").attr(name); }

}  // namespace

std::string dtype_name(DType dtype) { return std::string(to_string(dtype)); }

DType to_dtype(nb::handle dtype, std::string_view what) {
  std::string name;
  if (nb::isinstance<nb::str>(dtype)) {
    name = nb::cast<std::string>(dtype);
  } else {
    try {
      name = nb::cast<std::string>(numpy("dtype")(dtype).attr("name"));
    } catch (nb::python_error& error) {
      if (!error.matches(PyExc_TypeError)) throw;
      fail(Code::invalid_argument, what, ": a dtype was expected, such as \"float32\" or numpy.float32");
    }
  }
  for (const AddedType& added : kAddedTypes) {
    if (name == added.name) return added.dtype;
  }
  const std::optional<DType> found = parse_dtype(name);
  if (!found) fail(Code::invalid_argument, what, ": there is no dtype '", name, "'");
  return *found;
}

nb::tuple to_tuple(std::span<const std::int64_t> dims) {
  nb::object tuple = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(dims.size())));
  if (!tuple.is_valid()) throw nb::python_error();
  for (std::size_t i = 0; i < dims.size(); ++i) {
    PyTuple_SET_ITEM(tuple.ptr(), static_cast<Py_ssize_t>(i), PyLong_FromLongLong(dims[i]));
  }
  return nb::borrow<nb::tuple>(tuple);
}

std::string to_text(std::span<const std::int64_t> dims) {
  std::string text = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(dims[i]);
  return text + "]";
}

std::vector<std::int64_t> to_dims(nb::handle sequence, std::string_view what) {
  std::vector<std::int64_t> dims;
  nb::object items = nb::steal(PySequence_Fast(sequence.ptr(), "not a sequence"));
  if (!items.is_valid()) {
    PyErr_Clear();
    fail(Code::invalid_argument, what, ": a sequence of sizes was expected, got ", name_of_type(sequence));
  }
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(items.ptr());
  for (Py_ssize_t i = 0; i < count; ++i) {
    nb::object number = nb::steal(PyNumber_Index(PySequence_Fast_GET_ITEM(items.ptr(), i)));
    const long long value = number.is_valid() ? PyLong_AsLongLong(number.ptr()) : -1;
    if (PyErr_Occurred() != nullptr) {
      PyErr_Clear();
      fail(Code::invalid_argument, what, ": size ", std::to_string(i), " is no 64-bit integer");
    }
    dims.push_back(value);
  }
  return dims;
}

bool is_path(nb::handle object) { return nb::isinstance<nb::str>(object) || nb::hasattr(object, "__fspath__"); }

std::string to_path(nb::handle path, std::string_view what) {
  nb::object encoded;
  if (PyUnicode_FSConverter(path.ptr(), reinterpret_cast<void*>(&encoded)) == 0) {
    PyErr_Clear();
    fail(Code::invalid_argument, what, ": a path (str or os.PathLike) without null characters was expected, got ",
         name_of_type(path));
  }
  return {PyBytes_AS_STRING(encoded.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(encoded.ptr()))};
}

// --- Arrays that come in ---------------------------------------------------------------------------------------------

Array::Array(nb::handle object, std::string_view what, DType dtype, bool may_copy, bool writable) {
  if (nb::isinstance<nb::tuple>(object)) {
    from_address(object, what);
    dtype_ = dtype;
    return;
  }
  if (!from_buffer(object, what, may_copy, writable) && !from_dlpack(object, what, may_copy, writable)) {
    fail(Code::invalid_argument, what, ": an array was expected (NumPy, or any tensor with DLPack), got ",
         name_of_type(object));
  }
  check_dtype(what, dtype);
}

Array::Array(Array&& other) noexcept { *this = std::move(other); }
Array& Array::operator=(Array&& other) noexcept {
  if (this == &other) return *this;
  if (has_buffer_) PyBuffer_Release(&buffer_);
  dtype_ = other.dtype_;
  dims_ = std::move(other.dims_);
  data_ = other.data_;
  size_bytes_ = other.size_bytes_;
  buffer_ = other.buffer_;
  has_buffer_ = std::exchange(other.has_buffer_, false);
  tensor_ = std::move(other.tensor_);
  return *this;
}
Array::~Array() {
  if (has_buffer_) PyBuffer_Release(&buffer_);
}

void Array::check_dtype(std::string_view what, DType dtype) const {
  if (dtype == DType::undefined || dtype == dtype_) return;
  fail(Code::invalid_argument, what, ": its dtype is ", to_string(dtype), ", but the array is ", to_string(dtype_),
       "; convert it, for instance with array.astype(\"", to_string(dtype), "\")");
}

bool Array::from_buffer(nb::handle object, std::string_view what, bool may_copy, bool writable) {
  if (PyObject_CheckBuffer(object.ptr()) == 0) return false;
  const int flags = writable ? PyBUF_RECORDS : PyBUF_RECORDS_RO;
  if (PyObject_GetBuffer(object.ptr(), &buffer_, flags) != 0) {
    nb::python_error error;
    if (nb::hasattr(object, "dtype") && nb::hasattr(object, "view")) {
      const auto name = nb::cast<std::string>(nb::str(nb::handle(nb::object(object.attr("dtype")))));
      for (const AddedType& added : kAddedTypes) {
        if (name != added.name) continue;
        const nb::object bits = object.attr("view")(added.bits);
        if (!from_buffer(bits, what, may_copy, writable)) return false;
        dtype_ = added.dtype;
        return true;
      }
    }
    if (writable && PyObject_GetBuffer(object.ptr(), &buffer_, PyBUF_RECORDS_RO) == 0) {
      PyBuffer_Release(&buffer_);
      fail(Code::invalid_argument, what, ": the array is read-only");
    }
    PyErr_Clear();
    if (nb::hasattr(object, "__dlpack__")) return false;
    fail(Code::invalid_argument, what, ": the array cannot be read: ", error.what());
  }
  has_buffer_ = true;
  dtype_ = dtype_of_format(buffer_.format, buffer_.itemsize);
  if (dtype_ == DType::undefined) {
    fail(Code::invalid_argument, what, ": elements of format '", buffer_.format, "' are not supported");
  }
  dims_.assign(buffer_.shape, buffer_.shape + buffer_.ndim);
  data_ = buffer_.buf;
  size_bytes_ = static_cast<std::size_t>(buffer_.len);
  const bool is_plain = is_contiguous(dims_, buffer_.strides, buffer_.itemsize);
  if (is_plain && is_aligned(data_, dtype_)) return true;
  if (!may_copy) {
    fail(Code::invalid_argument, what,
         is_plain ? ": the elements are not aligned"
                  : ": the elements do not lie one after "
                    "the other",
         "; pass numpy.require(array, requirements=\"CA\"), which copies");
  }
  const nb::object copy = numpy("require")(object, nb::none(), nb::str("CA"));
  PyBuffer_Release(&buffer_);
  has_buffer_ = false;
  return from_buffer(copy, what, false, writable);
}

bool Array::from_dlpack(nb::handle object, std::string_view what, bool may_copy, bool writable) {
  if (!nb::hasattr(object, "__dlpack__")) return false;
  // A tensor that says it is read-only gives no view that can be written to.
  auto view = std::make_shared<nb::ndarray<nb::ro>>();
  auto writable_view = std::make_shared<nb::ndarray<>>();
  try {
    if (!(writable ? nb::try_cast(object, *writable_view) : nb::try_cast(object, *view))) {
      fail(Code::invalid_argument, what, ": the tensor gives no ", writable ? "writable " : "",
           "DLPack view of its elements");
    }
  } catch (nb::python_error& error) {
    fail(Code::invalid_argument, what, ": the tensor gives no DLPack view of its elements: ", error.what());
  }
  std::vector<std::int64_t> strides;
  const auto look_at = [&](const auto& seen) {
    const int device = seen.device_type();
    constexpr int kCpu = 1;
    constexpr int kPinned = 3;
    if (device != kCpu && device != kPinned) {
      fail(Code::invalid_argument, what, ": the tensor lies on device type ", std::to_string(device),
           " of DLPack; this engine reads the host's memory, so move it there first");
    }
    dtype_ = dtype_of_dlpack(seen.dtype());
    if (dtype_ == DType::undefined) fail(Code::invalid_argument, what, ": the tensor's element type is not supported");
    dims_.clear();
    for (std::size_t i = 0; i < seen.ndim(); ++i) {
      dims_.push_back(static_cast<std::int64_t>(seen.shape(i)));
      strides.push_back(seen.stride(i));
    }
    data_ = const_cast<void*>(static_cast<const void*>(seen.data()));
    size_bytes_ = seen.nbytes();
  };
  writable ? look_at(*writable_view) : look_at(*view);
  if (!is_contiguous(dims_, strides.data(), 1) || !is_aligned(data_, dtype_)) {
    if (!may_copy || !nb::hasattr(object, "contiguous")) {
      fail(Code::invalid_argument, what, ": the elements do not lie one after the other; make the tensor contiguous");
    }
    return from_dlpack(object.attr("contiguous")(), what, false, writable);
  }
  tensor_ = writable ? std::shared_ptr<void>(writable_view) : std::shared_ptr<void>(view);
  return true;
}

void Array::from_address(nb::handle object, std::string_view what) {
  const auto parts = nb::borrow<nb::tuple>(object);
  if (parts.size() != 3) fail(Code::invalid_argument, what, ": a tuple (address, dims, nbytes) was expected");
  data_ = PyLong_AsVoidPtr(nb::handle(parts[0]).ptr());
  const Py_ssize_t bytes = PyLong_AsSsize_t(nb::handle(parts[2]).ptr());
  if (PyErr_Occurred() != nullptr || bytes < 0) {
    PyErr_Clear();
    fail(Code::invalid_argument, what, ": address and size must be integers that are not negative");
  }
  dims_ = to_dims(parts[1], what);
  size_bytes_ = static_cast<std::size_t>(bytes);
}

// --- Arrays that go out ----------------------------------------------------------------------------------------------

nb::object new_array(DType dtype, std::span<const std::int64_t> dims, void** data) {
  // Made once and never freed: they live as long as the interpreter.
  static PyObject* const empty = numpy("empty").release().ptr();
  static PyObject* dtypes[32] = {};
  const AddedType* added = nullptr;
  for (const AddedType& row : kAddedTypes) {
    if (row.dtype == dtype) added = &row;
  }
  PyObject*& numpy_dtype = dtypes[static_cast<std::size_t>(dtype)];
  if (numpy_dtype == nullptr) {
    numpy_dtype = numpy("dtype")(added != nullptr ? added->bits : dtype_name(dtype)).release().ptr();
  }
  const nb::tuple shape = to_tuple(dims);
  PyObject* arguments[] = {shape.ptr(), numpy_dtype};
  nb::object array = nb::steal(PyObject_Vectorcall(empty, arguments, 2, nullptr));
  if (!array.is_valid()) throw nb::python_error();
  Py_buffer view;
  if (PyObject_GetBuffer(array.ptr(), &view, PyBUF_WRITABLE) != 0) throw nb::python_error();
  *data = view.buf;
  PyBuffer_Release(&view);  // the memory stays where it is: nobody else knows the array yet
  if (added == nullptr) return array;
  try {
    return array.attr("view")(nb::module_::import_("ml_dtypes").attr(added->name));
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_ImportError)) throw;
    fail(Code::unsupported, "NumPy has no ", to_string(dtype), "; install the package ml_dtypes, which adds it");
  }
}

nb::object copy_to_array(DType dtype, std::span<const std::int64_t> dims, const void* data, std::size_t size_bytes) {
  void* target = nullptr;
  nb::object array = new_array(dtype, dims, &target);
  if (size_bytes > 0) std::memcpy(target, data, size_bytes);
  return array;
}

HostTensor to_host_tensor(nb::handle object, std::string_view what) {
  Array array(object, what, DType::undefined, true);
  if (array.dtype() == DType::undefined) fail(Code::invalid_argument, what, ": an array was expected");
  HostTensor tensor;
  tensor.dtype = array.dtype();
  tensor.dims.assign(array.dims().begin(), array.dims().end());
  tensor.size_bytes = array.size_bytes();
  // A copy: what a network holds must not change when the caller goes on with his array.
  const std::shared_ptr<std::byte[]> copy(new (std::align_val_t{64})
                                              std::byte[std::max<std::size_t>(array.size_bytes(), 1)],
                                          [](std::byte* p) { ::operator delete[](p, std::align_val_t{64}); });
  if (array.size_bytes() > 0) std::memcpy(copy.get(), array.data(), array.size_bytes());
  tensor.data = copy.get();
  tensor.owner = copy;
  return tensor;
}

nb::object from_host_tensor(const HostTensor& tensor) {
  return copy_to_array(tensor.dtype, tensor.dims, tensor.data, tensor.size_bytes);
}

}  // namespace tenfold::python
