// Messages to the caller. The library never prints: without a sink, messages vanish.
#pragma once

#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "tenfold/types.hpp"

namespace tenfold {

/// Would a message of this level reach a sink?
bool is_logged(LogLevel level) noexcept;
/// Hands `message` to the sink. Never throws: a sink that throws loses its message.
void log_message(LogLevel level, std::string_view message) noexcept;

/// Formats only when somebody listens.
template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (is_logged(level)) log_message(level, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace tenfold
