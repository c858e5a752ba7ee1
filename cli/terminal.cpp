// Text for people.
#include "terminal.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace tenfold::cli {
namespace {

std::size_t columns_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

}  // namespace

std::string format_bytes(double bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string format_seconds(double seconds) {
  if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1e3);
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::int64_t>(std::lround(seconds));
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

std::string format_ms(double milliseconds) { return fmt::format("{:.4g} ms", milliseconds); }

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

std::string shorten(const std::string& text, std::size_t width) {
  if (columns_of(text) <= width) return text;
  std::size_t columns = 0;
  std::size_t end = 0;
  while (end < text.size() && columns + 1 < width) {
    ++end;
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) ++end;
    ++columns;
  }
  return text.substr(0, end) + "~";
}

std::string table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows,
                  const std::vector<bool>& right) {
  std::vector<std::size_t> widths;
  for (const std::string& cell : header) widths.push_back(columns_of(cell));
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns_of(row[i]));
  }
  std::string text;
  const auto add_row = [&](const std::vector<std::string>& row) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - columns_of(row[i]), ' ');
      line += "  ";
      line += right[i] ? padding + row[i] : row[i] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add_row(header);
  for (const auto& row : rows) add_row(row);
  return text;
}

void note(const Session& session, std::string_view text) {
  if (!session.quiet) fmt::print(stderr, "{}\n", text);
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

ProgressBar::ProgressBar(const Session& session) : quiet_(session.quiet), terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() { finish(); }

void ProgressBar::update(const BuildProgress& progress) {
  if (quiet_) return;
  if (!terminal_) {
    if (progress.phase != last_phase_) {
      last_phase_ = progress.phase;
      fmt::print(stderr, "{:3.0f}%  {}\n", 100 * progress.fraction, progress.phase);
    }
    return;
  }
  const double now = now_seconds();
  if (drawn_ && now - last_drawn_ < 0.05 && progress.fraction < 1) return;
  last_drawn_ = now;
  winsize size{};
  const std::size_t columns =
      ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? static_cast<std::size_t>(size.ws_col) : 80;
  constexpr int kCells = 24;
  const int filled = std::clamp(static_cast<int>(std::lround(progress.fraction * kCells)), 0, kCells);
  std::string line =
      fmt::format("[{}{}] {:3.0f}%  {}", std::string(static_cast<std::size_t>(filled), '#'),
                  std::string(static_cast<std::size_t>(kCells - filled), '.'), 100 * progress.fraction, progress.phase);
  if (progress.remaining_seconds >= 0) line += fmt::format(", {} left", format_seconds(progress.remaining_seconds));
  if (!progress.item.empty()) line += fmt::format("  {}", progress.item);
  fmt::print(stderr, "\r\x1b[K{}", shorten(line, columns - 1));
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressBar::finish() {
  if (!drawn_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace tenfold::cli
