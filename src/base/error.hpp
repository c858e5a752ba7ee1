// Checks that throw: one exception type inside the library (tenfold::Error), a code at its edge.
//
// A message is one sentence that says where, what was expected and what came. Each layer adds its "where" by catching,
// calling `in_context` and rethrowing.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "tenfold/types.hpp"

namespace tenfold {

/// The caller's or the model's mistake: throws Error(code, message) unless `holds`. The message is formatted only then.
template <typename... Args>
void require(bool holds, Code code, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) [[unlikely]] throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

/// Our own broken invariant: throws Error(internal, message) unless `holds`.
template <typename... Args>
void ensure(bool holds, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) [[unlikely]] throw Error(Code::internal, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace tenfold
