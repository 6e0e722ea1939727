// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/glob.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include "espalier/base/error.h"
#include "espalier/base/rng.h"

namespace espalier {
namespace {

/// The definition, as plain recursion, for patterns of literals, `*` and `?`.
bool defined_match(std::string_view pattern, std::string_view path) {
  if (pattern.empty()) return path.empty();
  if (pattern[0] == '*') {
    return defined_match(pattern.substr(1), path) ||
           (!path.empty() && defined_match(pattern, path.substr(1)));
  }
  return !path.empty() && (pattern[0] == '?' || pattern[0] == path[0]) &&
         defined_match(pattern.substr(1), path.substr(1));
}

std::string message_of(const std::string& pattern) {
  try {
    Glob glob(pattern);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::user);
    return error.what();
  }
  return "accepted";
}

TEST(Glob, MatchesTheWholePathAndStarsCrossDots) {
  const Glob dense("*.output.dense");
  EXPECT_TRUE(dense.matches("bert.encoder.layer.0.output.dense"));
  EXPECT_TRUE(dense.matches("bert.encoder.layer.0.attention.output.dense"));
  EXPECT_FALSE(dense.matches("bert.encoder.layer.0.output.dense.weight"));
  EXPECT_FALSE(dense.matches("output.dense"));
  EXPECT_TRUE(Glob("*").matches(""));
  EXPECT_FALSE(Glob("?").matches(""));
  EXPECT_FALSE(Glob("a.b").matches("a.B"));
  EXPECT_FALSE(Glob("a.b").matches("axb"));
}

TEST(Glob, SetsRangesAndTheirInverses) {
  EXPECT_TRUE(Glob("layer.[0-3].*").matches("layer.2.weight"));
  EXPECT_FALSE(Glob("layer.[0-3].*").matches("layer.12.weight"));
  EXPECT_TRUE(Glob("layer.[!0-3].*").matches("layer.7.weight"));
  EXPECT_FALSE(Glob("layer.[!0-3].*").matches("layer.3.weight"));
  EXPECT_TRUE(Glob("x[]]").matches("x]"));
  EXPECT_TRUE(Glob("x[[]y").matches("x[y"));
  EXPECT_TRUE(Glob("x[a-]").matches("x-"));
  EXPECT_TRUE(Glob("[\xC3]").matches("\xC3"));
}

TEST(Glob, AgreesWithItsDefinitionOnRandomPatterns) {
  const RngKey key = rng_key(7, 0, 1);
  uint64_t index = 0;
  const auto draw = [&](std::string_view alphabet, uint32_t longest) {
    std::string text;
    const uint32_t length = rng_bits(key, index++) % (longest + 1);
    for (uint32_t i = 0; i < length; ++i)
      text += alphabet[rng_bits(key, index++) % alphabet.size()];
    return text;
  };
  int matched = 0;
  for (int round = 0; round < 20000; ++round) {
    const std::string pattern = draw("ab.*?", 7), path = draw("ab.", 9);
    if (pattern.empty()) continue;
    const bool want = defined_match(pattern, path);
    matched += want ? 1 : 0;
    ASSERT_EQ(Glob(pattern).matches(path), want) << pattern << " on " << path;
  }
  EXPECT_GT(matched, 1000);
}

TEST(Glob, ManyStarsStayFast) {
  std::string pattern;
  for (int i = 0; i < 200; ++i) pattern += "*a";
  EXPECT_FALSE(Glob(pattern + "b").matches(std::string(5000, 'a')));
}

TEST(Glob, BadPatternsSayWhere) {
  EXPECT_NE(message_of("layer.[0-9").find("\"[\" at position 6 of pattern \"layer.[0-9\""),
            std::string::npos);
  EXPECT_NE(message_of("x[9-0]").find("range 9-0"), std::string::npos);
  EXPECT_NE(message_of("").find("empty pattern"), std::string::npos);
}

}  // namespace
}  // namespace espalier
