// What the assembler says of the code it made, read from its log.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.hpp"

namespace tenfold::cuda {

struct PtxasReport {
  std::vector<CodeFacts> entries;  ///< in the log's order
  /// The assembler's lines about products of warpgroups that it serialises or waits for early (C75xx), which costs a
  /// kernel up to half of its speed.
  std::vector<std::string> serialised;
};
/// Reads the log of `ptxas -v`, alone or out of NVRTC. What a function spills that was not inlined counts for the entry
/// in front of it. Lines of another form are passed over.
PtxasReport read_ptxas_log(std::string_view log);

}  // namespace tenfold::cuda
