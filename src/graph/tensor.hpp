// Tensors: the type of a value in the graph, and data on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/float16.hpp"
#include "base/float8.hpp"
#include "graph/dim.hpp"
#include "graph/dtype.hpp"

namespace tenfold {

/// Highest rank a tensor may have inside the compiler and runtime.
inline constexpr int kMaxRank = 8;

using Shape = std::vector<std::int64_t>;

/// Element type and dimensions of a value, outermost axis first, elements contiguous in row-major order.
struct TensorType {
  DType dtype = DType::undefined;
  std::vector<Dim> dims;

  int rank() const { return static_cast<int>(dims.size()); }
  bool is_static() const;
  /// The dims as integers. Requires is_static().
  Shape static_shape() const;
  Dim num_elements() const { return product(dims); }
  bool operator==(const TensorType&) const = default;
};
/// "float32[batch, 3, 224, 224]"
std::string to_string(const TensorType& type);
std::string to_string(const Shape& shape);

/// Product of the dims. Throws Error(invalid_argument) on a negative dim or on overflow of 63 bits.
std::int64_t num_elements(std::span<const std::int64_t> shape);

/// Constant data on the host: dtype, shape and shared, immutable, row-major bytes. Copies share the bytes.
class Tensor {
 public:
  Tensor() = default;
  /// Zero-filled, 64-byte aligned.
  Tensor(DType dtype, Shape shape);
  /// Borrows `data`, which `owner` keeps alive (a mapped file, for instance). Needs num_elements * size_of(dtype)
  /// bytes.
  Tensor(DType dtype, Shape shape, const void* data, std::shared_ptr<const void> owner);
  template <typename T>
  static Tensor from(DType dtype, Shape shape, std::span<const T> values);
  static Tensor of_int64(Shape shape, std::span<const std::int64_t> values);
  static Tensor scalar(float value);

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return static_cast<int>(shape_.size()); }
  std::int64_t num_elements() const { return num_elements_; }
  std::size_t size_bytes() const { return static_cast<std::size_t>(num_elements_) * size_of(dtype_); }
  bool empty() const { return dtype_ == DType::undefined; }
  const std::byte* data() const { return data_; }
  /// For filling a tensor just made with the first constructor. Requires that no copy shares it.
  std::byte* mutable_data();

  /// Elements as `T`, which must be the C++ type of dtype(): see `CppType`.
  template <typename T>
  std::span<const T> as() const {
    ensure(sizeof(T) == size_of(dtype_), "tensor of {} read as elements of {} bytes", to_string(dtype_), sizeof(T));
    return {reinterpret_cast<const T*>(data_), static_cast<std::size_t>(num_elements_)};
  }
  template <typename T>
  std::span<T> as_mutable() {
    ensure(sizeof(T) == size_of(dtype_), "tensor of {} written as elements of {} bytes", to_string(dtype_), sizeof(T));
    return {reinterpret_cast<T*>(mutable_data()), static_cast<std::size_t>(num_elements_)};
  }
  /// All elements of an integer or boolean tensor, widened.
  std::vector<std::int64_t> to_int64() const;
  /// All elements of any numeric tensor, converted to double.
  std::vector<double> to_double() const;
  /// The same bytes under another shape with as many elements.
  Tensor reshaped(Shape shape) const;
  TensorType type() const;
  /// Same dtype, shape and bytes.
  bool equals(const Tensor& other) const;

 private:
  DType dtype_ = DType::undefined;
  Shape shape_;
  std::int64_t num_elements_ = 0;
  const std::byte* data_ = nullptr;
  std::shared_ptr<const void> owner_;
};

/// A tensor in memory that somebody else owns, with the shape it has now.
/// `pitch`: elements from one row (last axis) to the next. It differs from dims.back() only where a kernel said that it
/// accepts views into a wider tensor; everything else is contiguous.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::undefined;
  std::span<const std::int64_t> dims;
  std::int64_t pitch = 0;

  int rank() const { return static_cast<int>(dims.size()); }
  std::int64_t dim(int axis) const { return dims[static_cast<std::size_t>(axis)]; }
  std::int64_t num_elements() const {
    std::int64_t n = 1;
    for (const std::int64_t d : dims) n *= d;
    return n;
  }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
  bool is_contiguous() const { return dims.empty() || pitch == dims.back(); }
};
/// A contiguous, read-only view. The caller must not write through it; `tensor` must outlive it.
TensorView view_of(const Tensor& tensor);

/// Calls `f.template operator()<T>()` with the C++ type of `dtype`. Throws Error(internal) for `undefined`.
template <typename F>
decltype(auto) dispatch(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float32:
      return f.template operator()<float>();
    case DType::float64:
      return f.template operator()<double>();
    case DType::float16:
      return f.template operator()<Float16>();
    case DType::bfloat16:
      return f.template operator()<BFloat16>();
    case DType::int8:
      return f.template operator()<std::int8_t>();
    case DType::uint8:
      return f.template operator()<std::uint8_t>();
    case DType::int16:
      return f.template operator()<std::int16_t>();
    case DType::uint16:
      return f.template operator()<std::uint16_t>();
    case DType::int32:
      return f.template operator()<std::int32_t>();
    case DType::uint32:
      return f.template operator()<std::uint32_t>();
    case DType::int64:
      return f.template operator()<std::int64_t>();
    case DType::uint64:
      return f.template operator()<std::uint64_t>();
    case DType::boolean:
      return f.template operator()<bool>();
    case DType::float8e4m3:
      return f.template operator()<Float8E4M3>();
    case DType::undefined:
      break;
  }
  throw Error(Code::internal, "dispatch on an undefined dtype");
}

template <typename T>
Tensor Tensor::from(DType dtype, Shape shape, std::span<const T> values) {
  Tensor tensor(dtype, std::move(shape));
  auto out = tensor.as_mutable<T>();
  ensure(out.size() == values.size(), "tensor of {} elements filled with {}", out.size(), values.size());
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = values[i];
  return tensor;
}

}  // namespace tenfold
