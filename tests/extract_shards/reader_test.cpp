// SPDX-License-Identifier: Apache-2.0
// Reading runs for training.
#include "espalier/extract/reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "espalier/extract/read_order.h"
#include "tests/extract_shards/made_run.h"
#include "tests/io/folder.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
using test::message;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A token of the run, found again by its sample and position.
struct Row {
  int64_t token = 0;
  bool right = true;  // ids and values are those of the token
};

class ReaderTest : public ::testing::TestWithParam<Compression> {
 protected:
  ReaderTest()
      : run_({.samples = 40, .longest = 150, .shard = {.compression = GetParam(), .threads = 2}}) {
    run_.write(*open_folder_store(folder_.path()));
  }
  /// Small blocks and windows, so that a run of 3,000 tokens has several.
  static ReadOptions small() {
    return {.batch = 100, .seed = 5, .window_rows = 640, .block_rows = 64, .threads = 3};
  }
  RunReader reader(const ReadOptions& options) const {
    return RunReader(folder_.path().string(), options);
  }

  /// What a batch's rows are, after comparing everything with the made values.
  std::vector<int64_t> tokens_of(const ReadBatch& batch, const std::vector<size_t>& hooks) {
    std::vector<int64_t> tokens;
    for (int64_t r = 0; r < batch.rows; ++r) {
      const auto at = static_cast<size_t>(r);
      const int64_t sample = batch.samples.as<int64_t>()[at];
      const int64_t position = batch.positions.as<int32_t>()[at];
      const int64_t token = run_.first_token(sample) + position;
      EXPECT_EQ(batch.token_ids.as<int32_t>()[at],
                run_.samples()[static_cast<size_t>(sample)].tokens[static_cast<size_t>(position)]);
      for (size_t i = 0; i < hooks.size(); ++i) {
        for (int64_t c = 0; c < 24; ++c) {
          const double want =
              round_to(DType::bf16, static_cast<double>(run_.value(hooks[i], token, c)));
          if (batch.activations[i].get(r * 24 + c) != want) {
            ADD_FAILURE() << "hook " << hooks[i] << " token " << token << " channel " << c;
            return tokens;
          }
        }
      }
      tokens.push_back(token);
    }
    return tokens;
  }
  std::vector<int64_t> epoch_of(RunReader& reader, const std::vector<size_t>& hooks) {
    std::vector<int64_t> all;
    ReadBatch batch;
    while (reader.next(batch)) {
      EXPECT_EQ(batch.activations.size(), hooks.size());
      EXPECT_TRUE(batch.rows == 100 || std::ssize(all) + batch.rows == run_.tokens());
      const std::vector<int64_t> tokens = tokens_of(batch, hooks);
      all.insert(all.end(), tokens.begin(), tokens.end());
    }
    return all;
  }
  std::vector<int64_t> every_token() const {
    std::vector<int64_t> all(static_cast<size_t>(run_.tokens()));
    std::iota(all.begin(), all.end(), 0);
    return all;
  }

  TestFolder folder_;
  MadeRun run_;
};

INSTANTIATE_TEST_SUITE_P(, ReaderTest, ::testing::Values(Compression::none, Compression::zstd),
                         [](const auto& info) { return std::string(name(info.param)); });

TEST_P(ReaderTest, HandsOutEveryTokenOnceAnEpochInAnotherOrder) {
  RunReader reader = this->reader(small());
  EXPECT_THAT(reader.hooks(), ElementsAre("resid_post.0", "resid_post.1"));
  EXPECT_EQ(reader.width(), 24);
  EXPECT_EQ(reader.dtype(), DType::bf16);
  EXPECT_EQ(reader.tokens(), run_.tokens());
  std::vector<std::vector<int64_t>> epochs;
  for (int epoch = 0; epoch < 2; ++epoch) {
    epochs.push_back(epoch_of(reader, {0, 1}));
    std::vector<int64_t> sorted = epochs.back();
    std::sort(sorted.begin(), sorted.end());
    EXPECT_EQ(sorted, every_token());
  }
  EXPECT_NE(epochs[0], epochs[1]);
  // Neighbours of a batch come from all over the run, not from next to each other.
  int64_t near = 0;
  for (size_t i = 1; i < epochs[0].size(); ++i) {
    near += std::abs(epochs[0][i] - epochs[0][i - 1]) < 64;
  }
  EXPECT_LT(near, std::ssize(epochs[0]) / 4);
}

TEST_P(ReaderTest, OrderDependsOnTheSeedAloneNotOnHooksBatchOrThreads) {
  RunReader first = reader(small());
  const std::vector<int64_t> want = epoch_of(first, {0, 1});
  ReadOptions other = small();
  other.hooks = {"*.1"};
  other.threads = 1;
  RunReader second = reader(other);
  EXPECT_THAT(second.hooks(), ElementsAre("resid_post.1"));
  EXPECT_EQ(epoch_of(second, {1}), want);
  other.batch = 7;
  RunReader third = reader(other);
  ReadBatch batch;
  ASSERT_TRUE(third.next(batch));
  EXPECT_EQ(tokens_of(batch, {1}), std::vector<int64_t>(want.begin(), want.begin() + 7));
  other = small();
  other.seed = 6;
  RunReader fourth = reader(other);
  EXPECT_NE(epoch_of(fourth, {0, 1}), want);
}

TEST_P(ReaderTest, ReadsInOrder) {
  ReadOptions options = small();
  options.shuffle = false;
  RunReader reader = this->reader(options);
  EXPECT_EQ(epoch_of(reader, {0, 1}), every_token());
  EXPECT_EQ(epoch_of(reader, {0, 1}), every_token());
}

TEST_P(ReaderTest, GoesOnFromAPosition) {
  RunReader whole = reader(small());
  ReadBatch batch;
  std::vector<ReadPosition> positions;
  std::vector<std::vector<int64_t>> batches;
  for (int epoch = 0; epoch < 2; ++epoch) {
    for (;;) {
      const ReadPosition position = whole.position();
      if (!whole.next(batch)) break;
      positions.push_back(position);
      batches.push_back(tokens_of(batch, {0, 1}));
    }
  }
  RunReader reader = this->reader(small());
  for (const size_t i : {positions.size() - 1, size_t{3}, positions.size() / 2, size_t{0}}) {
    reader.seek(positions[i]);
    EXPECT_EQ(reader.position(), positions[i]);
    ASSERT_TRUE(reader.next(batch));
    EXPECT_EQ(tokens_of(batch, {0, 1}), batches[i]) << i;
  }
  EXPECT_THAT(message(ErrorKind::user, [&] { reader.seek({.window = 99}); }),
              HasSubstr("window 99, row 0 is no position of"));
  EXPECT_THAT(message(ErrorKind::user, [&] { reader.seek({.row = 641}); }),
              HasSubstr("row 641 is no position in a window of"));
}

TEST_P(ReaderTest, LeavesOutWhatTheFilterSays) {
  ReadOptions options = small();
  const std::vector<int32_t>& tokens = run_.samples()[4].tokens;
  options.filter = {.max_norm = 60.0, .skip_tokens = {tokens[0], tokens[1]}, .first_position = 1};
  std::vector<int64_t> want;
  for (int64_t s = 0; s < 40; ++s) {
    const Sample& sample = run_.samples()[static_cast<size_t>(s)];
    for (int64_t i = 1; i < std::ssize(sample.tokens); ++i) {
      const int64_t token = run_.first_token(s) + i;
      const int32_t id = sample.tokens[static_cast<size_t>(i)];
      bool keep = id != tokens[0] && id != tokens[1];
      for (size_t hook = 0; hook < 2; ++hook) {
        double squares = 0.0;
        for (int64_t c = 0; c < 24; ++c) {
          const double v = round_to(DType::bf16, static_cast<double>(run_.value(hook, token, c)));
          squares += v * v;
        }
        keep = keep && std::sqrt(squares) <= 60.0;
      }
      if (keep) want.push_back(token);
    }
  }
  ASSERT_GT(want.size(), 500u);
  ASSERT_LT(std::ssize(want), run_.tokens() - 200);
  RunReader reader = this->reader(options);
  ReadBatch batch;
  std::vector<int64_t> got;
  while (reader.next(batch)) {
    for (const int64_t token : tokens_of(batch, {0, 1})) got.push_back(token);
  }
  std::sort(got.begin(), got.end());
  EXPECT_EQ(got, want);
  // Nothing left: an epoch without rows.
  options.filter.max_norm = 0.0;
  RunReader empty = this->reader(options);
  EXPECT_FALSE(empty.next(batch));
  EXPECT_FALSE(empty.next(batch));
}

TEST_P(ReaderTest, MemoryIsThatOfTwoWindows) {
  ReadOptions options = small();
  RunReader reader = this->reader(options);
  EXPECT_EQ(reader.memory_bytes(), 2 * 640 * (2 * 24 * 2 + 25));
  options.window_rows = 1 << 20;
  EXPECT_LT(this->reader(options).memory_bytes(), 2 * (run_.tokens() + 6 * 64) * (2 * 24 * 2 + 25));
}

TEST_P(ReaderTest, DamagedRunsAreRefused) {
  const auto refused = [&](ReadOptions options = small()) {
    return message(ErrorKind::data, [&] {
      RunReader reader(folder_.path().string(), options);
      ReadBatch batch;
      while (reader.next(batch)) {
      }
    });
  };
  const auto store = open_folder_store(folder_.path());
  const std::string shard = store->get(shard_key(3), int64_t{1} << 30).value();
  std::string damaged = shard;
  damaged.replace(20, 4, "oops");
  store->put(shard_key(3), damaged);
  EXPECT_THAT(refused(), HasSubstr("shard-00000003.safetensors"));
  store->put(shard_key(3), shard.substr(0, shard.size() - 1));
  EXPECT_THAT(refused(), AllOf(HasSubstr("shard-00000003.safetensors has"),
                               HasSubstr("the same extract command makes it again")));
  store->remove(shard_key(3));
  EXPECT_THAT(refused(), HasSubstr("shard-00000003.safetensors is missing"));
  store->put(shard_key(3), shard);
  note_damage(*store, 1, "test");
  EXPECT_THAT(refused(), HasSubstr("1 shards of"));
  clear_damage(*store, 1);
  store->remove("manifest.jsonl");
  EXPECT_THAT(refused(), HasSubstr("the run is not complete"));
  store->remove(manifest_key(3));
  ReadOptions options = small();
  options.partial = true;
  EXPECT_EQ(reader(options).tokens(), run_.first_token(21));
  EXPECT_THAT(message(ErrorKind::user,
                      [&] {
                        options.hooks = {"nothing"};
                        reader(options);
                      }),
              HasSubstr("\"nothing\" is none of the run's 2 activations"));
  EXPECT_THAT(message(ErrorKind::user, [&] { reader({.batch = 0}); }),
              HasSubstr("batch 0, window"));
}

TEST_P(ReaderTest, ADamagedFrameIsNamed) {
  if (GetParam() == Compression::none) GTEST_SKIP() << "only verify can tell";
  const auto store = open_folder_store(folder_.path());
  std::string shard = store->get(shard_key(5), int64_t{1} << 30).value();
  shard[shard.size() - 10] ^= 0x40;
  store->put(shard_key(5), shard);
  RunReader reader = this->reader(small());
  ReadBatch batch;
  EXPECT_THAT(message(ErrorKind::data,
                      [&] {
                        while (reader.next(batch)) {
                        }
                      }),
              HasSubstr("shard-00000005.safetensors:resid_post.1 frame"));
}

TEST(ReadOrder, PermutationsAreThat) {
  for (const int64_t count : {0, 1, 2, 1000}) {
    std::vector<int64_t> order = permutation(count, 1, 2);
    EXPECT_EQ(order, permutation(count, 1, 2));
    if (count > 2) {
      EXPECT_NE(order, permutation(count, 1, 3));
    }
    std::sort(order.begin(), order.end());
    std::vector<int64_t> want(static_cast<size_t>(count));
    std::iota(want.begin(), want.end(), 0);
    EXPECT_EQ(order, want);
  }
  // Each place is as likely for each number: 5 sigma of 6,000 draws.
  int64_t counts[3][3] = {};
  for (uint64_t stream = 0; stream < 6000; ++stream) {
    const std::vector<int64_t> order = permutation(3, 7, stream);
    for (size_t i = 0; i < 3; ++i) ++counts[i][order[i]];
  }
  for (const auto& row : counts) {
    for (const int64_t n : row) EXPECT_NEAR(static_cast<double>(n), 2000.0, 183.0);
  }
}

TEST(ReadOrder, NeighboursAreReadTogether) {
  const std::vector<ManifestEntry> entries{{.shard = 0, .tokens = 300},
                                           {.shard = 1, .tokens = 100}};
  ReadOrder order(entries, 64, 256, false, 0);
  EXPECT_EQ(order.windows(), 2);
  EXPECT_THAT(order.blocks(0, 0), ElementsAre(Block{0, 0, 256}));
  EXPECT_THAT(order.blocks(0, 1), ElementsAre(Block{0, 256, 44}, Block{1, 0, 100}));
}

}  // namespace
}  // namespace espalier::extract
