// libFuzzer target: reading and running an engine. The fuzzer cannot guess hashes, so its input is the sections'
// content, put into a container with right hashes: u8 number of sections - 1, then u32 size and bytes of each.
// One input in eight is taken for a whole file.
#include <cstdint>
#include <cstring>
#include <vector>

#include "engine/container.hpp"
#include "formats/run_engine.hpp"

namespace {

std::vector<std::byte> sealed(std::span<const std::byte> input) {
  using namespace tenfold;
  std::vector<Section> sections;
  for (std::uint32_t id = 1; id <= 5 && input.size() >= sizeof(std::uint32_t); ++id) {
    std::uint32_t size = 0;
    std::memcpy(&size, input.data(), sizeof size);
    input = input.subspan(sizeof size);
    const std::size_t taken = std::min<std::size_t>(size, input.size());
    sections.push_back({static_cast<SectionId>(id), input.first(taken)});
    input = input.subspan(taken);
  }
  std::vector<std::byte> file;
  for (const auto piece : write_container("cpu", cpu_backend().target(), std::move(sections)).pieces) {
    file.insert(file.end(), piece.begin(), piece.end());
  }
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tenfold;
  if (size == 0) return 0;
  const auto input = std::as_bytes(std::span(data, size)).subspan(1);
  const std::vector<std::byte> file =
      data[0] % 8 == 0 ? std::vector<std::byte>(input.begin(), input.end()) : sealed(input);
  try {
    (void)read_engine(file, {.read_portable = true});
    (void)test::run_all_profiles(Engine::load(file, test::test_load_options()));
  } catch (const Error&) {
  }
  return 0;
}
