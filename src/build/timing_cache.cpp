#include "build/timing_cache.hpp"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/atomic_file.hpp"
#include "base/error.hpp"

namespace tenfold {
namespace {

constexpr int kFormat = 1;
constexpr std::uintmax_t kMaxFileBytes = std::uintmax_t{256} << 20;

}  // namespace

TimingCache TimingCache::from_text(std::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  require(json.is_object() && json.value("tenfold_timing_cache", 0) == kFormat && json.contains("entries") &&
              json["entries"].is_object(),
          Code::invalid_argument, "this is no timing cache of format {}", kFormat);
  TimingCache cache;
  for (const auto& [key, candidates] : json["entries"].items()) {
    if (!candidates.is_object()) continue;
    for (const auto& [candidate, time] : candidates.items()) {
      if (time.is_number() && std::isfinite(time.get<double>()) && time.get<double>() > 0) {
        cache.entries_[key][candidate] = time.get<double>();
      }
    }
  }
  return cache;
}

std::string TimingCache::to_text() const {
  nlohmann::json json;
  json["tenfold_timing_cache"] = kFormat;
  json["entries"] = entries_;
  return json.dump(1) + "\n";
}

TimingCache TimingCache::load(const std::string& path, std::vector<std::string>& warnings) {
  std::error_code status;
  if (path.empty() || !std::filesystem::exists(path, status)) return {};
  try {
    require(std::filesystem::is_regular_file(path, status) && std::filesystem::file_size(path, status) <= kMaxFileBytes,
            Code::invalid_argument, "it is no regular file of at most {} bytes", kMaxFileBytes);
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    require(static_cast<bool>(file), Code::io_failure, "it cannot be read");
    return from_text(text.str());
  } catch (const Error& error) {
    warnings.push_back(fmt::format("timing cache '{}' is ignored: {}", path, error.message()));
    return {};
  }
}

void TimingCache::merge(std::string_view text, std::vector<std::string>& warnings) {
  try {
    for (const auto& [key, candidates] : from_text(text).entries_)
      entries_[key].insert(candidates.begin(), candidates.end());
  } catch (const Error& error) {
    warnings.push_back(fmt::format("the timing cache given is ignored: {}", error.message()));
  }
}

std::optional<double> TimingCache::find(const std::string& key, const std::string& candidate) const {
  const auto problem = entries_.find(key);
  if (problem == entries_.end()) return std::nullopt;
  const auto time = problem->second.find(candidate);
  if (time == problem->second.end()) return std::nullopt;
  return time->second;
}

void TimingCache::add(const std::string& key, const std::string& candidate, double time_us) {
  entries_[key][candidate] = time_us;
  changed_ = true;
}

void TimingCache::save(const std::string& path) const {
  std::vector<std::string> ignored;
  TimingCache merged = load(path, ignored);
  for (const auto& [key, candidates] : entries_) {
    for (const auto& [candidate, time] : candidates) merged.entries_[key][candidate] = time;
  }
  const std::string text = merged.to_text();
  write_file_atomically(path, std::as_bytes(std::span(text)));
}

}  // namespace tenfold
