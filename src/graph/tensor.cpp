#include "graph/tensor.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

namespace tenfold {
namespace {

constexpr std::size_t kAlignment = 64;

std::shared_ptr<void> allocate_zeroed(std::size_t bytes) {
  const std::size_t rounded = (std::max<std::size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  void* memory = std::aligned_alloc(kAlignment, rounded);
  require(memory != nullptr, Code::out_of_memory, "a tensor of {} bytes does not fit in memory", bytes);
  std::memset(memory, 0, rounded);
  return {memory, [](void* p) { std::free(p); }};
}

}  // namespace

bool TensorType::is_static() const {
  for (const Dim& dim : dims) {
    if (!dim.is_constant()) return false;
  }
  return true;
}
Shape TensorType::static_shape() const {
  Shape shape;
  shape.reserve(dims.size());
  for (const Dim& dim : dims) shape.push_back(dim.constant());
  return shape;
}
std::string to_string(const TensorType& type) { return std::string(to_string(type.dtype)) + to_string(type.dims); }
std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

std::int64_t num_elements(std::span<const std::int64_t> shape) {
  std::int64_t count = 1;
  bool overflow = false;
  for (const std::int64_t dim : shape) {
    require(dim >= 0, Code::invalid_argument, "shape [{}] has a negative dimension", fmt::join(shape, ", "));
    if (dim == 0) return 0;
    overflow = overflow || __builtin_mul_overflow(count, dim, &count);
  }
  require(!overflow && count < kUnbounded, Code::invalid_argument, "shape [{}] has too many elements",
          fmt::join(shape, ", "));
  return count;
}

Tensor::Tensor(DType dtype, Shape shape)
    : dtype_(dtype), shape_(std::move(shape)), num_elements_(tenfold::num_elements(shape_)) {
  std::shared_ptr<void> memory = allocate_zeroed(size_bytes());
  data_ = static_cast<const std::byte*>(memory.get());
  owner_ = std::move(memory);
}

Tensor::Tensor(DType dtype, Shape shape, const void* data, std::shared_ptr<const void> owner)
    : dtype_(dtype),
      shape_(std::move(shape)),
      num_elements_(tenfold::num_elements(shape_)),
      data_(static_cast<const std::byte*>(data)),
      owner_(std::move(owner)) {}

Tensor Tensor::of_int64(Shape shape, std::span<const std::int64_t> values) {
  return from<std::int64_t>(DType::int64, std::move(shape), values);
}
Tensor Tensor::scalar(float value) { return from<float>(DType::float32, {}, std::span<const float>(&value, 1)); }

std::byte* Tensor::mutable_data() {
  ensure(owner_.use_count() <= 1, "a shared tensor is written");
  return const_cast<std::byte*>(data_);  // NOLINT(cppcoreguidelines-pro-type-const-cast): made by the first constructor
}

std::vector<std::int64_t> Tensor::to_int64() const {
  ensure(is_integer(dtype_) || dtype_ == DType::boolean, "a tensor of {} read as integers", to_string(dtype_));
  std::vector<std::int64_t> values;
  values.reserve(static_cast<std::size_t>(num_elements_));
  dispatch(dtype_, [&]<typename T>() {
    if constexpr (std::is_integral_v<T>) {
      for (const T value : as<T>()) values.push_back(static_cast<std::int64_t>(value));
    }
  });
  return values;
}

std::vector<double> Tensor::to_double() const {
  std::vector<double> values;
  values.reserve(static_cast<std::size_t>(num_elements_));
  dispatch(dtype_, [&]<typename T>() {
    for (const T& value : as<T>()) values.push_back(static_cast<double>(value));
  });
  return values;
}

Tensor Tensor::reshaped(Shape shape) const {
  ensure(tenfold::num_elements(shape) == num_elements_, "tensor of shape {} reshaped to {}", to_string(shape_),
         to_string(shape));
  Tensor result = *this;
  result.shape_ = std::move(shape);
  return result;
}

TensorType Tensor::type() const { return {dtype_, std::vector<Dim>(shape_.begin(), shape_.end())}; }

bool Tensor::equals(const Tensor& other) const {
  return dtype_ == other.dtype_ && shape_ == other.shape_ &&
         (size_bytes() == 0 || std::memcmp(data_, other.data_, size_bytes()) == 0);
}

TensorView view_of(const Tensor& tensor) {
  TensorView view;
  view.data =
      const_cast<std::byte*>(tensor.data());  // NOLINT(cppcoreguidelines-pro-type-const-cast): read-only by contract
  view.dtype = tensor.dtype();
  view.dims = tensor.shape();
  view.pitch = tensor.shape().empty() ? 1 : tensor.shape().back();
  return view;
}

}  // namespace tenfold
