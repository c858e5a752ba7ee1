#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <sched.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.hpp"
#include "base/thread_pool.hpp"

namespace tenfold {
namespace {

TEST(ThreadPool, RunsEveryPartExactlyOnce) {
  for (const int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (const int parts : {0, 1, 2, 3, 7, 64}) {
      std::vector<std::atomic<int>> calls(static_cast<std::size_t>(parts));
      for (int round = 0; round < 50; ++round)
        pool.run(parts, [&](int part) { ++calls[static_cast<std::size_t>(part)]; });
      for (const auto& count : calls) EXPECT_EQ(count, 50) << threads << " threads, " << parts << " parts";
    }
  }
}

TEST(ThreadPool, WritesOfAJobAreSeenAfterIt) {
  ThreadPool pool(3);
  std::array<int, 9> plain{};
  for (int round = 1; round <= 2000; ++round) {
    pool.run(9, [&](int part) { plain[static_cast<std::size_t>(part)] += part; });
    for (int part = 0; part < 9; ++part) ASSERT_EQ(plain[static_cast<std::size_t>(part)], part * round);
  }
}

TEST(ThreadPool, JobsOfDifferentSizesFollowEachOther) {
  // More threads than processors, so that some wake when later jobs run; shares that are empty in one job are not in the next.
  ThreadPool pool(5);
  std::vector<int> plain(40);
  int expected = 0;
  for (int round = 0; round < 5000; ++round, expected += 2) {
    for (const int parts : {2, 40}) {
      pool.run(parts, [&](int part) { ++plain[static_cast<std::size_t>(part)]; });
      ASSERT_EQ(plain[0], expected + (parts == 2 ? 1 : 2));
      ASSERT_EQ(plain[39], (expected + (parts == 2 ? 0 : 2)) / 2);
    }
  }
}

TEST(ThreadPool, RunsMorePartsThanAWordHolds) {
  ThreadPool pool(2);
  std::vector<std::uint8_t> calls(200'001);
  pool.run_on_threads(200'001, [&](int part, int thread) {
    calls[static_cast<std::size_t>(part)] += static_cast<std::uint8_t>(thread <= 1);
  });
  for (std::size_t i = 0; i < calls.size(); ++i) ASSERT_EQ(calls[i], 1) << i;
}

TEST(ThreadPool, UseFromWithinAJobRunsInline) {
  ThreadPool pool(2);
  std::atomic<int> calls{0};
  pool.run(4, [&](int) { pool.run(8, [&](int) { ++calls; }); });
  EXPECT_EQ(calls, 32);
}

TEST(ThreadPool, ConcurrentCallersDoNotWaitForEachOther) {
  ThreadPool pool(2);
  std::atomic<std::int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 300; ++round) pool.run(5, [&](int part) { sum += part; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum, 4 * 300 * 10);
}

TEST(ThreadPool, WakesAfterSleeping) {
  ThreadPool pool(2);
  std::atomic<int> calls{0};
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    pool.run(2, [&](int) { ++calls; });
  }
  EXPECT_EQ(calls, 6);
}

TEST(ThreadPool, AWorkerLeavesTheCallersProcessor) {
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  if (CPU_COUNT(&allowed) < 2) GTEST_SKIP() << "the process has one processor only";
  ThreadPool pool(2);
  const std::thread::id caller = std::this_thread::get_id();
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(static_cast<std::size_t>(sched_getcpu()), &here);
  ASSERT_EQ(sched_setaffinity(0, sizeof here, &here), 0);

  // Once the worker has put itself onto the caller's processor, some later job must find it on another one.
  bool moved_here = false, left = false;
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!left && std::chrono::steady_clock::now() < limit) {
    pool.run(2, [&](int) {
      if (std::this_thread::get_id() == caller) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));  // lets the worker take a part
      } else if (!moved_here) {
        moved_here = sched_setaffinity(0, sizeof here, &here) == 0;
      } else {
        left = !CPU_ISSET(static_cast<std::size_t>(sched_getcpu()), &here);
      }
    });
  }
  sched_setaffinity(0, sizeof allowed, &allowed);
  EXPECT_TRUE(moved_here);
  EXPECT_TRUE(left);
}

TEST(ThreadPool, RangesCoverTheCountAndKeepTheGrain) {
  ThreadPool pool(3);
  for (const std::int64_t count : {0, 1, 7, 8, 9, 100}) {
    std::vector<std::atomic<int>> touched(static_cast<std::size_t>(count));
    pool.parallel_for(count, 4, [&](std::int64_t begin, std::int64_t end) {
      EXPECT_EQ(begin % 4, 0);
      for (std::int64_t i = begin; i < end; ++i) ++touched[static_cast<std::size_t>(i)];
    });
    for (const auto& times : touched) EXPECT_EQ(times, 1);
  }
}

TEST(ThreadPool, AForkedChildRunsAndLeaves) {
  auto pool = std::make_unique<ThreadPool>(3);
  std::atomic<int> sum{0};
  pool->run(8, [&](int part) { sum += part; });
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // a hang must not outlive the test
    pool->run(8, [&](int part) { sum += part; });
    pool.reset();
    _exit(sum == 56 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
}

TEST(ThreadPool, RefusesAnAbsurdNumberOfThreads) {
  EXPECT_THROW(ThreadPool(0), Error);
  EXPECT_THROW(ThreadPool(257), Error);
}

}  // namespace
}  // namespace tenfold
