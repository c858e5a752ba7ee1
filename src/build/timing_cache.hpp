// What kernels took on this processor, kept between builds. Data only: losing or ignoring it costs time, nothing else.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tenfold {

class TimingCache {
 public:
  /// Reads `path`. A missing file is an empty cache; a broken one is ignored and reported in `warnings`.
  static TimingCache load(const std::string& path, std::vector<std::string>& warnings);

  /// Adds what `text` has and this does not. Broken text is ignored and reported in `warnings`.
  void merge(std::string_view text, std::vector<std::string>& warnings);

  /// `key` describes problem, device, versions and threads; `candidate` the tactic with its parameters.
  std::optional<double> find(const std::string& key, const std::string& candidate) const;
  void add(const std::string& key, const std::string& candidate, double time_us);

  /// Merges what is in the file by now (others may have written) and replaces it atomically. What this build measured
  /// or read stays as it was read. Throws Error(io_failure).
  void save(const std::string& path) const;

  std::string to_text() const;
  /// Throws Error(invalid_argument) for text that is no timing cache of this format.
  static TimingCache from_text(std::string_view text);
  bool is_changed() const { return changed_; }

 private:
  std::map<std::string, std::map<std::string, double>> entries_;
  bool changed_ = false;
};

}  // namespace tenfold
