// The C ABI over the C++ API. Every function is one guard(...): exceptions become a status and a sentence.
#include "tenfold/tenfold.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "base/error.hpp"
#include "base/log.hpp"
#include "capi/json.hpp"
#include "tenfold/compile.hpp"
#include "tenfold/tenfold.hpp"

struct tenfold_engine {
  tenfold::Engine engine;
  std::vector<tenfold::TensorInfo> inputs, outputs;  // their names are handed out
};
struct tenfold_context {
  tenfold::Context context;
  std::vector<tenfold::TensorInfo> inputs;
};

namespace tenfold {
namespace {

static_assert(TENFOLD_INTERNAL == static_cast<int>(Code::internal));
static_assert(TENFOLD_FLOAT8E4M3 == static_cast<int>(DType::float8e4m3));
static_assert(TENFOLD_LOG_NONE == static_cast<int>(LogLevel::none));

/// Empty until something fails.
std::string& last_error() {
  thread_local std::string text;
  return text;
}

tenfold_status fail(Code code, std::string_view message) noexcept {
  try {
    last_error() = message;
  } catch (...) {  // NOLINT(bugprone-empty-catch): without memory for it, the sentence before stays
  }
  return static_cast<tenfold_status>(code);
}

/// Runs `body`; whatever it throws becomes a status.
template <typename Body>
tenfold_status guard(const Body& body) noexcept {
  try {
    body();
    return TENFOLD_OK;
  } catch (const Error& error) {
    return fail(error.code(), error.message());
  } catch (const std::bad_alloc&) {
    return fail(Code::out_of_memory, "out of memory");
  } catch (const std::exception& error) {
    return fail(Code::internal, error.what());
  } catch (...) {
    return fail(Code::internal, "an unknown failure");
  }
}

/// Pointers that must not be NULL.
template <typename T>
T& need(T* pointer, std::string_view what) {
  require(pointer != nullptr, Code::invalid_argument, "{} is NULL", what);
  return *pointer;
}
std::string text(const char* pointer, std::string_view what) { return &need(pointer, what); }
std::string_view optional_text(const char* pointer) { return pointer == nullptr ? "" : pointer; }

/// Memory that the caller frees with tenfold_free.
void* copy_out(const void* data, std::size_t bytes) {
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  if (bytes != 0) std::memcpy(memory, data, bytes);
  return memory;
}
char* copy_out(const std::string& string) { return static_cast<char*>(copy_out(string.c_str(), string.size() + 1)); }

tenfold_engine* wrap(Engine engine) {
  auto result = std::make_unique<tenfold_engine>(tenfold_engine{std::move(engine), {}, {}});
  result->inputs = result->engine.inputs();
  result->outputs = result->engine.outputs();
  return result.release();
}

void fill(const std::vector<TensorInfo>& infos, std::int32_t index, tenfold_tensor_info& result) {
  require(index >= 0 && static_cast<std::size_t>(index) < infos.size(), Code::invalid_argument,
          "there is no tensor {}; the engine has {} of this kind", index, infos.size());
  const TensorInfo& info = infos[static_cast<std::size_t>(index)];
  result = {};
  result.name = info.name.c_str();
  result.dtype = static_cast<tenfold_dtype>(info.dtype);
  result.rank = static_cast<std::int32_t>(info.dims.size());
  std::copy(info.dims.begin(), info.dims.end(), result.dims);
}

CompileOptions compile_options(const char* options, tenfold_progress progress, void* user, bool& cancelled) {
  CompileOptions result = parse_compile_options(optional_text(options));
  if (progress == nullptr) return result;
  result.on_progress = [progress, user, &cancelled](const CompileProgress& now) {
    const std::int32_t answer =
        progress(now.phase.c_str(), now.item.c_str(), now.fraction, now.remaining_seconds, user);
    cancelled = cancelled || answer != 0;
  };
  result.is_cancelled = [&cancelled] { return cancelled; };
  return result;
}

}  // namespace
}  // namespace tenfold

using tenfold::guard;
using tenfold::need;
using tenfold::require;

extern "C" {

const char* tenfold_version(void) { return TENFOLD_VERSION; }
const char* tenfold_last_error(void) { return tenfold::last_error().c_str(); }
const char* tenfold_status_name(tenfold_status status) {
  return tenfold::to_string(static_cast<tenfold::Code>(status)).data();
}
size_t tenfold_dtype_size(tenfold_dtype dtype) { return tenfold::size_of(static_cast<tenfold::DType>(dtype)); }
void tenfold_free(void* memory) { std::free(memory); }

// --- Engines ---------------------------------------------------------------------------------------------------------

tenfold_status tenfold_engine_load(const char* path, const char* options, tenfold_engine** engine) {
  return guard([&] {
    need(engine, "engine") = nullptr;
    const auto parsed = tenfold::parse_load_options(tenfold::optional_text(options));
    *engine = tenfold::wrap(tenfold::Engine::load(tenfold::text(path, "path"), parsed));
  });
}

tenfold_status tenfold_engine_load_memory(const void* data, size_t size_bytes, const char* options,
                                          tenfold_engine** engine) {
  return guard([&] {
    need(engine, "engine") = nullptr;
    const auto parsed = tenfold::parse_load_options(tenfold::optional_text(options));
    const auto* bytes = &need(static_cast<const std::byte*>(data), "data");
    *engine = tenfold::wrap(tenfold::Engine::load(std::span(bytes, size_bytes), parsed));
  });
}

void tenfold_engine_free(tenfold_engine* engine) { delete engine; }

tenfold_status tenfold_engine_num_inputs(const tenfold_engine* engine, int32_t* count) {
  return guard([&] { need(count, "count") = static_cast<int32_t>(need(engine, "engine").inputs.size()); });
}
tenfold_status tenfold_engine_num_outputs(const tenfold_engine* engine, int32_t* count) {
  return guard([&] { need(count, "count") = static_cast<int32_t>(need(engine, "engine").outputs.size()); });
}
tenfold_status tenfold_engine_get_input(const tenfold_engine* engine, int32_t index, tenfold_tensor_info* info) {
  return guard([&] { tenfold::fill(need(engine, "engine").inputs, index, need(info, "info")); });
}
tenfold_status tenfold_engine_get_output(const tenfold_engine* engine, int32_t index, tenfold_tensor_info* info) {
  return guard([&] { tenfold::fill(need(engine, "engine").outputs, index, need(info, "info")); });
}
tenfold_status tenfold_engine_describe(const tenfold_engine* engine, char** json) {
  return guard([&] { need(json, "json") = tenfold::copy_out(tenfold::describe(need(engine, "engine").engine)); });
}

// --- Contexts --------------------------------------------------------------------------------------------------------

tenfold_status tenfold_context_create(const tenfold_engine* engine, int32_t profile, tenfold_context** context) {
  return guard([&] {
    need(context, "context") = nullptr;
    const tenfold_engine& owner = need(engine, "engine");
    *context = new tenfold_context{owner.engine.make_context(profile), owner.inputs};
  });
}

void tenfold_context_free(tenfold_context* context) { delete context; }

tenfold_status tenfold_context_set_profile(tenfold_context* context, int32_t profile) {
  return guard([&] { need(context, "context").context.set_profile(profile); });
}

tenfold_status tenfold_context_set_input(tenfold_context* context, const char* name, const int64_t* dims, int32_t rank,
                                         const void* data, size_t size_bytes) {
  return guard([&] {
    tenfold_context& target = need(context, "context");
    const std::string input = tenfold::text(name, "name");
    require(rank >= 0 && rank <= TENFOLD_MAX_RANK, tenfold::Code::invalid_argument, "input '{}' of rank {}", input,
            rank);
    if (rank > 0) need(dims, "dims");
    const std::span<const int64_t> shape(dims, static_cast<std::size_t>(rank));
    tenfold::check_input_bytes(target.inputs, input, shape, size_bytes);
    target.context.set_input(input, shape, data);
  });
}

tenfold_status tenfold_context_set_output(tenfold_context* context, const char* name, void* data,
                                          size_t capacity_bytes) {
  return guard([&] { need(context, "context").context.set_output(tenfold::text(name, "name"), data, capacity_bytes); });
}

tenfold_status tenfold_context_run(tenfold_context* context) {
  return guard([&] { need(context, "context").context.run(); });
}
tenfold_status tenfold_context_enqueue(tenfold_context* context, void* stream) {
  return guard([&] { need(context, "context").context.enqueue(stream); });
}
tenfold_status tenfold_context_warm_up(tenfold_context* context) {
  return guard([&] { need(context, "context").context.warm_up(); });
}

tenfold_status tenfold_context_get_output(const tenfold_context* context, const char* name, tenfold_tensor* output) {
  return guard([&] {
    const tenfold::OutputView view = need(context, "context").context.output(tenfold::text(name, "name"));
    tenfold_tensor& result = need(output, "output");
    result = {};
    result.dtype = static_cast<tenfold_dtype>(view.dtype);
    result.rank = static_cast<int32_t>(view.dims.size());
    std::copy(view.dims.begin(), view.dims.end(), result.dims);
    result.data = view.data;
    result.size_bytes = view.size_bytes;
  });
}

tenfold_status tenfold_context_set_profiling(tenfold_context* context, int32_t on) {
  return guard([&] { need(context, "context").context.set_profiling(on != 0); });
}
tenfold_status tenfold_context_step_times(const tenfold_context* context, char** json) {
  return guard([&] {
    need(json, "json") = tenfold::copy_out(tenfold::describe(need(context, "context").context.step_times()));
  });
}

// --- Compiling -------------------------------------------------------------------------------------------------------

tenfold_status tenfold_build(const char* model_path, const char* engine_path, const char* options,
                             tenfold_progress progress, void* user) {
  return guard([&] {
    bool cancelled = false;
    tenfold::compile(tenfold::text(model_path, "model_path"), tenfold::text(engine_path, "engine_path"),
                     tenfold::compile_options(options, progress, user, cancelled));
  });
}

tenfold_status tenfold_build_memory(const void* model, size_t model_bytes, const char* options,
                                    tenfold_progress progress, void* user, void** engine, size_t* engine_bytes) {
  return guard([&] {
    need(engine, "engine") = nullptr;
    need(engine_bytes, "engine_bytes") = 0;
    bool cancelled = false;
    const auto* bytes = &need(static_cast<const std::byte*>(model), "model");
    const std::vector<std::byte> built =
        tenfold::compile(std::span(bytes, model_bytes), tenfold::compile_options(options, progress, user, cancelled));
    *engine = tenfold::copy_out(built.data(), built.size());
    *engine_bytes = built.size();
  });
}

// --- Messages --------------------------------------------------------------------------------------------------------

void tenfold_set_log(tenfold_log sink, tenfold_log_level least, void* user) {
  (void)guard([&] {
    if (sink == nullptr) {
      tenfold::set_log_sink({});
      return;
    }
    tenfold::set_log_sink(
        [sink, user](tenfold::LogLevel level, std::string_view message) {
          sink(static_cast<tenfold_log_level>(level), std::string(message).c_str(), user);
        },
        static_cast<tenfold::LogLevel>(least));
  });
}

}  // extern "C"
