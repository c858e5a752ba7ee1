// CUDA C++ text -> machine code, by NVRTC, which is opened at run time; kept in a folder so that nothing is compiled
// twice on a machine.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "backend/cuda/cubin_archive.hpp"
#include "backend/cuda/cuda_tactic.hpp"

namespace tenfold::cuda {

struct Cubin {
  std::vector<std::byte> code;
  std::string log;   ///< the compiler's, with registers and spills of every entry: see ptxas_log.hpp
  int compiler = 0;  ///< its CUDA version: 13050 is 13.5
};

/// Compiles for the compute capability `sm`. Thread-safe.
/// Throws Error(unsupported) where NVRTC cannot be opened, Error(internal) with the compiler's log for a broken text.
Cubin compile_source(const Source& source, int sm);
/// The same, once for each text in a process, whatever is known of it elsewhere; the code goes into the caches below.
std::shared_ptr<const Cubin> compiled_cubin(const Source& source, int sm);
/// All that compiled_cubin has made so far, by what cached_cubin looks for in an archive.
std::vector<KeyedCode> compiled_so_far();

/// compile_source behind what is known already, in this order: what this process has seen; an archive of kernels that
/// were compiled ahead of time (cubin_archive.hpp), TENFOLD_CUBINS or tenfold_cuda.cubins beside this library or in
/// ../lib; files in $TENFOLD_CACHE_DIR, $XDG_CACHE_HOME/tenfold or ~/.cache/tenfold, named by the hash of text and
/// architecture and by the compiler's version, each with the hash of its content. Without a compiler, what any version
/// made is welcome. A damaged or unreadable file is compiled anew, a folder that cannot be written is not used.
std::shared_ptr<const std::vector<std::byte>> cached_cubin(const Source& source, int sm);

/// "sm_90a"
std::string architecture_name(int sm);

}  // namespace tenfold::cuda
