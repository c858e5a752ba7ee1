// One engine, many threads, each with a context of its own: every answer must be the one that a single thread gets, bit
// for bit. Without files it takes the small engines of the format tests.
//
//   engine_threads [--threads 8] [--runs 10000] [--pool 2] [ENGINE...]
//
// `runs` counts all threads together; `pool` is the number of threads that each run may spread its kernels over.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "formats/run_engine.hpp"
#include "graph/tensor.hpp"

namespace tenfold::test {
namespace {

constexpr std::size_t kCases = 4;  // different inputs that each thread cycles through

using Bytes = std::vector<std::byte>;

struct Case {
  std::vector<Shape> shapes;
  std::vector<Bytes> inputs;
  Bytes answer;
};

void fill(Bytes& bytes, DType dtype, std::mt19937& random) {
  dispatch(dtype, [&]<typename T>() {
    for (std::size_t i = 0; i < bytes.size() / sizeof(T); ++i) {
      T value{};
      if constexpr (std::is_same_v<T, bool> || std::is_integral_v<T>) {
        value = static_cast<T>(random() % 2);
      } else {
        value = T(std::uniform_real_distribution<float>(-1.0F, 1.0F)(random));
      }
      std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof value);
    }
  });
}

// Smallest, usual and largest shapes take turns, so that contexts also change shapes while others run.
Case make_case(const Engine& engine, std::size_t index) {
  Case made;
  std::mt19937 random(static_cast<unsigned>(index) + 1);
  const std::vector<TensorInfo> inputs = engine.inputs();
  const std::vector<ShapeRange> ranges = engine.profile(0);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    made.shapes.push_back(index % 3 == 1 ? ranges[i].min : index % 3 == 2 ? ranges[i].max : ranges[i].opt);
    Bytes bytes(static_cast<std::size_t>(num_elements(made.shapes.back())) * size_of(inputs[i].dtype));
    fill(bytes, inputs[i].dtype, random);
    made.inputs.push_back(std::move(bytes));
  }
  return made;
}

void answer(const std::vector<TensorInfo>& inputs, const std::vector<TensorInfo>& outputs, Context& context,
            const Case& asked, Bytes& bytes) {
  bytes.clear();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    context.set_input(inputs[i].name, asked.shapes[i], asked.inputs[i].data());
  }
  context.run();
  for (const TensorInfo& info : outputs) {
    const OutputView view = context.output(info.name);
    const auto* dims = reinterpret_cast<const std::byte*>(view.dims.data());
    bytes.insert(bytes.end(), dims, dims + view.dims.size() * sizeof(std::int64_t));
    const auto* data = static_cast<const std::byte*>(view.data);
    bytes.insert(bytes.end(), data, data + view.size_bytes);
  }
}

/// :returns: the number of runs that failed or answered differently.
long run_threads(const std::string& name, const Engine& engine, int num_threads, long runs) {
  const std::vector<TensorInfo> inputs = engine.inputs(), outputs = engine.outputs();
  std::vector<Case> cases;
  Context alone = engine.make_context();
  for (std::size_t i = 0; i < kCases; ++i) {
    cases.push_back(make_case(engine, i));
    answer(inputs, outputs, alone, cases.back(), cases.back().answer);
  }
  std::atomic<long> next{0}, different{0};
  std::atomic<int> waiting{num_threads};
  const auto work = [&] {
    Context context = engine.make_context();
    Bytes bytes;
    --waiting;
    while (waiting > 0) std::this_thread::yield();  // all begin together
    for (long i = next++; i < runs; i = next++) {
      const Case& asked = cases[static_cast<std::size_t>(i) % kCases];
      try {
        answer(inputs, outputs, context, asked, bytes);
        if (bytes == asked.answer) continue;
      } catch (const Error& error) {
        std::printf("%s, run %ld: %s\n", name.c_str(), i, error.what());
      }
      ++different;
    }
  };
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (int i = 0; i < num_threads; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%s: %ld runs in %d threads, %.1f s, %ld different\n", name.c_str(), runs, num_threads, seconds,
              different.load());
  std::fflush(stdout);
  return different;
}

int run(int num_threads, long runs, int pool, const std::vector<std::string>& files) {
  LoadOptions options;
  options.num_threads = pool;
  long different = 0;
  try {
    for (const std::string& file : files) {
      different += run_threads(file, Engine::load(file, options), num_threads, runs);
    }
    if (files.empty()) {
      auto engines = built_engines();
      for (auto& entry : control_flow_engines()) engines.push_back(std::move(entry));
      for (const auto& [name, engine] : engines) {
        different += run_threads(name, Engine::load(engine.file(), options), num_threads, runs);
      }
    }
  } catch (const Error& error) {
    std::printf("%s\n", error.what());
    return 2;
  }
  return different == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tenfold::test

int main(int argc, char** argv) {
  int threads = 8, pool = 2;
  long runs = 10000;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto number = [&] { return i + 1 < argc ? std::strtol(argv[++i], nullptr, 10) : 0; };
    if (option == "--threads") {
      threads = static_cast<int>(number());
    } else if (option == "--runs") {
      runs = number();
    } else if (option == "--pool") {
      pool = static_cast<int>(number());
    } else {
      files.push_back(option);
    }
  }
  if (threads < 1 || runs < 1 || pool < 0) {
    std::fprintf(stderr, "usage: engine_threads [--threads 8] [--runs 10000] [--pool 2] [ENGINE...]\n");
    return 2;
  }
  return tenfold::test::run(threads, runs, pool, files);
}
