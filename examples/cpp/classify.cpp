// Compiles a model, loads the engine and runs it in two threads, with the C++ API.
//
//   classify MODEL.onnx MODEL.engine
//
// The model has one input "x", float32 [batch, 4], and one output "y", float32 [batch, 3].
#include <array>
#include <cstdio>
#include <thread>
#include <vector>

#include "tenfold/compile.hpp"
#include "tenfold/tenfold.hpp"

namespace {

void compile_model(const char* model, const char* engine) {
  tenfold::CompileOptions options;
  options.profiles = {{{"x", {{1, 4}, {2, 4}, {8, 4}}}}};  // min, opt, max
  options.opt_level = 1;
  const tenfold::CompileSummary summary = tenfold::compile(model, engine, options);
  std::printf("%d nodes became %d steps\n", summary.model_nodes, summary.engine_steps);
}

/// Each thread has its own context; all of them use the weights of one engine.
std::vector<float> classify(const tenfold::Engine& engine, const std::array<float, 4>& x) {
  tenfold::Context context = engine.make_context();
  context.set_input("x", {1, 4}, x.data());
  context.run();
  const auto scores = context.output("y").values<float>();
  return {scores.begin(), scores.end()};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s MODEL.onnx MODEL.engine\n", argv[0]);
    return 2;
  }
  try {
    compile_model(argv[1], argv[2]);
    const tenfold::Engine engine = tenfold::Engine::load(argv[2]);
    for (const tenfold::TensorInfo& input : engine.inputs()) {
      std::printf("input '%s': %s of rank %zu\n", input.name.c_str(), std::string(to_string(input.dtype)).c_str(),
                  input.dims.size());
    }
    std::array<std::vector<float>, 2> scores;
    std::thread other([&] { scores[1] = classify(engine, {-1, 0, 1, 0}); });
    scores[0] = classify(engine, {1, 2, 3, 4});
    other.join();
    for (const std::vector<float>& row : scores) {
      for (const float score : row) std::printf("%8.4f", static_cast<double>(score));
      std::printf("\n");
    }
    return 0;
  } catch (const tenfold::Error& error) {
    std::fprintf(stderr, "%s: %s\n", std::string(to_string(error.code())).c_str(), error.what());
    return 1;
  }
}
