#include "build/operands.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace tenfold {
namespace {

constexpr std::size_t kAlignment = 64;

/// Random numbers in [-1, 1) for floats (xorshift64*; fixed seed: timing only), zeros otherwise: an index of 0 is
/// always legal.
void fill(std::byte* data, DType dtype, std::int64_t count) {
  std::memset(data, 0, static_cast<std::size_t>(count) * size_of(dtype));
  if (!is_float(dtype) && dtype != DType::float8e4m3) return;
  std::uint64_t state = 0x9e3779b97f4a7c15U;
  dispatch(dtype, [&]<typename T>() {
    if constexpr (!std::is_integral_v<T>) {
      T* values = reinterpret_cast<T*>(data);
      for (std::int64_t i = 0; i < count; ++i) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        values[i] = T(static_cast<float>(static_cast<std::int32_t>((state * 0x2545f4914f6cdd1dU) >> 32)) * 0x1p-31F);
      }
    }
  });
}

}  // namespace

std::shared_ptr<std::byte> aligned_bytes(std::size_t bytes) {
  const std::size_t rounded = (std::max<std::size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded));
  require(memory != nullptr, Code::out_of_memory, "timing a kernel needs {} bytes, which the machine does not have",
          bytes);
  return {memory, [](std::byte* p) { std::free(p); }};
}

Operand make_operand(const Backend& backend, Stream& stream, const TensorType& type, const Shape& shape,
                     const Tensor* data) {
  Operand operand;
  operand.view.dtype = type.dtype;
  operand.view.dims = shape;
  operand.view.pitch = shape.empty() ? 1 : shape.back();
  if (type.dtype == DType::undefined) return operand;
  const std::int64_t count = num_elements(shape);
  const std::size_t bytes = static_cast<std::size_t>(count) * size_of(type.dtype);
  operand.buffer = backend.allocate(std::max<std::size_t>(bytes, 1));
  operand.view.data = operand.buffer->data();
  if (data != nullptr) {
    backend.copy_to_device(operand.view.data, data->data(), bytes, stream);
  } else {
    const std::shared_ptr<std::byte> host = aligned_bytes(bytes);
    fill(host.get(), type.dtype, count);
    backend.copy_to_device(operand.view.data, host.get(), bytes, stream);
  }
  stream.synchronize();
  return operand;
}

}  // namespace tenfold
