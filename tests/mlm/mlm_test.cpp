// SPDX-License-Identifier: Apache-2.0
// Documents, rows and masked batches.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "espalier/base/error.h"
#include "espalier/text/tokenizer_file.h"
#include "espalier/text/vocab_builder.h"
#include "espalier/train/corpus.h"
#include "espalier/train/mlm_data.h"
#include "tests/support/errors.h"

namespace espalier::train {
namespace {

using test::message;

namespace fs = std::filesystem;

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

/// Tokens 5 to 104 are the words w0 to w99.
const text::Tokenizer& words() {
  static const text::Tokenizer made = [] {
    std::string vocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (int i = 0; i < 100; ++i) vocab += fmt::format("w{}\n", i);
    return text::Tokenizer(text::parse_vocab_txt(vocab, "", "words"));
  }();
  return made;
}

TokenDocuments read(std::string_view text, DocumentFormat format = DocumentFormat::text) {
  return tokenize_documents(bytes_of(text), format, "test", words());
}

/// `count` documents of 1 to `longest` words.
TokenDocuments some_documents(int64_t count, int64_t longest, uint64_t seed = 1) {
  std::string text;
  for (int64_t i = 0; i < count; ++i) {
    const auto draw = [&](int64_t k) { return mix64(seed * 1000003 + i * 1009 + k); };
    const int64_t size = 1 + static_cast<int64_t>(draw(0) % static_cast<uint64_t>(longest));
    for (int64_t k = 1; k <= size; ++k) text += fmt::format("w{} ", draw(k) % 100);
    text += "\n\n";
  }
  return read(text);
}

TEST(Documents, TextEndsAtEmptyLines) {
  const auto documents = read("w0 w1\nw2\n\n \t\nw3\n\n\n");
  ASSERT_EQ(documents.size(), 2);
  EXPECT_TRUE(std::ranges::equal(documents.document(0), std::vector{5, 6, 7}));
  EXPECT_TRUE(std::ranges::equal(documents.document(1), std::vector{8}));
  EXPECT_EQ(documents.counts().tokens, 4);
}

TEST(Documents, EmptyOnesAndInvalidUtf8AreCounted) {
  const auto documents = read("w0\xFF w1\n\xC3\n\n\x01\n\nw2\n");
  EXPECT_EQ(documents.counts().documents, 2);
  EXPECT_EQ(documents.counts().empty, 1) << "a control character is no token";
  EXPECT_EQ(documents.counts().invalid_lines, 2);
  EXPECT_EQ(documents.counts().replaced, 2);
  const std::string report = describe(documents.counts());
  EXPECT_NE(report.find("2 lines of invalid UTF-8 (2 replacements)"), std::string::npos) << report;
  EXPECT_NE(report.find("1 empty document"), std::string::npos) << report;
}

TEST(Documents, Jsonl) {
  const auto documents =
      read("{\"text\":\"w1 w2\\n\\nw3\",\"id\":7}\n\n{\"text\":\"\"}\n{\"text\":\"w4\"}\n",
           DocumentFormat::jsonl);
  EXPECT_EQ(documents.size(), 2);
  EXPECT_EQ(documents.document(0).size(), 3u);
  EXPECT_EQ(documents.counts().empty, 1);
  EXPECT_EQ(format_of("a/b.jsonl"), DocumentFormat::jsonl);
  EXPECT_EQ(format_of("a/b.txt"), DocumentFormat::text);
}

TEST(Documents, Errors) {
  const std::string line = message(ErrorKind::data, [] {
    read("{\"text\":\"w1\"}\n\n{\"txt\":\"w2\"}\n", DocumentFormat::jsonl);
  });
  EXPECT_NE(line.find("line 3 is no JSON object with a string \"text\", at test"),
            std::string::npos)
      << line;
  const std::string none = message(ErrorKind::data, [] { read("\n\n\x01\n"); });
  EXPECT_NE(none.find("hold no document with a token (1 are empty)"), std::string::npos) << none;
}

TEST(Documents, PiecesOfTheDataAreJoinedInOrder) {
  // More than one piece of work, with lines and documents across their borders.
  std::string text;
  int64_t count = 0;
  while (text.size() < (5u << 19)) {
    text += fmt::format("w{}\nw{}\n\n", count % 100, (count + 1) % 100);
    ++count;
  }
  const auto documents = read(text);
  ASSERT_EQ(documents.size(), count);
  for (int64_t i = 0; i < count; ++i) {
    const auto document = documents.document(i);
    ASSERT_EQ(document.size(), 2u) << i;
    ASSERT_EQ(document[0], 5 + i % 100) << i;
  }
}

TEST(Documents, TheCacheIsUsedForTheSameDataOnly) {
  const fs::path cache = fs::path(::testing::TempDir()) / "documents.safetensors";
  fs::remove(cache);
  const auto get = [&](const char* fingerprint, const char* text) {
    return cached_documents(cache, fingerprint, bytes_of(text), DocumentFormat::text, "test",
                            words());
  };
  EXPECT_EQ(get("a", "w1 w2\n\nw3").size(), 2);
  const auto again = get("a", "w9");
  EXPECT_EQ(again.size(), 2) << "the file was not used";
  EXPECT_EQ(again.document(0)[1], 7);
  EXPECT_EQ(again.counts().bytes, 9);
  EXPECT_EQ(get("b", "w9").size(), 1) << "a file of other data was used";
  std::ofstream(cache) << "damaged";
  EXPECT_EQ(get("b", "w9 w8").document(0).size(), 2u);
}

TEST(Rows, EveryTokenIsInOneRowOnce) {
  const auto documents = some_documents(500, 60);
  for (const bool pack : {false, true}) {
    const PackedRows rows(documents, 0, documents.size(), {.seq_len = 32, .pack = pack, .seed = 3});
    std::vector<int> seen(documents.ids().size());
    for (int64_t i = 0; i < rows.size(); ++i) {
      int64_t places = 0;
      for (const DocumentPiece& piece : rows.row(i)) {
        places += piece.size + 2;
        for (int64_t k = 0; k < piece.size; ++k) ++seen[static_cast<size_t>(piece.begin + k)];
      }
      ASSERT_LE(places, 32);
      ASSERT_GT(places, 2);
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), static_cast<int64_t>(seen.size()));
    EXPECT_GT(rows.long_documents(), 100);
    if (pack) {
      EXPECT_GT(rows.filled(), 0.97);
    } else {
      EXPECT_LT(rows.filled(), 0.8);
    }
  }
}

TEST(Rows, DocumentsLongerThanARowAreCut) {
  const auto documents = read("w0 w1 w2 w3 w4 w5 w6");
  const PackedRows rows(documents, 0, 1, {.seq_len = 5, .pack = false});
  ASSERT_EQ(rows.size(), 3);
  EXPECT_EQ(rows.row(0)[0].size, 3);
  EXPECT_EQ(rows.row(2)[0].size, 1);
  EXPECT_EQ(rows.long_documents(), 1);
}

MlmData data_of(const TokenDocuments& documents, const MlmOptions& options) {
  return MlmData(documents, 0, documents.size(), MlmVocabulary(words()), options);
}

TEST(Batches, HoldWholeSegments) {
  const auto documents = read("w0 w1\n\nw2\n\nw3 w4 w5");
  const MlmData data = data_of(documents, {.seq_len = 16, .mlm_prob = 1e-9});
  ASSERT_EQ(data.rows_per_epoch(), 1);
  MlmBatch batch;
  data.fill(0, 1, batch);
  EXPECT_EQ(batch.label_count, 0);
  // [CLS] 5 6 [SEP] [CLS] 7 [SEP] [CLS] 8 9 10 [SEP] and four of padding, the documents in order.
  EXPECT_EQ(batch.input_ids, (std::vector{2, 5, 6, 3, 2, 7, 3, 2, 8, 9, 10, 3, 0, 0, 0, 0}));
  EXPECT_EQ(batch.segments, (std::vector{1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 0, 0, 0, 0}));
  EXPECT_EQ(batch.positions, (std::vector{0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 4, 0, 0, 0, 0}));
}

TEST(Batches, MaskingHasTheRightRates) {
  const auto documents = some_documents(4000, 60);
  const MlmData data = data_of(documents, {.seq_len = 128, .seed = 9});
  const double p = 0.15;
  int64_t ordinary = 0, labelled = 0, masked = 0, kept = 0, random = 0;
  std::map<int32_t, int64_t> random_tokens;
  MlmBatch batch, plain;
  const MlmData unmasked = data_of(documents, {.seq_len = 128, .mlm_prob = 1e-9, .seed = 9});
  for (int64_t i = 0; i < data.rows_per_epoch(); ++i) {
    data.fill(i, 1, batch);
    unmasked.fill(i, 1, plain);
    for (size_t k = 0; k < batch.labels.size(); ++k) {
      ordinary += plain.input_ids[k] >= 5;
      if (batch.labels[k] == kNoLabel) {
        ASSERT_EQ(batch.input_ids[k], plain.input_ids[k]);
        continue;
      }
      ++labelled;
      ASSERT_EQ(batch.labels[k], plain.input_ids[k]);
      ASSERT_GE(batch.labels[k], 5) << "a special token is labelled";
      if (batch.input_ids[k] == 4) {
        ++masked;
      } else if (batch.input_ids[k] == batch.labels[k]) {
        ++kept;
      } else {
        ++random;
        ++random_tokens[batch.input_ids[k]];
        ASSERT_GE(batch.input_ids[k], 5);
      }
    }
  }
  ASSERT_GT(ordinary, 100000);
  // Five standard deviations of a binomial count of n draws with probability q.
  const auto expect_rate = [](int64_t count, int64_t n, double q) {
    const double mean = static_cast<double>(n) * q;
    EXPECT_NEAR(static_cast<double>(count), mean, 5.0 * std::sqrt(mean * (1.0 - q)));
  };
  expect_rate(labelled, ordinary, p);
  expect_rate(masked, labelled, 0.8);
  // A random token is the old one in one of 100 cases.
  expect_rate(random, labelled, 0.1 * 0.99);
  expect_rate(kept, labelled, 0.1 + 0.1 * 0.01);
  EXPECT_EQ(random_tokens.size(), 100u);
  for (const auto& [id, count] : random_tokens) expect_rate(count, random, 0.01);
}

TEST(Batches, DependOnTheNumberOfTheRowOnly) {
  const auto documents = some_documents(300, 40);
  const MlmData data = data_of(documents, {.seq_len = 64, .seed = 5});
  const MlmData again = data_of(documents, {.seq_len = 64, .seed = 5});
  const int64_t last = 2 * data.rows_per_epoch() - 6;  // across the end of an epoch
  MlmBatch whole, part;
  data.fill(last, 12, whole);
  for (int64_t worker = 0; worker < 4; ++worker) {
    again.fill(last + worker * 3, 3, part);
    const auto from = whole.input_ids.begin() + worker * 3 * 64;
    EXPECT_TRUE(std::equal(part.input_ids.begin(), part.input_ids.end(), from));
    EXPECT_TRUE(
        std::equal(part.labels.begin(), part.labels.end(), whole.labels.begin() + worker * 3 * 64));
  }
}

TEST(Batches, EpochsAreOrderedAndMaskedAnew) {
  const auto documents = some_documents(300, 40);
  const MlmData data = data_of(documents, {.seq_len = 64, .seed = 5});
  const int64_t rows = data.rows_per_epoch();
  MlmBatch first, second;
  data.fill(0, rows, first);
  data.fill(rows, rows, second);
  EXPECT_NE(first.input_ids, second.input_ids);
  const auto sorted_tokens = [&](const MlmBatch& batch) {
    // What was there before masking.
    std::vector<int32_t> tokens = batch.input_ids;
    for (size_t k = 0; k < tokens.size(); ++k) {
      if (batch.labels[k] != kNoLabel) tokens[k] = batch.labels[k];
    }
    std::sort(tokens.begin(), tokens.end());
    return tokens;
  };
  EXPECT_EQ(sorted_tokens(first), sorted_tokens(second)) << "an epoch is all of the data";
}

TEST(Batches, WorkersReadDisjointPartsOfOneShuffle) {
  std::set<int64_t> seen;
  for (int64_t rank = 0; rank < 4; ++rank) {
    const WorkerShare share(12, 4, rank);
    for (int64_t step = 0; step < 5; ++step) {
      for (int64_t i = 0; i < share.rows; ++i) {
        EXPECT_TRUE(seen.insert(share.first(step) + i).second);
      }
    }
  }
  EXPECT_EQ(seen.size(), 60u);
  EXPECT_EQ(*seen.rbegin(), 59);
  const std::string text = message(ErrorKind::user, [] { WorkerShare(10, 4, 0); });
  EXPECT_NE(text.find("batch_size = 10 is not divisible by the 4 workers"), std::string::npos);
  message(ErrorKind::user, [] { WorkerShare(8, 4, 4); });
}

TEST(Batches, NoLabelIsDropped) {
  const auto documents = some_documents(50, 60);
  const MlmData data = data_of(documents, {.seq_len = 64, .mlm_prob = 0.9});
  MlmBatch batch;
  data.fill(0, 4, batch);
  EXPECT_GE(batch.capacity(), batch.label_count);
  ASSERT_GT(batch.label_count, 100);
  for (int64_t k = 0; k < batch.label_count; ++k) {
    const auto at = static_cast<size_t>(k);
    ASSERT_EQ(batch.label_ids[at], batch.labels[static_cast<size_t>(batch.label_index[at])]);
    ASSERT_TRUE(k == 0 || batch.label_index[at] > batch.label_index[at - 1]);
  }
  EXPECT_EQ(std::count(batch.label_ids.begin(), batch.label_ids.end(), kNoLabel),
            batch.capacity() - batch.label_count);
  const MlmData usual = data_of(documents, {.seq_len = 64});
  const int64_t capacity = usual.usual_capacity(4);
  EXPECT_LT(usual.usual_capacity(64), 64 * 64 / 5) << "0.15 and six standard deviations";
  EXPECT_EQ(usual.capacity_for(4, capacity), capacity);
  EXPECT_GT(usual.capacity_for(4, capacity + 1), capacity);
}

TEST(Batches, StateTellsDataApart) {
  const auto documents = some_documents(50, 60), others = some_documents(50, 60, 2);
  const auto state = data_of(documents, {.seq_len = 64}).section(17);
  EXPECT_EQ(std::get<int64_t>(state.at("next_row")), 17);
  EXPECT_EQ(differences(state, data_of(documents, {.seq_len = 64}).section(17)), "");
  EXPECT_NE(differences(state, data_of(others, {.seq_len = 64}).section(17)), "");
  EXPECT_NE(differences(state, data_of(documents, {.seq_len = 32}).section(17)), "");
}

TEST(Batches, HoldWholeDocumentsOut) {
  const auto documents = some_documents(200, 30);
  EXPECT_EQ(documents_to_train(documents, 0.0), 200);
  const int64_t train = documents_to_train(documents, 0.1);
  const double share = static_cast<double>(documents.offsets()[static_cast<size_t>(train)]) /
                       static_cast<double>(documents.counts().tokens);
  EXPECT_NEAR(share, 0.9, 0.01);
  EXPECT_EQ(documents_to_train(read("w1\n\nw2"), 0.001), 1);
  message(ErrorKind::data, [] { documents_to_train(read("w1"), 0.1); });
  message(ErrorKind::user, [] { documents_to_train(read("w1"), 1.0); });
}

TEST(BatchErrors, Options) {
  const auto documents = some_documents(5, 5);
  const std::string prob = message(ErrorKind::user, [&] { data_of(documents, {.mlm_prob = 0.0}); });
  EXPECT_NE(prob.find("mlm_prob = 0 is outside (0, 1]"), std::string::npos) << prob;
  const std::string length = message(ErrorKind::user, [&] { data_of(documents, {.seq_len = 2}); });
  EXPECT_NE(length.find("seq_len = 2 leaves no place"), std::string::npos) << length;
  const text::Tokenizer bare(text::parse_vocab_txt("[UNK]\n[CLS]\n[SEP]\na\n", "", "bare"));
  const std::string mask = message(ErrorKind::data, [&] { MlmVocabulary{bare}; });
  EXPECT_NE(mask.find("vocabulary of 4 tokens has no [MASK]"), std::string::npos) << mask;
}

TEST(Vocabulary, JoinsTheMostFrequentPairs) {
  const auto tokens = text::build_vocabulary("low low low low lower lower newest", {.size = 40});
  ASSERT_GT(tokens.size(), 10u);
  EXPECT_EQ(tokens[0], "[PAD]");
  EXPECT_EQ(tokens[4], "[MASK]");
  const auto has = [&](const char* token) {
    return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
  };
  EXPECT_TRUE(has("low"));
  EXPECT_TRUE(has("lower"));
  EXPECT_FALSE(has("newest")) << "it occurs once";
}

TEST(Vocabulary, OfTheCorpusIsDeterministicAndCoversIt) {
  const auto corpus = builtin_corpus();
  const std::string_view text(reinterpret_cast<const char*>(corpus.data()), corpus.size());
  const auto tokens = text::build_vocabulary(text, {.size = 4096});
  EXPECT_EQ(tokens.size(), 4096u);
  EXPECT_EQ(tokens, text::build_vocabulary(text, {.size = 4096}));
  const text::Tokenizer tokenizer(text::parse_vocab_txt(text::vocab_txt(tokens), "", "builtin"));
  const auto documents = tokenize_documents(corpus, DocumentFormat::text, "builtin", tokenizer);
  const int32_t unknown = tokenizer.require_id("[UNK]");
  const auto lost = std::count(documents.ids().begin(), documents.ids().end(), unknown);
  EXPECT_LT(lost * 1000, documents.counts().tokens);
  EXPECT_GT(static_cast<double>(documents.counts().bytes) / documents.counts().tokens, 2.0)
      << "tokens of hardly more than a byte";
}

TEST(VocabularyErrors, SizeAndText) {
  message(ErrorKind::user, [] { text::build_vocabulary("a b", {.size = 5}); });
  const std::string none = message(ErrorKind::data, [] { text::build_vocabulary(" \n", {}); });
  EXPECT_NE(none.find("has no words to learn from"), std::string::npos) << none;
}

}  // namespace
}  // namespace espalier::train
