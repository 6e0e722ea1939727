// SPDX-License-Identifier: Apache-2.0
// What a run of the program must have printed.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/program.h"

namespace espalier::test {

inline void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\nis not in: " << text;
  }
}

/// Success, and every part in the output.
inline void expect_text(const Ran& ran, const std::vector<std::string>& parts) {
  EXPECT_EQ(ran.code, 0) << ran.err;
  expect_parts(ran.out, parts);
}

/// An error with this exit code that lists things, and every part in it.
inline void expect_listing(const Ran& ran, int code, const std::vector<std::string>& parts) {
  EXPECT_EQ(ran.code, code) << ran.out << ran.err;
  EXPECT_EQ(ran.err.rfind("espalier: error: [", 0), 0u) << ran.err;
  expect_parts(ran.err, parts);
}

/// The same in one line, unless it is a defect of the program.
inline void expect_error(const Ran& ran, int code, const std::vector<std::string>& parts) {
  expect_listing(ran, code, parts);
  if (code != 70) {
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << "one line: " << ran.err;
  }
}

}  // namespace espalier::test
