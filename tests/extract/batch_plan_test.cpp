// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/batch_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "espalier/extract/length_policy.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

using test::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int64_t> random_lengths(size_t count, int64_t most) {
  std::mt19937 random(7);
  std::vector<int64_t> lengths(count);
  for (int64_t& length : lengths) length = 1 + static_cast<int64_t>(random()) % most;
  return lengths;
}

/// Every sample once, inside its row, beside the others; rows and shapes as asked for.
void expect_valid(const std::vector<int64_t>& lengths, const std::vector<Batch>& batches,
                  const BatchOptions& o) {
  std::vector<int64_t> seen(lengths.size());
  for (const Batch& batch : batches) {
    const bool last = &batch == &batches.back() || (&batch)[1].seq != batch.seq;
    EXPECT_TRUE(batch.rows == o.rows || (last && o.rows % batch.rows == 0));
    EXPECT_LE(batch.seq, o.seq);
    EXPECT_FALSE(batch.placements.empty());
    int64_t row = 0, free_from = 0;
    for (const Placement& p : batch.placements) {
      ++seen[static_cast<size_t>(p.sample)];
      ASSERT_GE(p.row, row);
      ASSERT_LT(p.row, batch.rows);
      if (p.row > row) free_from = 0;
      row = p.row;
      ASSERT_GE(p.column, free_from);
      free_from = p.column + lengths[static_cast<size_t>(p.sample)];
      ASSERT_LE(free_from, batch.seq);
    }
  }
  EXPECT_THAT(seen, ::testing::Each(1));
}

TEST(BatchPlan, PlacesEverySampleOnce) {
  const std::vector<int64_t> lengths = random_lengths(700, 512);
  for (Batching batching : {Batching::pad, Batching::bucket, Batching::pack}) {
    const BatchOptions o{.batching = batching, .rows = 4, .seq = 512};
    expect_valid(lengths, plan_batches(lengths, o), o);
  }
}

TEST(BatchPlan, PackingWastesLittle) {
  const std::vector<int64_t> lengths = random_lengths(700, 512);
  const auto share = [&](Batching batching) {
    return useful_share(lengths, plan_batches(lengths, {.batching = batching}));
  };
  EXPECT_NEAR(share(Batching::pad), 0.5, 0.05);
  EXPECT_GT(share(Batching::bucket), 0.7);
  EXPECT_GT(share(Batching::pack), 0.97);
}

TEST(BatchPlan, TheLastBatchHasNoMoreRowsThanItNeeds) {
  const auto rows = [](size_t samples, Batching batching, int64_t most) {
    std::vector<int64_t> rows;
    for (const Batch& batch : plan_batches(std::vector<int64_t>(samples, 10),
                                           {.batching = batching, .rows = most, .seq = 10})) {
      rows.push_back(batch.rows);
    }
    return rows;
  };
  for (const Batching batching : {Batching::pad, Batching::bucket, Batching::pack}) {
    EXPECT_THAT(rows(17, batching, 8), ElementsAre(8, 8, 1));
    EXPECT_THAT(rows(11, batching, 8), ElementsAre(8, 4));
    EXPECT_THAT(rows(13, batching, 8), ElementsAre(8, 8));
    EXPECT_THAT(rows(8, batching, 8), ElementsAre(8));
    EXPECT_THAT(rows(8, batching, 6), ElementsAre(6, 3));
  }
}

TEST(BatchPlan, FewShapesInOrder) {
  const std::vector<int64_t> lengths{100, 512, 30, 257, 64, 1};
  const BatchOptions o{.batching = Batching::bucket, .rows = 2, .seq = 512};
  const std::vector<Batch> batches = plan_batches(lengths, o);
  ASSERT_EQ(batches.size(), 4u);
  EXPECT_EQ(batches[0].seq, 512);
  EXPECT_THAT(batches[0].placements, ElementsAre(Placement{1, 0, 0}, Placement{3, 1, 0}));
  EXPECT_EQ(batches[1].seq, 128);
  EXPECT_THAT(batches[1].placements, ElementsAre(Placement{0, 0, 0}));
  EXPECT_EQ(batches[2].seq, 64);
  EXPECT_THAT(batches[2].placements, ElementsAre(Placement{2, 0, 0}, Placement{4, 1, 0}));
  EXPECT_THAT(batches[3].placements, ElementsAre(Placement{5, 0, 0}));
}

TEST(BatchPlan, PackedRowsHoldSamplesInTheirOrder) {
  const std::vector<int64_t> lengths{3, 6, 4, 2, 5};
  const std::vector<Batch> batches =
      plan_batches(lengths, {.batching = Batching::pack, .rows = 3, .seq = 10});
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_THAT(batches[0].placements,
              ElementsAre(Placement{1, 0, 0}, Placement{2, 0, 6}, Placement{0, 1, 0},
                          Placement{3, 1, 3}, Placement{4, 1, 5}));
  EXPECT_TRUE(plan_batches({}, {}).empty());
}

TEST(BatchPlan, WrongSizesAreErrors) {
  const std::vector<int64_t> lengths{5};
  EXPECT_THAT(error_of([&] { plan_batches(lengths, {.rows = 0}); }),
              HasSubstr("batch size 0, sequence length 512"));
  EXPECT_THAT(error_of([&] { plan_batches(lengths, {.seq = 4}); }),
              HasSubstr("a sample of 5 tokens does not fit rows of 4"));
  EXPECT_THAT(error_of([] { parse_batching("packed"); }),
              HasSubstr("\"packed\" is none of pad, bucket, pack; nearest: pack"));
}

TEST(LengthPolicy, CutsAndCounts) {
  LengthCounts counts;
  const auto apply = [&](std::string_view policy, int64_t length) {
    return apply_length_policy(parse_length_policy(policy), length, 10, "s", counts);
  };
  EXPECT_THAT(apply("error", 10), ElementsAre(TokenRange{0, 10}));
  EXPECT_THAT(apply("skip", 11), ElementsAre());
  EXPECT_THAT(apply("truncate-left", 13), ElementsAre(TokenRange{3, 13}));
  EXPECT_THAT(apply("truncate-right", 13), ElementsAre(TokenRange{0, 10}));
  EXPECT_THAT(apply("window", 21),
              ElementsAre(TokenRange{0, 10}, TokenRange{10, 20}, TokenRange{20, 21}));
  EXPECT_THAT(apply("error", 0), ElementsAre());
  EXPECT_EQ(describe(counts),
            "6 samples: 1 whole, 2 truncated, 1 skipped, 1 empty, 1 in 3 windows, 51 tokens, 17 "
            "tokens dropped");
}

TEST(LengthPolicy, ErrorsNameTheSampleAndTheChoices) {
  LengthCounts counts;
  EXPECT_THAT(error_of([&] {
                apply_length_policy(LengthPolicy::error, 5000, 4096, "task 3 variant 2", counts);
              }),
              HasSubstr("sample task 3 variant 2 has 5000 tokens, the maximum sequence length is "
                        "4096; raise it, or choose skip, truncate-left"));
  EXPECT_THAT(error_of([] { parse_length_policy("truncate"); }),
              HasSubstr("\"truncate\" is none of error, skip"));
}

}  // namespace
}  // namespace espalier::extract
