// Source: ptxas of CUDA 12 and 13 with --verbose. The lines of one entry:
//
//   ptxas info    : Compiling entry function 'NAME' for 'sm_90a'
//   ptxas info    : Function properties for NAME
//       272 bytes stack frame, 536 bytes spill stores, 560 bytes spill loads
//   ptxas info    : Used 32 registers, used 1 barriers, 272 bytes cumulative stack size, 128 bytes smem
#include "backend/cuda/ptxas_log.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

namespace tenfold::cuda {
namespace {

/// The number in front of `unit`, as in "32 registers".
std::optional<std::int64_t> number_of(std::string_view line, std::string_view unit) {
  const std::size_t at = line.find(unit);
  if (at == std::string_view::npos || at < 2 || line[at - 1] != ' ') return std::nullopt;
  const std::size_t end = at - 1;
  const std::size_t before = line.find_last_not_of("0123456789", end - 1);
  const std::size_t begin = before == std::string_view::npos ? 0 : before + 1;
  std::int64_t number = 0;
  const auto [stop, problem] = std::from_chars(line.data() + begin, line.data() + end, number);
  if (problem != std::errc{} || stop != line.data() + end) return std::nullopt;
  return number;
}

/// "NAME" of "... 'NAME' for ..."
std::string_view quoted(std::string_view line) {
  const std::size_t begin = line.find('\'');
  if (begin == std::string_view::npos) return {};
  const std::size_t end = line.find('\'', begin + 1);
  return end == std::string_view::npos ? std::string_view{} : line.substr(begin + 1, end - begin - 1);
}

}  // namespace

PtxasReport read_ptxas_log(std::string_view log) {
  PtxasReport report;
  while (!log.empty()) {
    const std::size_t end = std::min(log.find('\n'), log.size());
    const std::string_view line = log.substr(0, end);
    log.remove_prefix(std::min(end + 1, log.size()));
    if (line.find("(C75") != std::string_view::npos) {
      report.serialised.emplace_back(line);
    } else if (line.find("Compiling entry function") != std::string_view::npos) {
      report.entries.emplace_back().entry = quoted(line);
    } else if (report.entries.empty()) {
      continue;
    } else if (const auto stack = number_of(line, "bytes stack frame")) {
      CodeFacts& facts = report.entries.back();
      facts.stack_bytes += *stack;
      facts.spill_store_bytes += number_of(line, "bytes spill stores").value_or(0);
      facts.spill_load_bytes += number_of(line, "bytes spill loads").value_or(0);
    } else if (const auto registers = number_of(line, "registers")) {
      CodeFacts& facts = report.entries.back();
      facts.registers = static_cast<int>(*registers);
      facts.shared_bytes = number_of(line, "bytes smem").value_or(0);
    }
  }
  return report;
}

}  // namespace tenfold::cuda
