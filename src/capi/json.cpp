#include "capi/json.hpp"

#include <functional>
#include <nlohmann/json.hpp>

#include "base/checked.hpp"
#include "base/error.hpp"

namespace tenfold {
namespace {

using Json = nlohmann::json;

/// Depth of nesting; options need three.
constexpr int kMaxDepth = 16;

struct Key {
  std::string_view name;
  std::function<void(const Json&)> read;
};

Json parse(std::string_view text) {
  if (text.empty()) return Json::object();
  const auto limit = [](int depth, Json::parse_event_t, const Json&) {
    require(depth <= kMaxDepth, Code::invalid_argument, "the options are nested too deeply");
    return true;
  };
  Json json;
  try {
    json = Json::parse(text, limit);
  } catch (const Json::exception& error) {
    throw Error(Code::invalid_argument, fmt::format("the options are no JSON: {}", error.what()));
  }
  require(json.is_object(), Code::invalid_argument, "the options are no JSON object");
  return json;
}

void read_keys(const Json& json, const std::vector<Key>& keys) {
  for (const auto& [name, value] : json.items()) {
    const auto found = std::find_if(keys.begin(), keys.end(), [&, &key = name](const Key& k) { return k.name == key; });
    if (found == keys.end()) {
      std::vector<std::string_view> known;
      for (const Key& key : keys) known.push_back(key.name);
      throw Error(Code::invalid_argument,
                  fmt::format("there is no option '{}'; there are {}", name, fmt::join(known, ", ")));
    }
    try {
      found->read(value);
    } catch (const Json::exception&) {
      throw Error(Code::invalid_argument, fmt::format("option '{}' cannot be {}", name, value.dump()));
    }
  }
}

/// Without this, a JSON number with a fraction would be cut, and true would count as 1.
template <typename T>
Key key(std::string_view name, T& target) {
  return {name, [&target, name](const Json& value) {
            bool fits = true;
            if constexpr (std::is_same_v<T, bool>) {
              fits = value.is_boolean();
            } else if constexpr (std::is_integral_v<T>) {
              fits = value.is_number_integer() && (std::is_signed_v<T> || value.is_number_unsigned());
            }
            require(fits, Code::invalid_argument, "option '{}' cannot be {}", name, value.dump());
            target = value.get<T>();
          }};
}

std::map<std::string, ShapeRange> read_profile(const Json& json) {
  std::map<std::string, ShapeRange> profile;
  for (const auto& [name, value] : json.items()) {
    ShapeRange range;
    read_keys(value, {key("min", range.min), key("opt", range.opt), key("max", range.max)});
    profile[name] = std::move(range);
  }
  return profile;
}

Json to_json(const std::vector<TensorInfo>& infos) {
  Json list = Json::array();
  for (const TensorInfo& info : infos) {
    list.push_back(
        {{"name", info.name}, {"dtype", to_string(info.dtype)}, {"dims", info.dims}, {"dim_names", info.dim_names}});
  }
  return list;
}

/// Names come from models, which need not be valid UTF-8.
std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

LoadOptions parse_load_options(std::string_view json) {
  LoadOptions options;
  std::string on_mismatch = "fail";
  read_keys(parse(json), {key("verify", options.verify), key("threads", options.num_threads),
                          key("max_loop_iterations", options.max_loop_iterations), key("on_mismatch", on_mismatch),
                          key("device", options.device), key("trust_code", options.trust_code)});
  require(on_mismatch == "fail" || on_mismatch == "portable", Code::invalid_argument,
          "option 'on_mismatch' is 'fail' or 'portable', not '{}'", on_mismatch);
  if (on_mismatch == "portable") options.on_mismatch = LoadOptions::OnMismatch::portable;
  return options;
}

CompileOptions parse_compile_options(std::string_view json) {
  CompileOptions options;
  const auto read_profiles = [&](const Json& value) {
    require(value.is_array(), Code::invalid_argument, "option 'profiles' is a list of objects");
    for (const Json& profile : value) options.profiles.push_back(read_profile(profile));
  };
  read_keys(parse(json), {{"profiles", read_profiles},
                          key("threads", options.num_threads),
                          key("opt_level", options.opt_level),
                          key("workspace_bytes", options.workspace_bytes),
                          key("strict", options.strict),
                          key("device", options.device),
                          key("fp16", options.fp16),
                          key("tf32", options.tf32),
                          key("bf16", options.bf16),
                          key("tactic_sources", options.tactic_sources),
                          key("allow_host", options.allow_host),
                          key("portable", options.portable),
                          key("timing_cache", options.timing_cache_path),
                          key("disabled_rules", options.disabled_rules),
                          key("extra_outputs", options.extra_outputs)});
  return options;
}

std::string describe(const Engine& engine) {
  Json profiles = Json::array();
  const std::vector<TensorInfo> inputs = engine.inputs();
  for (int p = 0; p < engine.num_profiles(); ++p) {
    Json ranges = Json::object();
    const std::vector<ShapeRange> shapes = engine.profile(p);
    for (std::size_t i = 0; i < shapes.size() && i < inputs.size(); ++i) {
      ranges[inputs[i].name] = {{"min", shapes[i].min}, {"opt", shapes[i].opt}, {"max", shapes[i].max}};
    }
    profiles.push_back({{"inputs", ranges}, {"arena_bytes", engine.arena_bytes(p)}});
  }
  return dump({{"inputs", to_json(inputs)},
               {"outputs", to_json(engine.outputs())},
               {"profiles", profiles},
               {"steps", engine.num_steps()},
               {"weight_bytes", engine.weight_bytes()},
               {"metadata", engine.metadata()}});
}

std::string describe(const std::vector<StepTime>& steps) {
  Json list = Json::array();
  for (const StepTime& step : steps) {
    list.push_back({{"name", step.name},
                    {"origins", step.origins},
                    {"op_type", step.op_type},
                    {"tactic", step.tactic},
                    {"start_us", step.start_us},
                    {"duration_us", step.duration_us},
                    {"flops", step.flops},
                    {"bytes", step.bytes}});
  }
  return dump(list);
}

void check_input_bytes(const std::vector<TensorInfo>& inputs, std::string_view name, std::span<const std::int64_t> dims,
                       std::size_t size_bytes) {
  for (const TensorInfo& info : inputs) {
    if (info.name != name || info.dims.size() != dims.size()) continue;
    std::optional<std::uint64_t> needed = size_of(info.dtype);
    for (const std::int64_t dim : dims) {
      if (dim < 0) return;
      if (needed) needed = checked_mul(*needed, static_cast<std::uint64_t>(dim));
    }
    require(needed == size_bytes, Code::invalid_argument,
            "input '{}' of shape [{}] and type {} needs {} bytes, but {} were given", name, fmt::join(dims, ", "),
            to_string(info.dtype), needed.value_or(UINT64_MAX), size_bytes);
  }
}

}  // namespace tenfold
