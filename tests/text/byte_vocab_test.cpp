// SPDX-License-Identifier: Apache-2.0
// Byte-level vocabularies that are learned from text.
#include "espalier/text/byte_vocab.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "espalier/text/tokenizer_file.h"
#include "tests/support/errors.h"

namespace espalier::text {
namespace {

using test::message;

Tokenizer tokenizer_of(const ByteVocabulary& vocabulary) {
  const auto files = qwen2_tokenizer_files(vocabulary);
  return Tokenizer(parse_vocab_and_merges(files.at("vocab.json"), files.at("merges.txt"),
                                          files.at("tokenizer_config.json"), "learned"));
}

TEST(ByteVocab, JoinsTheMostFrequentPairs) {
  const auto made = learn_byte_vocabulary("low low low low lower lower newest", {.size = 300});
  ASSERT_GT(made.merges.size(), 4u);
  // "lo" and "ow" come six times each: the pair of the smaller bytes wins; then " low" five times.
  EXPECT_EQ(made.merges[0], "l o");
  EXPECT_EQ(made.merges[1], "lo w");
  EXPECT_EQ(made.merges[2], "\u0120 low") << "a space belongs to the word behind it";
  EXPECT_EQ(made.tokens.size(), 256 + made.merges.size());
  EXPECT_EQ(std::count(made.merges.begin(), made.merges.end(), "n e"), 0) << "it comes once";
}

TEST(ByteVocab, IsAQwen2Tokenizer) {
  const std::string text =
      "low lower lowest \u00E9t\u00E9 \U0001F333 don't 12\nlow lower \u00E9t\u00E9\n";
  const auto made = learn_byte_vocabulary(text, {.size = 280});
  const Tokenizer tokenizer = tokenizer_of(made);
  EXPECT_EQ(tokenizer.kind(), "bpe");
  EXPECT_EQ(tokenizer.vocab_size(), static_cast<int64_t>(made.tokens.size()) + 1);
  EXPECT_EQ(tokenizer.id(kEndOfText), static_cast<int32_t>(made.tokens.size()));
  EXPECT_TRUE(tokenizer.is_special(static_cast<int32_t>(made.tokens.size())));
  for (const std::string& sample :
       {text, std::string("anything \u4E2D\xFF at all"), std::string()}) {
    const auto ids = tokenizer.encode(sample);
    EXPECT_EQ(tokenizer.decode(ids),
              sample == text || sample.empty() ? sample : "anything \u4E2D\uFFFD at all");
  }
  EXPECT_EQ(tokenizer.encode("low").size(), 1u);
}

TEST(ByteVocab, SizeAndTextAreChecked) {
  EXPECT_EQ(learn_byte_vocabulary("aaaa aaaa aaaa", {.size = 258}).tokens.size(), 257u);
  EXPECT_NE(message(ErrorKind::user, [] { learn_byte_vocabulary("a", {.size = 257}); })
                .find("size = 257 leaves no room beside 256 bytes"),
            std::string::npos);
  EXPECT_NE(message(ErrorKind::data, [] { learn_byte_vocabulary("", {}); }).find("no text"),
            std::string::npos);
}

}  // namespace
}  // namespace espalier::text
