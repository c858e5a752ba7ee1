// Tensors on a device to time kernels and networks with.
#pragma once

#include <cstddef>
#include <memory>

#include "backend/backend.hpp"

namespace tenfold {

/// Host memory as kernels expect it. Throws Error(out_of_memory).
std::shared_ptr<std::byte> aligned_bytes(std::size_t bytes);

struct Operand {
  std::unique_ptr<Buffer> buffer;
  TensorView view;
};

/// A tensor that holds `data`, or random numbers (zeros if they are integers: a legal index) if it is nullptr.
/// `shape` must outlive the result.
Operand make_operand(const Backend& backend, Stream& stream, const TensorType& type, const Shape& shape,
                     const Tensor* data);

}  // namespace tenfold
