// Machine code for pointwise programs, made when an engine is loaded and never stored: one loop over the operands with
// every intermediate value in a register.
#pragma once

#include <memory>

#include "backend/cpu/compiled_pointwise.hpp"
#include "base/executable_memory.hpp"

namespace tenfold {
struct PointwiseProgram;
}

namespace tenfold::cpu {

/// A compiled program and what its `native` lies in.
struct LoadedPointwise {
  CompiledPointwise program;
  std::shared_ptr<const ExecutableMemory> code;  ///< nullptr: kernels interpret the program
};

/// compile_pointwise, with machine code for tier() where that is possible: the program has at most
/// NativePointwiseArgs::kMaxInputs inputs and neither sine nor cosine, the system allows executable memory, and
/// TENFOLD_CPU_JIT does not say no. Equal programs share their code. Safe from any thread.
LoadedPointwise load_pointwise(const PointwiseProgram& program);

}  // namespace tenfold::cpu
