// tenfold bench ENGINE|MODEL: latency, throughput, and where the time goes.
#include <fstream>
#include <map>
#include <mutex>
#include <thread>

#include <fmt/format.h>

#include "backend/backend.hpp"
#include "base/cpu_count.hpp"
#include "base/error.hpp"
#include "inputs.hpp"
#include "json.hpp"
#include "model.hpp"
#include "peak.hpp"
#include "runtime/engine_access.hpp"
#include "statistics.hpp"
#include "terminal.hpp"

namespace tenfold::cli {
namespace {

struct BenchCommand {
  LoadingOptions loading;
  InputOptions inputs;
  int iterations = 10;
  double duration_seconds = 3;
  double warm_up_ms = 200;
  int streams = 1;
  bool profile = false;
  std::string save_engine;
  std::string export_times;
  std::string export_profile;
  std::string trace;
};

struct Times {
  std::vector<std::pair<double, double>> runs;  // begin and end, in seconds since the first began
  double seconds = 0;                           // from the first begin to the last end
};

// Every stream runs with a context of its own until the duration and the number of iterations are both reached.
Times measure(const Engine& engine, int profile, const std::vector<TensorInfo>& infos,
              const std::vector<Tensor>& inputs, const BenchCommand& command) {
  Times times;
  std::mutex mutex;
  std::exception_ptr failure;
  const double origin = now_seconds() + command.warm_up_ms * 1e-3;
  const auto work = [&] {
    std::vector<std::pair<double, double>> runs;
    try {
      Context context = engine.make_context(profile);
      bind_inputs(context, infos, inputs);
      do context.run();
      while (now_seconds() < origin && !interrupted());
      while (!interrupted()) {
        const double begin = now_seconds() - origin;
        if (begin >= command.duration_seconds && static_cast<int>(runs.size()) >= command.iterations) break;
        context.run();
        runs.emplace_back(begin, now_seconds() - origin);
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
    const std::lock_guard lock(mutex);
    times.runs.insert(times.runs.end(), runs.begin(), runs.end());
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < command.streams; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
  throw_if_interrupted();
  std::sort(times.runs.begin(), times.runs.end());
  double end = 0;
  for (const auto& run : times.runs) end = std::max(end, run.second);
  times.seconds = times.runs.empty() ? 0 : end - times.runs.front().first;
  return times;
}

struct StepProfile {
  StepTime step;  // of the last run
  std::vector<double> us;
  double median_us = 0;
  double share = 0;
};

std::vector<StepProfile> profile_steps(Context& context, std::vector<StepTime>& last_run) {
  // Until the medians are steady: at least 10 runs, at most 200 or 3 seconds.
  std::vector<StepProfile> profiles;
  std::map<std::string, std::size_t> index;  // a step in a loop runs many times: its times add up within one run
  context.set_profiling(true);
  const double begin = now_seconds();
  for (int run = 0; run < 200 && (run < 10 || now_seconds() - begin < 3) && !interrupted(); ++run) {
    context.run();
    for (const StepTime& step : context.step_times()) {
      const auto [found, is_new] = index.try_emplace(step.name, profiles.size());
      if (is_new) profiles.push_back({.step = step});
      StepProfile& profile = profiles[found->second];
      if (static_cast<int>(profile.us.size()) <= run) {
        profile.us.resize(static_cast<std::size_t>(run) + 1, 0.0);
        profile.step.flops = 0;
        profile.step.bytes = 0;
      }
      profile.us.back() += step.duration_us;
      profile.step.flops += step.flops;
      profile.step.bytes += step.bytes;
    }
  }
  throw_if_interrupted();
  last_run = context.step_times();
  context.set_profiling(false);
  double total = 0;
  for (StepProfile& profile : profiles) {
    profile.median_us = statistics(profile.us).median;
    total += profile.median_us;
  }
  for (StepProfile& profile : profiles) profile.share = total > 0 ? profile.median_us / total : 0;
  return profiles;
}

double gflops_of(const StepProfile& profile) {
  return profile.median_us > 0 ? profile.step.flops / profile.median_us * 1e-3 : 0;
}

std::string profile_table(const std::vector<StepProfile>& profiles, double peak_gflops, bool all) {
  std::vector<const StepProfile*> sorted;
  for (const StepProfile& profile : profiles) sorted.push_back(&profile);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const StepProfile* a, const StepProfile* b) { return a->median_us > b->median_us; });
  constexpr std::size_t kShown = 40;
  const std::size_t shown = all ? sorted.size() : std::min(sorted.size(), kShown);
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = 0; i < shown; ++i) {
    const StepProfile& profile = *sorted[i];
    const double gflops = gflops_of(profile);
    const double gigabytes = profile.median_us > 0 ? profile.step.bytes / profile.median_us * 1e-3 : 0;
    rows.push_back(
        {fmt::format("{:.1f}", profile.median_us), fmt::format("{:.1f}%", 100 * profile.share),
         gflops > 0 ? fmt::format("{:.1f}", gflops) : "-",
         gflops > 0 && peak_gflops > 0 ? fmt::format("{:.0f}%", 100 * gflops / peak_gflops) : "-",
         gigabytes > 0 ? fmt::format("{:.1f}", gigabytes) : "-", profile.step.op_type, profile.step.tactic,
         shorten(join(profile.step.origins.empty() ? std::vector<std::string>{profile.step.name} : profile.step.origins,
                      " + "),
                 60)});
  }
  std::string text = table({"us", "share", "GFLOP/s", "of peak", "GB/s", "operator", "tactic", "nodes of the model"},
                           rows, {true, true, true, true, true, false, false, false});
  if (shown < sorted.size()) text += fmt::format("  ... {} more steps; --verbose lists all\n", sorted.size() - shown);
  return text;
}

Json profile_json(const std::vector<StepProfile>& profiles, double peak_gflops) {
  Json steps = Json::array();
  for (const StepProfile& profile : profiles) {
    const Statistics times = statistics(profile.us);
    const double gflops = gflops_of(profile);
    steps.push_back({{"name", profile.step.name},
                     {"op", profile.step.op_type},
                     {"tactic", profile.step.tactic},
                     {"origins", profile.step.origins},
                     {"averageMs", times.mean * 1e-3},
                     {"medianMs", times.median * 1e-3},
                     {"percentage", 100 * profile.share},
                     {"flops", profile.step.flops},
                     {"bytes", profile.step.bytes},
                     {"gflops_per_second", gflops},
                     {"fraction_of_peak", peak_gflops > 0 ? gflops / peak_gflops : 0.0}});
  }
  return steps;
}

// Chrome's trace event format, for chrome://tracing and Perfetto: one complete event a step.
Json chrome_trace(const std::vector<StepTime>& steps, const std::string& path) {
  Json events = Json::array();
  events.push_back(
      {{"ph", "M"}, {"pid", 1}, {"tid", 1}, {"name", "process_name"}, {"args", {{"name", "tenfold " + path}}}});
  for (const StepTime& step : steps) {
    events.push_back({{"cat", "Node"},
                      {"ph", "X"},
                      {"pid", 1},
                      {"tid", 1},
                      {"ts", step.start_us},
                      {"dur", step.duration_us},
                      {"name", step.name},
                      {"args",
                       {{"op_name", step.op_type},
                        {"tactic", step.tactic},
                        {"origins", step.origins},
                        {"flops", step.flops},
                        {"bytes", step.bytes}}}});
  }
  return {{"traceEvents", std::move(events)}, {"displayTimeUnit", "ms"}};
}

// Peak resident memory of this process, in bytes.
double peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtod(line.c_str() + 6, nullptr) * 1024;
  }
  return 0;
}

int threads_of(const Engine& engine) {
  try {
    return std::min(EngineAccess::file(engine).plan.num_threads, cpu_count());
  } catch (const Error&) {
    return 1;  // a portable section: the references use one
  }
}

std::string latency_line(const Statistics& ms) {
  return fmt::format(
      "Latency: min = {:.4g} ms, max = {:.4g} ms, mean = {:.4g} ms, median = {:.4g} ms, percentile(90%) = {:.4g} ms, "
      "percentile(95%) = {:.4g} ms, percentile(99%) = {:.4g} ms",
      ms.min, ms.max, ms.mean, ms.median, ms.p90, ms.p95, ms.p99);
}

Exit run_bench(const BenchCommand& command, const Session& session) {
  const std::string called = fmt::format("tenfold bench {}", command.loading.path);
  const Loaded loaded = load_or_build(command.loading, session, called);
  const Engine& engine = loaded.engine;
  if (!command.save_engine.empty()) {
    require(loaded.save != nullptr, Code::invalid_argument, "--save-engine: {} already is an engine",
            command.loading.path);
    loaded.save(command.save_engine);
  }
  const std::vector<TensorInfo> infos = engine.inputs();
  const NamedShapes shapes = parse_shapes_or_none(command.loading.compile.shapes.exact);
  InputOptions input_options = command.inputs;
  if (!input_options.seed) input_options.seed = 0;
  const std::vector<Tensor> inputs =
      gather_inputs(infos, engine.profile(choose_profile(engine, shapes)), shapes, input_options);
  NamedShapes actual;
  for (std::size_t i = 0; i < infos.size(); ++i) actual[infos[i].name] = inputs[i].shape();
  const int profile_index = choose_profile(engine, actual);

  Context context = engine.make_context(profile_index);
  bind_inputs(context, infos, inputs);
  throw_if_interrupted();
  const double first_begin = now_seconds();
  context.run();
  const double first_run = now_seconds() - first_begin;

  const Times times = measure(engine, profile_index, infos, inputs, command);
  std::vector<double> latencies;
  for (const auto& [begin, end] : times.runs) latencies.push_back((end - begin) * 1e3);
  const Statistics latency = statistics(latencies);
  const double throughput = times.seconds > 0 ? static_cast<double>(times.runs.size()) / times.seconds : 0;
  const double memory = peak_memory();

  const bool wants_profile = command.profile || !command.export_profile.empty() || !command.trace.empty();
  std::vector<StepProfile> profiles;
  std::vector<StepTime> last_run;
  double peak_gflops = 0;
  double read_gigabytes = 0;
  const int threads =
      command.loading.compile.num_threads > 0 ? command.loading.compile.num_threads : threads_of(engine);
  if (wants_profile) {
    profiles = profile_steps(context, last_run);
    peak_gflops = measure_peak_gflops(cpu_backend().target(), std::max(1, threads));
    read_gigabytes = measure_read_gigabytes(
        static_cast<std::size_t>(engine.weight_bytes() + engine.arena_bytes(profile_index)), std::max(1, threads));
  }
  double total_flops = 0;
  double total_us = 0;
  for (const StepProfile& profile : profiles) {
    total_flops += profile.step.flops;
    total_us += profile.median_us;
  }

  if (!command.export_times.empty()) {
    Json entries = Json::array();
    for (const auto& [begin, end] : times.runs) {
      entries.push_back({{"startMs", begin * 1e3}, {"endMs", end * 1e3}, {"latencyMs", (end - begin) * 1e3}});
    }
    write_file(command.export_times, to_text(entries));
  }
  if (!command.export_profile.empty()) {
    Json entries = profile_json(profiles, peak_gflops);
    entries.insert(entries.begin(), Json{{"count", profiles.empty() ? 0 : profiles.front().us.size()}});
    write_file(command.export_profile, to_text(entries));
  }
  if (!command.trace.empty()) write_file(command.trace, to_text(chrome_trace(last_run, command.loading.path)));

  if (session.json) {
    Json json = {{"model", command.loading.path},
                 {"device", cpu_backend().device_name()},
                 {"streams", command.streams},
                 {"shapes", format_shapes(actual)},
                 {"iterations", times.runs.size()},
                 {"seconds", times.seconds},
                 {"throughput_qps", throughput},
                 {"latency_ms",
                  {{"min", latency.min},
                   {"max", latency.max},
                   {"mean", latency.mean},
                   {"median", latency.median},
                   {"p90", latency.p90},
                   {"p95", latency.p95},
                   {"p99", latency.p99}}},
                 {"first_run_ms", first_run * 1e3},
                 {"load_ms", loaded.seconds_load * 1e3},
                 {"build_seconds", loaded.seconds_build},
                 {"weight_bytes", engine.weight_bytes()},
                 {"arena_bytes", engine.arena_bytes(profile_index)},
                 {"peak_memory_bytes", memory},
                 {"steps", engine.num_steps()}};
    if (wants_profile) {
      json["peak_gflops"] = peak_gflops;
      json["read_gigabytes_per_second"] = read_gigabytes;
      json["profile"] = profile_json(profiles, peak_gflops);
    }
    print_json(json);
    return Exit::ok;
  }
  if (command.profile) {
    fmt::print("=== Profile ({} runs, {} threads, measured peak {:.1f} GFLOP/s) ===\n{}",
               profiles.empty() ? 0 : profiles.front().us.size(), threads, peak_gflops,
               profile_table(profiles, peak_gflops, session.verbose));
    fmt::print("  sum of the steps {}, {:.3g} GFLOP, {:.1f} GFLOP/s\n\n", format_ms(total_us * 1e-3),
               total_flops * 1e-9, total_us > 0 ? total_flops / total_us * 1e-3 : 0);
  }
  fmt::print("=== Performance summary ===\n");
  fmt::print("Throughput: {:.6g} qps\n", throughput);
  fmt::print("{}\n", latency_line(latency));
  fmt::print("Runs: {} in {:.3g} s, {} stream{}, inputs {}\n", times.runs.size(), times.seconds, command.streams,
             command.streams == 1 ? "" : "s", format_shapes(actual));
  if (loaded.seconds_build > 0) fmt::print("Build: {}\n", format_seconds(loaded.seconds_build));
  fmt::print("Load: {}, first run: {}\n", format_ms(loaded.seconds_load * 1e3), format_ms(first_run * 1e3));
  fmt::print("Memory: weights {}, activations {}, peak of this process {}\n",
             format_bytes(static_cast<double>(engine.weight_bytes())),
             format_bytes(static_cast<double>(engine.arena_bytes(profile_index))), format_bytes(memory));
  return Exit::ok;
}

}  // namespace

void add_bench(CLI::App& app, Session& session, Action& action) {
  auto command = std::make_shared<BenchCommand>();
  CLI::App* sub = app.add_subcommand("bench", "Measure latency and throughput, per step too");
  add_loading_options(*sub, command->loading);
  add_input_options(*sub, command->inputs);
  sub->add_option("--iterations", command->iterations, "At least this many runs")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group("Measuring");
  sub->add_option("--duration", command->duration_seconds, "At least this many seconds")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group("Measuring");
  sub->add_option("--warm-up,--warmUp", command->warm_up_ms, "Milliseconds of runs that do not count")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group("Measuring");
  sub->add_option("--streams,--infStreams", command->streams, "Runs at the same time, each with its own context")
      ->check(CLI::Range(1, 256))
      ->capture_default_str()
      ->group("Measuring");
  sub->add_flag("--profile,--dumpProfile", command->profile, "Table of time per step, from runs of their own")
      ->group("Measuring");
  sub->add_option("--export-times,--exportTimes", command->export_times,
                  "JSON file: begin, end and latency of each run")
      ->group("Outputs");
  sub->add_option("--export-profile,--exportProfile", command->export_profile, "JSON file: time per step")
      ->group("Outputs");
  sub->add_option("--trace", command->trace, "JSON file: one run as a Chrome trace (Perfetto opens it)")
      ->group("Outputs");
  sub->add_option("--save-engine,--saveEngine", command->save_engine, "Keep the engine that was built")
      ->group("Outputs");
  refuse_option(*sub, "--exportOutput", "use `tenfold run --outputs FILE.npz`", true);
  refuse_option(*sub, "--exportLayerInfo", "use `tenfold inspect --json`", true);
  add_common_options(*sub, session);
  sub->callback([command, &action] { action = [command](const Session& s) { return run_bench(*command, s); }; });
}

}  // namespace tenfold::cli
