// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE against its definition written down plainly, the scanner, and UTF-8.
#include "espalier/text/byte_bpe.h"

#include <gtest/gtest.h>

#include <random>

#include "espalier/base/error.h"
#include "espalier/text/tokenizer_file.h"
#include "espalier/text/utf8.h"

namespace espalier::text {
namespace {

using Ids = std::vector<int32_t>;

/// Merges among the letters a to d, at random: ids 0 to 255 are bytes, merge k makes 256 + k.
ByteBpe random_model(uint32_t seed, std::vector<ByteBpe::Merge>& merges) {
  std::mt19937 random(seed);
  ByteBpe::Options options;
  for (int32_t byte = 0; byte < 256; ++byte) options.byte_ids[static_cast<size_t>(byte)] = byte;
  std::vector<int32_t> known{'a', 'b', 'c', 'd'};
  for (int32_t i = 0; i < 40; ++i) {
    const int32_t left = known[random() % known.size()], right = known[random() % known.size()];
    options.merges.push_back({left, right, 256 + i});
    known.push_back(256 + i);
  }
  merges = options.merges;
  return ByteBpe(std::move(options));
}

/// The definition: find the pair of lowest rank, the leftmost of equals; merge; again.
Ids merge_plainly(std::string_view word, const std::vector<ByteBpe::Merge>& merges) {
  Ids ids;
  for (const char byte : word) ids.push_back(static_cast<uint8_t>(byte));
  while (true) {
    size_t best_rank = merges.size(), best = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      // The later of equal merges counts.
      for (size_t rank = merges.size(); rank-- > 0;) {
        if (merges[rank].left != ids[i] || merges[rank].right != ids[i + 1]) continue;
        if (rank < best_rank) best_rank = rank, best = i;
        break;
      }
    }
    if (best_rank == merges.size()) return ids;
    ids[best] = merges[best_rank].result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(ByteBpe, MergesAsDefinedShortAndLong) {
  std::mt19937 random(3);
  size_t merged = 0;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    std::vector<ByteBpe::Merge> merges;
    const ByteBpe model = random_model(seed, merges);
    Workspace work;
    for (const size_t size : {1, 2, 3, 7, 20, 47, 48, 49, 50, 120}) {
      std::string word;
      for (size_t i = 0; i < size; ++i) word.push_back(static_cast<char>('a' + random() % 4));
      model.merge_word(word, work);
      const Ids want = merge_plainly(word, merges);
      ASSERT_EQ(work.word_ids, want) << word;
      merged += word.size() - want.size();
    }
  }
  EXPECT_GT(merged, 1000u);
}

TEST(ByteBpe, AWordOfAMegabyteTakesNoQuadraticTime) {
  std::vector<ByteBpe::Merge> merges;
  const ByteBpe model = random_model(1, merges);
  Workspace work;
  std::string word;
  std::mt19937 random(5);
  for (int i = 0; i < 1 << 20; ++i) word.push_back(static_cast<char>('a' + random() % 4));
  model.merge_word(word, work);  // quadratic time would be hours, and ctest allows minutes
  EXPECT_LT(work.word_ids.size(), word.size());
}

TEST(ByteCharacters, GoBothWays) {
  for (size_t byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(bytes_of_token(byte_characters()[byte]), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(byte_characters()[' '], "Ġ");
  EXPECT_EQ(byte_characters()['\n'], "Ċ");
  EXPECT_EQ(bytes_of_token("a b"), "a b") << "a space stands for no byte";
}

std::vector<std::string> words_of(Pattern pattern, std::string_view text) {
  WordScanner scanner(pattern, text);
  std::vector<std::string> words;
  for (auto word = scanner.next(); !word.empty(); word = scanner.next()) words.emplace_back(word);
  return words;
}

TEST(WordScanner, CutsAsThePatternsSay) {
  using Words = std::vector<std::string>;
  const std::string text = "I'LL  go\n\n 1234'ſ;\n x\t";
  EXPECT_EQ(words_of(Pattern::qwen2, text), (Words{"I", "'LL", " ", " go", "\n\n", " ", "1", "2",
                                                   "3", "4", "'ſ", ";\n", " x", "\t"}));
  EXPECT_EQ(words_of(Pattern::llama3, text),
            (Words{"I", "'LL", " ", " go", "\n\n", " ", "123", "4", "'ſ", ";\n", " x", "\t"}));
  EXPECT_EQ(words_of(Pattern::gpt2, text),
            (Words{"I", "'", "LL", " ", " go", "\n\n", " 1234", "'", "ſ", ";", "\n", " x", "\t"}));
}

TEST(WordScanner, LosesNothing) {
  std::mt19937 random(11);
  const std::string_view alphabet[] = {"a",  "Z",  "é", "漢", "1", "½", " ",      "\n",
                                       "\r", "\t", "'", "s",  ".", "😀", "\u3000", "\u0301"};
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (uint32_t k = random() % 12; k > 0; --k) text += alphabet[random() % 16];
    for (const Pattern pattern : {Pattern::gpt2, Pattern::qwen2, Pattern::llama3}) {
      std::string joined;
      for (const std::string& word : words_of(pattern, text)) joined += word;
      ASSERT_EQ(joined, text);
    }
  }
}

TEST(Utf8, ReplacesMaximalParts) {
  const auto repaired = [](std::string_view text) {
    std::string out;
    const int64_t count = append_repaired_utf8(text, out);
    EXPECT_EQ(valid_utf8_prefix(out), out.size());
    return std::pair(out, count);
  };
  using Result = std::pair<std::string, int64_t>;
  EXPECT_EQ(repaired("aé漢😀"), Result("aé漢😀", 0));
  EXPECT_EQ(repaired("\x80\xBF"), Result("��", 2));
  EXPECT_EQ(repaired("a\xF0\x9F\x98z"), Result("a�z", 1)) << "one character, cut short";
  EXPECT_EQ(repaired("\xE2\x82"), Result("�", 1)) << "at the end";
  EXPECT_EQ(repaired("\xC0\xAF"), Result("��", 2)) << "an overlong form";
  EXPECT_EQ(repaired("\xE0\x80\x80"), Result("���", 3)) << "an overlong form";
  EXPECT_EQ(repaired("\xED\xA0\x80"), Result("���", 3)) << "a surrogate";
  EXPECT_EQ(repaired("\xF4\x90\x80\x80"), Result("����", 4)) << "beyond U+10FFFF";
  EXPECT_EQ(repaired("01234567\xFFxyzwvuts"), Result("01234567�xyzwvuts", 1));
}

TEST(Workspace, MayServeSeveralTokenizers) {
  const std::string vocab = "[UNK]\n[CLS]\n[SEP]\nab\n", other = "[UNK]\n[CLS]\n[SEP]\na\n##b\n";
  const Tokenizer a(parse_vocab_txt(vocab, "", "a")), b(parse_vocab_txt(other, "", "b"));
  Workspace work;
  for (int i = 0; i < 3; ++i) {
    Ids from_a, from_b;
    a.encode("ab", {}, work, from_a);
    b.encode("ab", {}, work, from_b);
    EXPECT_EQ(from_a, (Ids{1, 3, 2}));
    EXPECT_EQ(from_b, (Ids{1, 3, 4, 2}));
  }
}

TEST(InvalidUtf8, IsCountedAndReplaced) {
  const Tokenizer tokenizer(parse_vocab_txt("[UNK]\n[CLS]\n[SEP]\nab\n", "", "vocab.txt"));
  Workspace work;
  Ids ids;
  EXPECT_EQ(tokenizer.encode("ab a\xFF"
                             "b \xC3",
                             {}, work, ids),
            2);
  EXPECT_EQ(ids, (Ids{1, 3, 3, 2})) << "BERT drops U+FFFD";
}

}  // namespace
}  // namespace espalier::text
