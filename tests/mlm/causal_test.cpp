// SPDX-License-Identifier: Apache-2.0
// Batches of causal language models, and the byte-level vocabulary they learn.
#include "espalier/train/causal_data.h"

#include <gtest/gtest.h>

#include <set>

#include "espalier/text/byte_vocab.h"
#include "espalier/text/tokenizer_file.h"
#include "espalier/train/corpus.h"
#include "tests/support/errors.h"

namespace espalier::train {
namespace {

using test::message;
using Ids = std::vector<int32_t>;
constexpr int32_t kEnd = 256, kNo = kNoLabel;

text::Tokenizer tokenizer_of(const text::ByteVocabulary& vocabulary) {
  const auto files = text::qwen2_tokenizer_files(vocabulary);
  return text::Tokenizer(
      text::parse_vocab_and_merges(files.at("vocab.json"), files.at("merges.txt"),
                                   files.at("tokenizer_config.json"), "learned"));
}

/// Every byte a token; the end of a text is token 256.
const text::Tokenizer& bytes() {
  static const text::Tokenizer made =
      tokenizer_of(text::learn_byte_vocabulary("x", {.size = 300, .min_count = 1000}));
  return made;
}

TokenDocuments read(std::string_view text, const text::Tokenizer& tokenizer = bytes()) {
  return tokenize_documents({reinterpret_cast<const uint8_t*>(text.data()), text.size()},
                            DocumentFormat::text, "test", tokenizer);
}

CausalData data_of(const TokenDocuments& documents, const PackedRows::Options& options,
                   const text::Tokenizer& tokenizer = bytes()) {
  return CausalData(documents, 0, documents.size(),
                    CausalVocabulary(tokenizer, std::string(text::kEndOfText)), options);
}

TEST(Causal, EveryTokenAndTheEndIsGuessedWithinItsSegment) {
  const CausalData data = data_of(read("ab\n\nc"), {.seq_len = 10});
  CausalBatch batch;
  data.fill(0, 1, 2, batch);
  // A line keeps its end.
  EXPECT_EQ(batch.input_ids, (Ids{kEnd, 'a',  'b',  '\n', kEnd, kEnd, 'c',  kEnd, kEnd, kEnd,  //
                                  kEnd, kEnd, kEnd, kEnd, kEnd, kEnd, kEnd, kEnd, kEnd, kEnd}));
  EXPECT_EQ(batch.segments, (Ids{1, 1, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(batch.positions, (Ids{0, 1, 2, 3, 4, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(batch.labels, (Ids{kNo, 'a', 'b', '\n', kEnd, kNo, 'c', kEnd, kNo, kNo,  //
                               kNo, kNo, kNo, kNo,  kNo,  kNo, kNo, kNo,  kNo, kNo}));
  EXPECT_EQ(batch.label_count, 6);
  EXPECT_EQ(batch.label_bytes, 4) << "the ends are no bytes of text";
}

TEST(Causal, WhereADocumentIsCutNoEndIsLearned) {
  const CausalData data = data_of(read("abcdefg"), {.seq_len = 5, .pack = false});
  ASSERT_EQ(data.rows().size(), 3);
  CausalBatch batch;
  data.fill(0, 3, 3, batch);
  EXPECT_EQ(batch.label_bytes, 7);
  EXPECT_EQ(batch.label_count, 8) << "seven bytes and one end";
  int64_t ends = 0;
  for (size_t at = 0; at < batch.labels.size(); ++at) {
    if (batch.labels[at] != kEnd) continue;
    ++ends;
    EXPECT_EQ(batch.input_ids[at - 1], 'g');
  }
  EXPECT_EQ(ends, 1);
}

TEST(Causal, AnEpochGuessesEveryByteOnceWhateverThePacking) {
  const auto corpus = builtin_corpus().first(200000);
  const std::string_view text(reinterpret_cast<const char*>(corpus.data()), corpus.size());
  const text::Tokenizer learned = tokenizer_of(text::learn_byte_vocabulary(text, {.size = 600}));
  const TokenDocuments documents = read(text, learned);
  std::set<int64_t> bytes;
  for (const bool pack : {false, true}) {
    const CausalData data = data_of(documents, {.seq_len = 64, .pack = pack, .seed = 3}, learned);
    CausalBatch batch;
    const int64_t rows = data.rows().size();
    data.fill(0, rows, rows, batch);
    EXPECT_EQ(batch.label_count, documents.counts().tokens + documents.counts().documents);
    bytes.insert(batch.label_bytes);
    // The next epoch is another order of the same.
    CausalBatch next;
    data.fill(rows, rows, rows, next);
    EXPECT_NE(next.input_ids, batch.input_ids);
    EXPECT_EQ(next.label_bytes, batch.label_bytes);
  }
  std::string joined;
  for (int64_t i = 0; i < documents.size(); ++i)
    joined += learned.decode(documents.document(i), /*skip_special=*/true);
  EXPECT_EQ(bytes, std::set<int64_t>{static_cast<int64_t>(joined.size())});
}

TEST(Causal, TokenizersThatDoNotFitAreNamed) {
  const text::Tokenizer words(
      text::parse_vocab_txt("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", "", "words"));
  EXPECT_NE(message(ErrorKind::unsupported, [&] { CausalVocabulary(words, "[SEP]"); })
                .find("of the kind wordpiece"),
            std::string::npos);
  EXPECT_NE(
      message(ErrorKind::data, [&] { CausalVocabulary(bytes(), "<eos>"); }).find("has no <eos>"),
      std::string::npos);
}

}  // namespace
}  // namespace espalier::train
