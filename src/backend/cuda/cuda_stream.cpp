#include "backend/cuda/cuda_tactic.hpp"

namespace tenfold::cuda {

CudaStream::~CudaStream() {
  if (!owns_ || handle_ == nullptr) return;
  driver().set_context(context_);
  driver().stream_destroy(handle_);  // a failed device refuses even this; there is nothing left to do
}

void CudaStream::synchronize() {
  make_current();
  check(driver().stream_synchronize(handle_), "waiting for the device");
}

void CudaStream::launch_pointers(const LaunchConfig& config, void** arguments) {
  std::array<CUlaunchAttribute, 2> attributes;
  unsigned count = 0;
  if (config.cluster.x * config.cluster.y * config.cluster.z > 1) {
    CUlaunchAttribute& attribute = attributes[count++];
    attribute.id = kAttributeCluster;
    attribute.value.cluster[0] = config.cluster.x;
    attribute.value.cluster[1] = config.cluster.y;
    attribute.value.cluster[2] = config.cluster.z;
  }
  if (config.pdl && has_pdl_) {
    CUlaunchAttribute& attribute = attributes[count++];
    attribute.id = kAttributeProgrammaticSerialization;
    attribute.value.programmatic_serialization = 1;
  }
  if (config.grid.x == 0 || config.grid.y == 0 || config.grid.z == 0) return;  // nothing to do; the driver refuses it
  const CUlaunchConfig launch{config.grid.x,  config.grid.y,     config.grid.z, config.block.x,    config.block.y,
                              config.block.z, config.smem_bytes, handle_,       attributes.data(), count};
  make_current();
  check(driver().launch(&launch, config.function, arguments, nullptr), "launching a kernel");
}

void CudaStream::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  make_current();
  check(driver().copy_on_device(reinterpret_cast<CUdeviceptr>(to), reinterpret_cast<CUdeviceptr>(from), bytes, handle_),
        "copying on the device");
}

void CudaStream::fill(void* to, unsigned char value, std::size_t bytes) {
  if (bytes == 0) return;
  make_current();
  check(driver().fill_bytes(reinterpret_cast<CUdeviceptr>(to), value, bytes, handle_), "filling device memory");
}

void CudaStream::read(void* host, const void* from, std::size_t bytes) {
  make_current();
  check(driver().copy_to_host(host, reinterpret_cast<CUdeviceptr>(from), bytes, handle_), "copying from the device");
  synchronize();
}

void CudaStream::write(void* to, const void* host, std::size_t bytes) {
  make_current();
  check(driver().copy_to_device(reinterpret_cast<CUdeviceptr>(to), host, bytes, handle_), "copying to the device");
  synchronize();
}

}  // namespace tenfold::cuda
