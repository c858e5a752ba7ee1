// Changed engine files, thousands of them. Two kinds:
//   damaged   bytes changed, nothing repaired: must be refused, all of them
//   resealed  changed, then every hash computed anew, as somebody hostile would: must be refused, or run to the end
// Each batch runs in a child process, so that a crash or an endless run costs one mutant and is reported with its
// number; `engine_mutants --only NUMBER` repeats it.
//
//   engine_mutants [--count N] [--seed S] [--only NUMBER]
#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "engine/container.hpp"
#include "formats/run_engine.hpp"
#include "formats/small_plans.hpp"
#include "graph/text.hpp"

namespace tenfold::test {
namespace {

using Bytes = std::vector<std::byte>;

constexpr unsigned kSecondsPerMutant = 20;
constexpr rlim_t kAddressSpace = rlim_t{8} << 30;
constexpr int kBatch = 500;

/// What became of the mutants of one kind.
enum Outcome : std::size_t { refused, same_answer, other_answer, failed_to_run, unchanged, crashed, kNumOutcomes };
constexpr std::array<const char*, kNumOutcomes> kOutcomeNames = {"refused",
                                                                 "accepted, same answer",
                                                                 "accepted, other answer",
                                                                 "accepted, failed to run",
                                                                 "not changed at all",
                                                                 "crashed or endless"};
enum Kind : std::size_t { damaged, resealed, kNumKinds };
constexpr std::array<const char*, kNumKinds> kKindNames = {"damaged", "resealed"};
using Counts = std::array<std::array<long, kNumOutcomes>, kNumKinds>;

struct Original {
  std::string name;
  Bytes file;
  Bytes answer;
};

class Mutator {
 public:
  Mutator(const std::vector<Original>& originals, std::uint64_t seed) : originals_(originals), random_(seed) {}

  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : random_() % limit; }
  const Original& pick() { return originals_[below(originals_.size())]; }

  /// Changes bytes without regard for the format.
  void change(Bytes& bytes) {
    if (bytes.empty()) return;
    static constexpr std::array<std::uint64_t, 10> kNumbers = {0,          UINT64_MAX, 0x7fffffff, 16,         1,
                                                               0x80000000, UINT32_MAX, 1ULL << 40, 1ULL << 63, 2};
    switch (below(6)) {
      case 0:
        bytes[below(bytes.size())] ^= static_cast<std::byte>(1U << below(8));
        break;
      case 1:
        bytes[below(bytes.size())] = static_cast<std::byte>(random_());
        break;
      case 2: {  // an aligned word
        const std::size_t size = below(2) == 0 ? 4 : 8;
        if (bytes.size() < size) break;
        const std::size_t at = below(bytes.size() / size) * size;
        const std::uint64_t number = kNumbers[below(kNumbers.size())];
        std::memcpy(bytes.data() + at, &number, std::min(size, bytes.size() - at));
        break;
      }
      case 3: {  // a word a little larger or smaller
        if (bytes.size() < 4) break;
        const std::size_t at = below(bytes.size() - 3);
        std::uint32_t number = 0;
        std::memcpy(&number, bytes.data() + at, sizeof number);
        number += static_cast<std::uint32_t>(below(9)) - 4;
        std::memcpy(bytes.data() + at, &number, sizeof number);
        break;
      }
      case 4: {  // a piece copied over another
        const std::size_t size = 1 + below(std::min<std::size_t>(bytes.size(), 64));
        const std::size_t from = below(bytes.size() - size + 1), to = below(bytes.size() - size + 1);
        std::memmove(bytes.data() + to, bytes.data() + from, size);
        break;
      }
      default: {  // a piece taken out, or put in twice
        const std::size_t size = 1 + below(std::min<std::size_t>(bytes.size(), 32));
        const auto at = bytes.begin() + static_cast<std::ptrdiff_t>(below(bytes.size() - size + 1));
        if (below(2) == 0) {
          bytes.erase(at, at + static_cast<std::ptrdiff_t>(size));
        } else {
          const Bytes piece(at, at + static_cast<std::ptrdiff_t>(size));
          bytes.insert(at, piece.begin(), piece.end());
        }
      }
    }
  }

  Bytes damage(const Original& original) {
    Bytes bytes = original.file;
    switch (below(4)) {
      case 0:
        bytes.resize(below(bytes.size()));
        break;
      case 1: {  // the end of another engine
        const Bytes& other = pick().file;
        const std::size_t at = below(std::min(bytes.size(), other.size()));
        bytes.resize(at);
        bytes.insert(bytes.end(), other.begin() + static_cast<std::ptrdiff_t>(at), other.end());
        break;
      }
      case 2: {  // two pages swapped, as sections begin on pages
        const std::size_t pages = bytes.size() / kSectionAlignment;
        const std::size_t a = below(pages) * kSectionAlignment, b = below(pages) * kSectionAlignment;
        std::swap_ranges(bytes.begin() + static_cast<std::ptrdiff_t>(a),
                         bytes.begin() + static_cast<std::ptrdiff_t>(std::min(a + kSectionAlignment, bytes.size())),
                         bytes.begin() + static_cast<std::ptrdiff_t>(b));
        break;
      }
      default:
        for (std::size_t i = 0; i <= below(4); ++i) change(bytes);
    }
    return bytes;
  }

  Bytes reseal(const Original& original) {
    const Container container = read_container(original.file);
    std::vector<Bytes> contents;
    for (const Section& section : container.sections) contents.emplace_back(section.bytes.begin(), section.bytes.end());
    std::vector<SectionId> ids;
    for (const Section& section : container.sections) ids.push_back(section.id);
    switch (below(8)) {
      case 0: {  // a section of another engine
        const Original& other = pick();
        const Container donor = read_container(other.file);
        const std::size_t i = below(contents.size());
        if (const Section* section = donor.find(ids[i]))
          contents[i].assign(section->bytes.begin(), section->bytes.end());
        break;
      }
      case 1:  // two sections swapped
        std::swap(contents[below(contents.size())], contents[below(contents.size())]);
        break;
      case 2: {  // one missing, or the next one in its place twice
        const std::size_t i = below(contents.size());
        contents.erase(contents.begin() + static_cast<std::ptrdiff_t>(i));
        ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(i));
        if (below(2) == 0 && i < contents.size()) {
          contents.push_back(contents[i]);
          ids.push_back(ids[i]);
        }
        break;
      }
      case 3:
        change(contents[below(contents.size())]);
        break;
      default:  // mostly the plan, which decides everything
        for (std::size_t i = 0; i <= below(3); ++i) change(contents[0]);
    }
    std::vector<Section> sections;
    for (std::size_t i = 0; i < contents.size(); ++i) sections.push_back({ids[i], contents[i]});
    Bytes bytes;
    for (const auto piece : write_container(container.backend, container.target, std::move(sections)).pieces) {
      bytes.insert(bytes.end(), piece.begin(), piece.end());
    }
    return bytes;
  }

 private:
  const std::vector<Original>& originals_;
  std::mt19937_64 random_;
};

Outcome try_file(const Bytes& bytes, const Original& original, const std::vector<Original>& originals,
                 std::string& message) {
  // Cut off at the very beginning, and another engine put in its place, it is that engine.
  for (const Original& whole : originals) {
    if (bytes == whole.file) return unchanged;
  }
  std::optional<Engine> engine;
  try {
    (void)read_engine(bytes, {.read_portable = true});
    engine = Engine::load(bytes, test_load_options());
  } catch (const Error& error) {
    message = error.message();
    return refused;
  }
  try {
    return run_all_profiles(*engine) == original.answer ? same_answer : other_answer;
  } catch (const Error& error) {
    message = error.message();
    return failed_to_run;
  }
}

struct Shared {
  Counts counts{};
  long current = 0;
};

void try_mutant(const std::vector<Original>& originals, std::uint64_t seed, long number, Shared& shared, bool verbose) {
  Mutator mutator(originals, seed * 1'000'003 + static_cast<std::uint64_t>(number));
  const Original& original = mutator.pick();
  const Kind kind = number % 4 == 0 ? damaged : resealed;  // what the hashes stop needs fewer tries
  const Bytes bytes = kind == damaged ? mutator.damage(original) : mutator.reseal(original);
  if (verbose) {
    std::printf("mutant %ld of %s, %s, %zu bytes\n", number, original.name.c_str(), kKindNames[kind], bytes.size());
    std::fflush(stdout);
  }
  std::string message;
  const Outcome outcome = try_file(bytes, original, originals, message);
  ++shared.counts[kind][outcome];
  if (verbose) std::printf("%s: %s\n", kOutcomeNames[outcome], message.c_str());
  // A damaged file that is accepted, or that stops the run instead of the load, is what the hashes are there for.
  if (kind == damaged && outcome != refused && outcome != unchanged) {
    std::printf("mutant %ld of %s is damaged, but was not refused\n", number, original.name.c_str());
  }
}

std::vector<Original> make_originals() {
  std::vector<Original> originals;
  const Graph graph = parse_graph(
      "graph net(%x: float32[batch, 4]) { %w = constant float32[4, 3] iota %y = MatMul(%x, %w) return %y }");
  const auto add = [&](const std::string& name, const Bytes& file) {
    originals.push_back({name, file, run_all_profiles(Engine::load(file, test_load_options()))});
  };
  add("classifier", classifier().file());
  add("classifier with a portable section", classifier().file({.portable = &graph}));
  for (const auto& [name, engine] : control_flow_engines()) add(name, engine.file());
  for (const auto& [name, engine] : built_engines()) add(name, engine.file());
  return originals;
}

int run(long count, std::uint64_t seed, long only) {
  const std::vector<Original> originals = make_originals();
  void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 2;
  auto& shared = *new (memory) Shared;
  if (only >= 0) {
    try_mutant(originals, seed, only, shared, true);
    return 0;
  }
  long bad = 0;
  for (long next = 0; next < count;) {
    const long end = std::min(count, next + kBatch);
    std::fflush(stdout);
    const pid_t child = ::fork();
    if (child < 0) return 2;
    if (child == 0) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
      const rlimit limit{kAddressSpace, kAddressSpace};
      ::setrlimit(RLIMIT_AS, &limit);
#endif
      for (; next < end; ++next) {
        shared.current = next;
        ::alarm(kSecondsPerMutant);
        try_mutant(originals, seed, next, shared, false);
      }
      shared.current = end;
      std::fflush(stdout);
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    next = shared.current;
    if (next < end) {
      ++bad;
      ++shared.counts[next % 4 == 0 ? damaged : resealed][crashed];
      std::printf("mutant %ld: %s (engine_mutants --seed %llu --only %ld)\n", next,
                  WIFSIGNALED(status) ? ::strsignal(WTERMSIG(status)) : "stopped",
                  static_cast<unsigned long long>(seed), next);
      ++next;
    }
  }
  for (std::size_t kind = 0; kind < kNumKinds; ++kind) {
    std::printf("%-9s", kKindNames[kind]);
    for (std::size_t outcome = 0; outcome < kNumOutcomes; ++outcome) {
      std::printf("  %s: %ld", kOutcomeNames[outcome], shared.counts[kind][outcome]);
    }
    std::printf("\n");
  }
  for (const Outcome outcome : {same_answer, other_answer, failed_to_run}) bad += shared.counts[damaged][outcome];
  std::printf("%ld mutants of %zu engines, %ld bad\n", count, originals.size(), bad);
  return bad == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tenfold::test

int main(int argc, char** argv) {
  long count = 2000, only = -1;
  std::uint64_t seed = 1;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    const long value = std::strtol(argv[i + 1], nullptr, 10);
    if (option == "--count") count = value;
    if (option == "--only") only = value;
    if (option == "--seed") seed = static_cast<std::uint64_t>(value);
  }
  return tenfold::test::run(count, seed, only);
}
