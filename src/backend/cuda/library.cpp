// What the runtime finds in libtenfold_cuda.so.
#include <map>
#include <mutex>

#include "backend/backend_library.hpp"
#include "backend/cuda/cubin.hpp"
#include "backend/cuda/cuda_backend.hpp"

extern "C" __attribute__((visibility("default"))) const tenfold::Backend* tenfold_open_backend(
    const tenfold::BackendHost& host, int device, tenfold::BackendFailure& failure) {
  using namespace tenfold;
  try {
    constexpr std::size_t kInterfaceSize = sizeof(KernelSpec) + sizeof(Launch) + sizeof(Problem) + sizeof(Candidate);
    require(host.version == TENFOLD_VERSION && host.interface_size == kInterfaceSize, Code::unsupported,
            "libtenfold_cuda.so belongs to Tenfold {}, this is Tenfold {}; install both from one build",
            TENFOLD_VERSION, host.version);
    set_log_sink(host.log, LogLevel::debug);
    // Never freed: kernels and streams may outlive every other object of the process.
    if (!host.preset.empty()) return cuda::make_offline_backend(cuda::preset_traits(host.preset)).release();
    return cuda::make_cuda_backend(device).release();
  } catch (const Error& error) {
    failure = {error.code(), error.message()};
  } catch (const std::exception& error) {
    failure = {Code::internal, error.what()};
  }
  return nullptr;
}

extern "C" __attribute__((visibility("default"))) bool tenfold_archive_code(const std::string& path,
                                                                            tenfold::CodeArchiveSummary& summary,
                                                                            tenfold::BackendFailure& failure) {
  using namespace tenfold;
  try {
    summary = cuda::merge_into_archive(path, cuda::compiled_so_far());
    return true;
  } catch (const Error& error) {
    failure = {error.code(), error.message()};
  } catch (const std::exception& error) {
    failure = {Code::internal, error.what()};
  }
  return false;
}
