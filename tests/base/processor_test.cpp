// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/processor.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>

namespace espalier {
namespace {

TEST(Processor, HasWhatTheSystemSays) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line) && !line.starts_with("flags")) continue;
  if (!file) GTEST_SKIP() << "/proc/cpuinfo has no flags";
  std::istringstream words(line);
  const std::set<std::string> flags{std::istream_iterator<std::string>(words), {}};
  EXPECT_EQ(has_f16c(), flags.contains("f16c"));
}

}  // namespace
}  // namespace espalier
