// Fuzz target: an ONNX file of any bytes is imported, with tight limits, and its types are inferred again. Every
// refusal must be a tenfold::Error; one that says "internal" is a defect like a crash.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "import/import.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tenfold::ImportOptions options;
  options.max_file_bytes = 1 << 20;
  options.max_nodes = 300;
  options.max_subgraph_depth = 4;
  options.max_sparse_bytes = 1 << 20;
  options.external_data = false;
  try {
    tenfold::ImportedModel model = tenfold::import_onnx(std::as_bytes(std::span(data, size)), options);
    model.graph.verify();
    model.graph.infer_types();
  } catch (const tenfold::Error& error) {
    if (error.code() == tenfold::Code::internal) {
      std::fprintf(stderr, "internal error: %s\n", error.what());
      std::abort();
    }
  }
  return 0;
}
