// SPDX-License-Identifier: Apache-2.0
#include "espalier/base/text.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "espalier/base/checked.h"

namespace espalier {
namespace {

TEST(Text, EditDistanceCountsSwapsOnce) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("abc", ""), 3);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("wieght", "weight"), 1);
  EXPECT_EQ(edit_distance("weight", "weight"), 0);
}

TEST(Text, NearestPicksTheFirstOfEquals) {
  const std::vector<std::string> names{"decoder.weight", "decoder.bias", "encoder.bias"};
  EXPECT_EQ(nearest("decoder.wieght", names), "decoder.weight");
  EXPECT_EQ(nearest("ecoder.bias", names), "decoder.bias");
  EXPECT_EQ(nearest_hint("encoder.bia", names), "; nearest: encoder.bias");
  EXPECT_EQ(nearest_hint("x", {}), "");
}

TEST(Text, BytesForPeople) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.50 KiB");
  EXPECT_EQ(human_bytes(int64_t{12} << 30), "12.0 GiB");
  EXPECT_EQ(human_bytes((int64_t{1} << 30) - 1), "1.00 GiB");
  EXPECT_EQ(human_bytes(-2048), "-2.00 KiB");
  EXPECT_EQ(human_bytes(std::numeric_limits<int64_t>::max()), "8.00 EiB");
  EXPECT_EQ(human_bytes(std::numeric_limits<int64_t>::min()), "-8.00 EiB");
}

TEST(Text, TimesForPeople) {
  EXPECT_EQ(human_duration(0), "0 us");
  EXPECT_EQ(human_duration(350e-6), "350 us");
  EXPECT_EQ(human_duration(0.0125), "12.5 ms");
  EXPECT_EQ(human_duration(4.2), "4.20 s");
  EXPECT_EQ(human_duration(59.99), "1 min 00 s");
  EXPECT_EQ(human_duration(187), "3 min 07 s");
  EXPECT_EQ(human_duration(7500), "2 h 05 min");
  EXPECT_EQ(human_duration(356400), "4 d 03 h");
  EXPECT_EQ(human_duration(std::numeric_limits<double>::infinity()), "unknown");
}

TEST(Text, JsonStringsSurviveAParser) {
  for (const std::string& text :
       {std::string("plain"), std::string("a\"b\\c\n\t\x01"),
        std::string("z\xC3\xBC \xE2\x82\xAC \xF0\x9F\x8C\xB1"), std::string("nul\0in", 6)}) {
    EXPECT_EQ(nlohmann::json::parse(json_quote(text)).get<std::string>(), text);
  }
}

TEST(Text, BytesThatAreNotUtf8BecomeTheReplacementCharacter) {
  for (const char* text : {"\xFF", "\xC0\x80", "\xED\xA0\x80", "\xF5\x80\x80\x80", "\xE2\x82"}) {
    const auto parsed =
        nlohmann::json::parse(json_quote(std::string("x") + text)).get<std::string>();
    EXPECT_EQ(parsed.substr(0, 4), "x\xEF\xBF\xBD");
  }
}

template <typename Function>
std::string message_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    return error.what();
  }
  return "no error";
}

TEST(Checked, OverflowAndNarrowingNameTheNumbers) {
  const CheckedFor bytes{ErrorKind::data, "safetensors", "bytes of w"};
  EXPECT_EQ(checked_mul(int64_t{6}, 7, bytes), 42);
  EXPECT_EQ(checked_add(uint8_t{250}, 5, bytes), 255);
  EXPECT_EQ(checked_narrow<int32_t>(int64_t{-5}, bytes), -5);
  const int64_t big = int64_t{1} << 40;
  EXPECT_EQ(message_of([&] { checked_mul(big, big, bytes); }),
            "[safetensors] bytes of w overflows 64 bits: 1099511627776 * 1099511627776");
  EXPECT_EQ(message_of([&] { checked_add(uint8_t{250}, 6, bytes); }),
            "[safetensors] bytes of w overflows 8 bits: 250 + 6");
  EXPECT_EQ(message_of([&] { checked_narrow<uint32_t>(int64_t{-1}, bytes); }),
            "[safetensors] bytes of w = -1 does not fit unsigned 32 bits");
}

}  // namespace
}  // namespace espalier
