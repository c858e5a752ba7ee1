// Text for people: quantities with units, tables, and a progress bar.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "build/builder.hpp"
#include "session.hpp"

namespace tenfold::cli {

std::string format_bytes(double bytes);      ///< "12.3 MiB"
std::string format_seconds(double seconds);  ///< "850 ms", "12.3 s", "2 min 05 s"
std::string format_ms(double milliseconds);  ///< four significant digits: "0.1234 ms"
std::string join(const std::vector<std::string>& parts, std::string_view separator);
/// At most `width` columns, the rest cut away and marked. Counts code points of UTF-8.
std::string shorten(const std::string& text, std::size_t width);
/// Columns aligned to their widest cell. Cells of columns in `right` are aligned to the right.
std::string table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows,
                  const std::vector<bool>& right);

/// A line on stderr, unless quiet.
void note(const Session& session, std::string_view text);

/// Shows a build's progress: one line redrawn on a terminal, one line a phase elsewhere, nothing if quiet.
class ProgressBar {
 public:
  explicit ProgressBar(const Session& session);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  void update(const BuildProgress& progress);
  /// Removes the line.
  void finish();

 private:
  bool quiet_ = false;
  bool terminal_ = false;
  bool drawn_ = false;
  double last_drawn_ = 0;
  std::string last_phase_;
};

/// Seconds of a clock that never goes back.
double now_seconds();

}  // namespace tenfold::cli
