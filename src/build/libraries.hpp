// Which libraries of a GPU's maker a build may take kernels from, as options name them.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "backend/backend.hpp"

namespace tenfold {

/// Reads a list like "cublas_lt,cudnn" or, as trtexec spells it, "+CUDNN,+CUBLAS_LT,-CUDNN" into `libraries`: a name,
/// or a name behind '+', adds, a name behind '-' removes. Upper and lower case are the same, CUBLAS is CUBLAS_LT; the
/// sources EDGE_MASK_CONVOLUTIONS and JIT_CONVOLUTIONS of TensorRT stand for kernels that are always there, and change
/// nothing. Throws Error(invalid_argument) with the known names for another.
void read_tactic_sources(std::string_view list, LibraryTactics& libraries);
LibraryTactics read_tactic_sources(std::span<const std::string> lists);
/// "cublas_lt,cudnn"; "" for none.
std::string to_string(const LibraryTactics& libraries);

}  // namespace tenfold
