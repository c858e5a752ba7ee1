// After a first run a context allocates nothing. This binary counts every call of operator new, and of aligned_alloc
// (the linker puts __wrap_aligned_alloc in its place).
#include <atomic>
#include <cstdlib>
#include <new>

#include <gtest/gtest.h>

#include "formats/run_engine.hpp"

namespace {

std::atomic<long> num_allocations{0};

void* counted(std::size_t size, std::size_t alignment) {
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  if (void* memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded)) return memory;
  throw std::bad_alloc();
}

}  // namespace

extern "C" void* __real_aligned_alloc(std::size_t alignment, std::size_t size);
extern "C" void* __wrap_aligned_alloc(std::size_t alignment, std::size_t size) {
  ++num_allocations;
  return __real_aligned_alloc(alignment, size);
}

void* operator new(std::size_t size) { return counted(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace tenfold {
namespace {

void expect_no_allocation(const test::SmallEngine& small, int num_threads) {
  LoadOptions options;
  options.num_threads = num_threads;
  const long before_load = num_allocations;
  const Engine engine = Engine::load(small.file(), options);
  EXPECT_GT(num_allocations, before_load) << "the counter counts nothing";
  const std::vector<TensorInfo> inputs = engine.inputs();
  const std::vector<ShapeRange> ranges = engine.profile(0);
  Context context = engine.make_context();
  std::vector<std::vector<std::byte>> data(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    data[i].resize(static_cast<std::size_t>(num_elements(ranges[i].max)) * size_of(inputs[i].dtype), std::byte{1});
    context.set_input(inputs[i].name, ranges[i].max, data[i].data());
  }
  context.run();
  const long before = num_allocations;
  for (int i = 0; i < 5; ++i) context.run();
  EXPECT_EQ(num_allocations - before, 0);
}

TEST(SteadyState, RunsOfBuiltEnginesAllocateNothing) {
  for (const auto& [name, engine] : test::built_engines()) {
    SCOPED_TRACE(name);
    expect_no_allocation(engine, 1);
    expect_no_allocation(engine, 2);
  }
}

TEST(SteadyState, SettingTheSameShapesAgainAllocatesNothing) {
  const auto engines = test::built_engines();
  const Engine engine = Engine::load(engines.front().second.file(), test::test_load_options());
  const std::vector<std::int64_t> dims = engine.profile(0)[0].max;
  const std::vector<float> data(static_cast<std::size_t>(num_elements(dims)), 0.5F);
  const std::string name = engine.inputs()[0].name;
  Context context = engine.make_context();
  context.set_input(name, dims, data.data());
  context.run();
  const long before = num_allocations;
  for (int i = 0; i < 5; ++i) {
    context.set_input(name, dims, data.data());
    context.run();
  }
  EXPECT_EQ(num_allocations - before, 0);
}

}  // namespace
}  // namespace tenfold
