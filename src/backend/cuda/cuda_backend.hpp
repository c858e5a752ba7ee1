// The CUDA backend: one object per device.
#pragma once

#include <memory>

#include "backend/backend.hpp"
#include "backend/cuda/cuda_tactic.hpp"

namespace tenfold::cuda {

/// Device number `device` of the driver. Throws Error(device_failure): no driver, no such device, one older than sm_80.
std::unique_ptr<Backend> make_cuda_backend(int device);

/// A backend that offers, packs and compiles for `traits` but has no device: for tests, and for what can be said about
/// a model on a machine without a GPU. Whatever needs the device throws Error(device_failure).
std::unique_ptr<Backend> make_offline_backend(DeviceTraits traits);

}  // namespace tenfold::cuda
