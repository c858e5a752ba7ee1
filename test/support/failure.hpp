// For tests of what is refused.
#pragma once

#include <string>

#include <gtest/gtest.h>

#include "base/error.hpp"

namespace tenfold::test {

/// The message of the Error that `f` throws, after a check of its code; "no failure" if it throws none.
template <typename F>
std::string failure(Code code, F&& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.message();
    return error.message();
  }
  return "no failure";
}

}  // namespace tenfold::test
