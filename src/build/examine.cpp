#include "build/examine.hpp"

#include <algorithm>
#include <set>

#include "base/all_cores.hpp"
#include "base/error.hpp"
#include "base/hash.hpp"
#include "build/tactics.hpp"

namespace tenfold {
std::vector<ExaminedKernel> examine(std::span<const Problem> problems, std::span<const std::string> nodes,
                                    const Backend& backend, KernelQuestion question, int opt_level, int num_threads,
                                    const std::function<void(std::size_t done, std::size_t all)>& on_progress) {
  const std::vector<PromisingKernel> promising = promising_kernels(problems, backend, opt_level, num_threads);
  std::vector<ExaminedKernel> kernels(promising.size());
  std::vector<Hash128> codes(promising.size());
  std::vector<std::uint8_t> has_code(promising.size());  // bytes, so that threads write to them
  const auto examine_one = [&](std::size_t i) {
    const Candidate& candidate = promising[i].candidate;
    ExaminedKernel& kernel = kernels[i];
    kernel.node = nodes[promising[i].problem];
    kernel.tactic = candidate.tactic;
    kernel.parameters = candidate.parameters;
    try {
      const PackedSpec packed = pack_spec(problems[promising[i].problem], candidate, backend);
      if (question == KernelQuestion::facts) kernel.entries = backend.examine_code(packed.spec);
      const std::vector<std::byte> code = backend.device_code(packed.spec);
      has_code[i] = !code.empty();
      codes[i] = hash128(code);
    } catch (const Error& error) {
      const bool is_answer =
          error.code() == Code::internal || (question == KernelQuestion::code && error.code() == Code::unsupported);
      if (!is_answer) throw error.in_context(kernel.node);
      kernel.problem = error.message();
    }
  };
  run_on_all_cores(promising.size(), examine_one, on_progress);

  std::vector<ExaminedKernel> result;
  std::set<Hash128> seen;
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    const bool is_new = has_code[i] != 0 && seen.insert(codes[i]).second;
    if (is_new || !kernels[i].problem.empty()) result.push_back(std::move(kernels[i]));
  }
  return result;
}

}  // namespace tenfold
