// Writes the first inputs of fuzz_engine: the small engines of the format tests, as that target wants them.
// Usage: fuzz_seeds FOLDER. Seeds of fuzz_onnx are the models that test/conformance/run.py generates.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "engine/container.hpp"
#include "formats/run_engine.hpp"
#include "graph/text.hpp"

namespace tenfold::test {
namespace {

void write(const std::filesystem::path& path, const std::vector<std::byte>& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw Error(Code::io_failure, path.string() + ": cannot be written");
}

// A first byte that is no multiple of 8, then size and bytes of each section.
std::vector<std::byte> unsealed(const std::vector<std::byte>& file) {
  std::vector<std::byte> seed{std::byte{1}};
  for (const Section& section : read_container(file).sections) {
    const auto size = static_cast<std::uint32_t>(section.bytes.size());
    const auto* begin = reinterpret_cast<const std::byte*>(&size);
    seed.insert(seed.end(), begin, begin + sizeof size);
    seed.insert(seed.end(), section.bytes.begin(), section.bytes.end());
  }
  return seed;
}

std::vector<std::byte> whole(const std::vector<std::byte>& file) {
  std::vector<std::byte> seed{std::byte{0}};
  seed.insert(seed.end(), file.begin(), file.end());
  return seed;
}

void write_seeds(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  auto engines = control_flow_engines();
  for (auto& entry : built_engines()) engines.push_back(std::move(entry));
  for (const auto& [name, engine] : engines) write(folder / name, unsealed(engine.file()));
  const Graph graph = parse_graph(
      "graph net(%x: float32[batch, 4]) { %w = constant float32[4, 3] iota %y = MatMul(%x, %w) return %y }");
  write(folder / "portable", unsealed(classifier().file({.portable = &graph})));
  write(folder / "whole file", whole(classifier().file()));
}

}  // namespace
}  // namespace tenfold::test

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: fuzz_seeds FOLDER\n");
    return 2;
  }
  try {
    tenfold::test::write_seeds(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fuzz_seeds: %s\n", error.what());
    return 1;
  }
  return 0;
}
