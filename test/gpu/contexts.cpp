// Whole networks on a GPU: several contexts, threads and streams at once, results as long as the data says, and what an
// error says.
#include <atomic>
#include <thread>

#include "backend/cuda/cubin.hpp"
#include "backend/cuda/cuda_tactic.hpp"
#include "backend/cuda/driver_api.hpp"
#include "device_case.hpp"
#include "graph/text.hpp"
#include "ops/interpreter.hpp"
#include "support/build_and_run.hpp"

namespace tenfold {
namespace {

// A detector in small: convolutions, a pooling, a softmax along an inner axis, boxes, their suppression.
constexpr std::string_view kDetector = R"(
  graph g(%x: float32[batch, 3, 32, 32]) {
    %w1 = constant float32[16, 3, 3, 3] random(1)
    %w2 = constant float32[16, 1, 3, 3] random(2)
    %w3 = constant float32[8, 16, 1, 1] random(3)
    %a = Conv(%x, %w1) {strides=[2, 2], pads=[1, 1, 1, 1]}
    %b = Relu(%a)
    %c = Conv(%b, %w2) {strides=[1, 1], pads=[1, 1, 1, 1], group=16}
    %d = MaxPool(%c) {kernel_shape=[2, 2], strides=[2, 2]}
    %e = Conv(%d, %w3) {strides=[1, 1]}
    %f = Reshape(%e) {dims=["batch", "8", "64"]}
    %p = Softmax(%f) {axis=1}
    %boxes, %scores = Split(%p) {axis=1, sizes=[4, 4]}
    %t = Transpose(%boxes) {perm=[0, 2, 1]}
    %most = constant int64[1] data(5)
    %overlap = constant float32[1] data(0.3)
    %kept = NonMaxSuppression(%t, %scores, %most, %overlap)
    %total = constant int64[] data(1)
    %sums = CumSum(%scores, %total)
    return %p, %sums, %kept
  })";
// The same without sizes that only a run knows: recorded and replayed.
constexpr std::string_view kClassifier = R"(
  graph g(%x: float32[batch, 3, 32, 32]) {
    %w1 = constant float32[16, 3, 3, 3] random(1)
    %w2 = constant float32[16, 16, 3, 3] random(2)
    %w3 = constant float32[16, 10] random(3)
    %a = Conv(%x, %w1) {strides=[2, 2], pads=[1, 1, 1, 1]}
    %b = Relu(%a)
    %c = Conv(%b, %w2) {strides=[1, 1], pads=[1, 1, 1, 1]}
    %d = Add(%b, %c)
    %e = ReduceMean(%d) {axes=[2, 3], keepdims=0}
    %f = MatMul(%e, %w3)
    %k = constant int64[1] data(4)
    %g = Softmax(%f) {axis=-1}
    %values, %places = TopK(%g, %k) {axis=-1}
    return %g, %values, %places
  })";

void run_in_many_contexts(std::string_view text) {
  TENFOLD_NEEDS_GPU();
  constexpr int kThreads = 6, kRuns = 60;
  const Graph graph = parse_graph(text);
  BuildOptions options;
  options.opt_level = 0;
  ProfileSpec profile;
  profile["x"] = PlanRange{{1, 3, 32, 32}, {2, 3, 32, 32}, {5, 3, 32, 32}};
  options.profiles.push_back(profile);
  const Engine engine = test::build_engine(graph, options, TestDevice::instance().backend());
  struct Case {
    std::vector<Tensor> inputs, wanted;
  };
  std::vector<Case> cases;
  for (const std::int64_t batch : {1, 2, 5, 3}) {
    Case made;
    made.inputs = test::random_inputs(graph, {{"x", {batch, 3, 32, 32}}}, static_cast<unsigned>(batch));
    made.wanted = interpret(graph, made.inputs);
    cases.push_back(std::move(made));
  }
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      try {
        Context context = engine.make_context();  // a stream of its own
        std::vector<std::vector<Tensor>> first(cases.size());
        for (int run = 0; run < kRuns; ++run) {
          const auto which = static_cast<std::size_t>((run / 3 + t) % 4);  // shapes change while others run
          const std::vector<Tensor> got = test::run_engine(context, graph, cases[which].inputs);
          // Sums of at most 144 products of numbers below 1, in another order: 2^-24 each, far below this.
          if (!(test::relative_error(cases[which].wanted, got) < 1e-4)) ++wrong;
          if (first[which].empty()) first[which] = got;
          for (std::size_t i = 0; i < got.size(); ++i) {
            if (!got[i].equals(first[which][i])) ++wrong;  // bit for bit what the first run gave
          }
        }
      } catch (const Error& error) {
        ADD_FAILURE() << error.message();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(GpuContexts, ManyThreadsReplayOneEngine) { run_in_many_contexts(kClassifier); }
TEST(GpuContexts, ManyThreadsRunAnEngineWhoseSizesTheDataDecides) { run_in_many_contexts(kDetector); }

TEST(GpuErrors, TooLittleMemorySaysWhatWasNeeded) {
  TENFOLD_NEEDS_GPU();
  try {
    TestDevice::instance().backend().allocate(std::size_t{1} << 50);
    FAIL() << "a petabyte was allocated";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::out_of_memory);
    EXPECT_NE(error.message().find("1125899906842624 bytes of device memory were asked for"), std::string::npos)
        << error.message();
    EXPECT_NE(error.message().find("are free"), std::string::npos) << error.message();
  }
  // The device goes on.
  EXPECT_NE(TestDevice::instance().backend().allocate(64), nullptr);
}

TEST(GpuErrors, AnEngineForAnotherGpuIsRefusedInOneSentence) {
  TENFOLD_NEEDS_GPU();
  const auto refusal = TestDevice::instance().backend().refuses_target("sm_61");
  ASSERT_TRUE(refusal.has_value());
  EXPECT_NE(refusal->find("the engine was built for sm_61, this GPU"), std::string::npos) << *refusal;
}

/// In a process of its own: the device is lost to it afterwards.
void run_into_nowhere() {
  const auto backend = cuda::make_cuda_backend(0);
  const auto stream = backend->make_stream({});
  const cuda::Cubin cubin =
      cuda::compile_source({"extern \"C\" __global__ void nowhere(int* p) { *p = 1; }\n", {"nowhere"}}, 90);
  cuda::CUmodule module = nullptr;
  cuda::CUfunction function = nullptr;
  cuda::check(cuda::driver().module_load(&module, cubin.code.data()), "loading");
  cuda::check(cuda::driver().module_function(&function, module, "nowhere"), "finding");
  auto& cuda_stream = static_cast<cuda::CudaStream&>(*stream);
  cuda::LaunchConfig config;
  config.function = function;
  const void* nowhere = reinterpret_cast<const void*>(std::uintptr_t{1} << 60);
  try {
    cuda_stream.launch(config, nowhere);
    stream->synchronize();
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.message().c_str());
    std::_Exit(error.code() == Code::device_failure ? 7 : 8);
  }
  std::_Exit(9);
}

TEST(GpuErrors, AFailedDeviceIsSaidToBeLost) {
  TENFOLD_NEEDS_GPU();
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a new process: a context does not survive a fork
  EXPECT_EXIT(run_into_nowhere(), testing::ExitedWithCode(7), "start it anew");
}

}  // namespace
}  // namespace tenfold
