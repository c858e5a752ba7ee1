// The C ABI: status codes, sentences, ownership. What the engines compute is tested elsewhere.
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include <gtest/gtest.h>

#include "formats/run_engine.hpp"
#include "tenfold/tenfold.h"

namespace {

using tenfold::test::classifier;

struct Loaded {
  explicit Loaded(const char* options = nullptr) {
    const std::vector<std::byte> bytes = classifier().file();
    EXPECT_EQ(tenfold_engine_load_memory(bytes.data(), bytes.size(), options, &engine), TENFOLD_OK)
        << tenfold_last_error();
    EXPECT_EQ(tenfold_context_create(engine, 0, &context), TENFOLD_OK) << tenfold_last_error();
  }
  ~Loaded() {
    tenfold_engine_free(engine);  // before its context: the context keeps what it needs
    tenfold_context_free(context);
  }
  tenfold_engine* engine = nullptr;
  tenfold_context* context = nullptr;
};

bool last_error_has(const char* text) { return std::strstr(tenfold_last_error(), text) != nullptr; }

TEST(CApi, RunsAnEngine) {
  Loaded loaded;
  const std::vector<float> x(2 * 8, 0.5F);
  const int64_t dims[3] = {2, 2, 4};
  ASSERT_EQ(tenfold_context_set_input(loaded.context, "x", dims, 3, x.data(), x.size() * sizeof(float)), TENFOLD_OK);
  ASSERT_EQ(tenfold_context_run(loaded.context), TENFOLD_OK) << tenfold_last_error();
  tenfold_tensor y;
  ASSERT_EQ(tenfold_context_get_output(loaded.context, "y", &y), TENFOLD_OK);
  EXPECT_EQ(y.rank, 2);
  EXPECT_EQ(y.dims[0], 2);
  EXPECT_EQ(y.dims[1], 5);
  EXPECT_EQ(y.dtype, TENFOLD_FLOAT32);
  EXPECT_EQ(y.size_bytes, 2 * 5 * sizeof(float));
  float sum = 0;
  for (int i = 0; i < 5; ++i) sum += static_cast<const float*>(y.data)[i];
  EXPECT_NEAR(sum, 1, 5 * 1.2e-7);  // five roundings of numbers up to 1

  std::vector<float> mine(2 * 5, -1);
  ASSERT_EQ(tenfold_context_set_output(loaded.context, "y", mine.data(), mine.size() * sizeof(float)), TENFOLD_OK);
  ASSERT_EQ(tenfold_context_run(loaded.context), TENFOLD_OK);
  EXPECT_EQ(mine[0], mine[5]);
  EXPECT_GT(mine[0], 0);
}

TEST(CApi, DescribesAnEngine) {
  Loaded loaded;
  int32_t count = 0;
  ASSERT_EQ(tenfold_engine_num_inputs(loaded.engine, &count), TENFOLD_OK);
  EXPECT_EQ(count, 1);
  tenfold_tensor_info info;
  ASSERT_EQ(tenfold_engine_get_input(loaded.engine, 0, &info), TENFOLD_OK);
  EXPECT_STREQ(info.name, "x");
  EXPECT_EQ(info.dims[0], -1);
  EXPECT_EQ(info.dims[2], 4);
  EXPECT_EQ(tenfold_engine_get_output(loaded.engine, 1, &info), TENFOLD_INVALID_ARGUMENT);
  char* json = nullptr;
  ASSERT_EQ(tenfold_engine_describe(loaded.engine, &json), TENFOLD_OK);
  EXPECT_NE(std::strstr(json, "\"dim_names\":[\"batch\",\"2\",\"4\"]"), nullptr) << json;
  tenfold_free(json);
}

TEST(CApi, SaysWhatIsWrong) {
  Loaded loaded;
  const float x[72] = {};
  const int64_t dims[3] = {9, 2, 4};
  EXPECT_EQ(tenfold_context_set_input(loaded.context, "z", dims, 3, x, sizeof x), TENFOLD_INVALID_ARGUMENT);
  EXPECT_TRUE(last_error_has("there is no input 'z'; the engine has 'x'")) << tenfold_last_error();
  EXPECT_EQ(tenfold_context_set_input(loaded.context, "x", dims, 3, x, sizeof x), TENFOLD_INVALID_ARGUMENT);
  EXPECT_TRUE(last_error_has("input 'x' axis 0 is 9, but profile 0 accepts 1..3")) << tenfold_last_error();
  EXPECT_EQ(tenfold_context_set_input(loaded.context, "x", dims, 3, x, sizeof x - 1), TENFOLD_INVALID_ARGUMENT);
  EXPECT_TRUE(last_error_has("needs 288 bytes, but 287 were given")) << tenfold_last_error();
  EXPECT_EQ(tenfold_context_set_input(loaded.context, "x", dims, 2, x, sizeof x), TENFOLD_INVALID_ARGUMENT);
  EXPECT_EQ(tenfold_context_run(loaded.context), TENFOLD_INVALID_ARGUMENT);
  EXPECT_TRUE(last_error_has("input 'x' is not set")) << tenfold_last_error();
  EXPECT_EQ(tenfold_context_run(nullptr), TENFOLD_INVALID_ARGUMENT);
  EXPECT_STREQ(tenfold_last_error(), "context is NULL");
  std::thread([] { EXPECT_STREQ(tenfold_last_error(), ""); }).join();
  EXPECT_STREQ(tenfold_status_name(TENFOLD_IO_FAILURE), "io_failure");
}

TEST(CApi, RefusesOptionsThatItDoesNotKnow) {
  tenfold_engine* engine = nullptr;
  EXPECT_EQ(tenfold_engine_load("x.engine", "{\"thread\": 2}", &engine), TENFOLD_INVALID_ARGUMENT);
  EXPECT_TRUE(last_error_has("there is no option 'thread'; there are verify, threads")) << tenfold_last_error();
  EXPECT_EQ(tenfold_engine_load("x.engine", "{\"threads\": 1.5}", &engine), TENFOLD_INVALID_ARGUMENT);
  EXPECT_TRUE(last_error_has("option 'threads' cannot be 1.5")) << tenfold_last_error();
  EXPECT_EQ(tenfold_engine_load("x.engine", "[", &engine), TENFOLD_INVALID_ARGUMENT);
  EXPECT_EQ(tenfold_engine_load("/no/such.engine", nullptr, &engine), TENFOLD_IO_FAILURE);
  EXPECT_EQ(engine, nullptr);
  Loaded loaded("{\"threads\": 1, \"verify\": false}");
}

TEST(CApi, CompilesFromMemoryAndStopsWhenAsked) {
  std::ifstream file(TENFOLD_EXAMPLE_MODEL, std::ios::binary);
  if (!file) GTEST_SKIP() << "example_make_model writes the model; run the tests through ctest";
  std::stringstream text;
  text << file.rdbuf();
  const std::string model = text.str();
  const char* options = R"({"profiles": [{"x": {"min": [1, 4], "opt": [1, 4], "max": [4, 4]}}], "opt_level": 0})";
  void* engine_bytes = nullptr;
  size_t size = 0;
  int calls = 0;
  const auto count_calls = [](const char*, const char*, double, double, void* user) -> int32_t {
    ++*static_cast<int*>(user);
    return 0;
  };
  ASSERT_EQ(tenfold_build_memory(model.data(), model.size(), options, count_calls, &calls, &engine_bytes, &size),
            TENFOLD_OK)
      << tenfold_last_error();
  EXPECT_GT(calls, 0);
  tenfold_engine* engine = nullptr;
  EXPECT_EQ(tenfold_engine_load_memory(engine_bytes, size, nullptr, &engine), TENFOLD_OK) << tenfold_last_error();
  tenfold_engine_free(engine);
  tenfold_free(engine_bytes);

  const auto cancel = [](const char*, const char*, double, double, void*) -> int32_t { return 1; };
  EXPECT_EQ(tenfold_build_memory(model.data(), model.size(), options, cancel, nullptr, &engine_bytes, &size),
            TENFOLD_CANCELLED);
  EXPECT_EQ(engine_bytes, nullptr);
}

}  // namespace
