#include "engine/half_weights.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "base/checked.hpp"
#include "base/error.hpp"
#include "base/float16.hpp"

namespace tenfold {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::uint64_t kLeastBytes = 1024;  // a shorter run saves less than it is worth to note it
constexpr std::size_t kPageBytes = 4096;

struct Run {
  std::uint64_t offset = 0, bytes = 0;
};

void collect(const std::vector<PlanStep>& steps, std::vector<Run>& runs) {
  for (const PlanStep& step : steps) {
    for (const PlanChoice& choice : step.choices) {
      for (const PlanWeight& weight : choice.weights) runs.push_back({weight.offset, weight.size});
    }
    for (const PlanBlock& block : step.blocks) collect(block.steps, runs);
  }
}

bool is_all_half(std::span<const std::byte> bytes) {
  for (std::size_t i = 0; i < bytes.size(); i += sizeof(float)) {
    std::uint32_t word;
    std::memcpy(&word, &bytes[i], sizeof word);
    // Not `==` of floats: zeros have signs, and NaN must not change its bits.
    if (std::bit_cast<std::uint32_t>(Float16::decode(Float16::encode(std::bit_cast<float>(word)))) != word)
      return false;
  }
  return true;
}

/// Disjoint, in order.
std::vector<Run> find_runs(const Plan& plan, std::span<const std::byte> weights) {
  std::vector<Run> candidates, runs;
  collect(plan.steps, candidates);
  for (const PlanValue& value : plan.values) {
    if (value.storage != Storage::constant || value.type.dtype != DType::float32 || !value.type.is_static()) continue;
    candidates.push_back(
        {value.constant_offset, static_cast<std::uint64_t>(num_elements(value.type.static_shape())) * sizeof(float)});
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const Run& a, const Run& b) { return a.offset != b.offset ? a.offset < b.offset : a.bytes > b.bytes; });
  std::uint64_t end = 0;
  for (const Run& run : candidates) {
    if (run.offset < end || run.bytes < kLeastBytes || run.bytes % sizeof(float) != 0) continue;
    if (!fits(run.offset, run.bytes, weights.size()) || !is_all_half(weights.subspan(run.offset, run.bytes))) continue;
    runs.push_back(run);
    end = run.offset + run.bytes;
  }
  return runs;
}

void append(std::vector<std::byte>& to, std::span<const std::byte> bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}
void append(std::vector<std::byte>& to, std::uint64_t number) { append(to, std::as_bytes(std::span(&number, 1))); }

void check(bool holds, std::string_view rule) {
  require(holds, Code::incompatible_engine, "section 'halves': {}", rule);
}

}  // namespace

std::optional<HalfWeights> split_half_weights(const Plan& plan, std::span<const std::byte> weights) {
  const std::vector<Run> runs = find_runs(plan, weights);
  std::uint64_t saved = 0;
  for (const Run& run : runs) saved += run.bytes / 2;
  if (saved <= 2 * kPageBytes) return std::nullopt;  // sections begin at pages
  HalfWeights result;
  append(result.section, weights.size());
  append(result.section, runs.size());
  for (const Run& run : runs) {
    append(result.section, run.offset);
    append(result.section, run.bytes);
  }
  result.section.resize((result.section.size() + kAlignment - 1) / kAlignment * kAlignment);
  std::uint64_t done = 0;
  for (const Run& run : runs) {
    append(result.rest, weights.subspan(done, run.offset - done));
    done = run.offset + run.bytes;
    const std::size_t at = result.section.size();
    result.section.resize(at + run.bytes / 2);
    for (std::uint64_t i = 0; i < run.bytes / sizeof(float); ++i) {
      float number;
      std::memcpy(&number, &weights[run.offset + i * sizeof(float)], sizeof number);
      const std::uint16_t half = Float16::encode(number);
      std::memcpy(&result.section[at + i * sizeof half], &half, sizeof half);
    }
  }
  append(result.rest, weights.subspan(done));
  return result;
}

WeightData join_half_weights(std::span<const std::byte> section, std::span<const std::byte> rest) {
  const auto number = [&](std::uint64_t index) {
    std::uint64_t value = 0;
    std::memcpy(&value, &section[index * sizeof value], sizeof value);
    return value;
  };
  check(section.size() >= 2 * sizeof(std::uint64_t), "it is cut off");
  const std::uint64_t total = number(0), count = number(1);
  check(count <= section.size() / (2 * sizeof(std::uint64_t)) - 1, "it has more runs than bytes for them");
  const std::uint64_t table = (count + 1) * 2 * sizeof(std::uint64_t);
  const std::uint64_t numbers = (table + kAlignment - 1) / kAlignment * kAlignment;
  check(numbers <= section.size(), "it is cut off");
  check(std::all_of(&section[table], section.data() + numbers, [](std::byte b) { return b == std::byte{0}; }),
        "its padding is not zero");
  // Every byte of the weights comes from a byte here, so a small file cannot ask for all memory.
  const std::uint64_t halves = section.size() - numbers;
  check(total == rest.size() + 2 * halves, "the sizes of the weights and of its parts differ");

  const std::size_t reserved = (total / kPageBytes + 1) * kPageBytes;
  const std::shared_ptr<void> memory(std::aligned_alloc(kPageBytes, reserved), [](void* p) { std::free(p); });
  require(memory != nullptr, Code::out_of_memory, "the weights of {} bytes do not fit in memory", total);
  auto* to = static_cast<std::byte*>(memory.get());
  std::uint64_t done = 0, taken = 0, at = numbers;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t offset = number(2 + 2 * i), bytes = number(3 + 2 * i);
    check(offset >= done && fits(offset, bytes, total), "its runs overlap or do not lie in the weights");
    check(bytes % sizeof(float) == 0 && offset % sizeof(float) == 0, "a run is no sequence of float32 numbers");
    check(offset - done <= rest.size() - taken && bytes / 2 <= section.size() - at,
          "its runs are longer than its numbers");
    if (offset > done) std::memcpy(to + done, &rest[taken], offset - done);
    taken += offset - done;
    for (std::uint64_t k = 0; k < bytes / sizeof(float); ++k) {
      std::uint16_t half;
      std::memcpy(&half, &section[at + k * sizeof half], sizeof half);
      const float value = Float16::decode(half);
      std::memcpy(to + offset + k * sizeof value, &value, sizeof value);
    }
    at += bytes / 2;
    done = offset + bytes;
  }
  check(at == section.size() && total - done == rest.size() - taken,
        "the sizes of the weights and of its parts differ");
  if (total > done) std::memcpy(to + done, &rest[taken], total - done);
  return {to, total, memory};
}

}  // namespace tenfold
