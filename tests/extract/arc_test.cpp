// SPDX-License-Identifier: Apache-2.0
// ARC tasks, grid encoders and variants. The random values are those of Python 3.11 and NumPy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "espalier/extract/augmentation.h"
#include "espalier/extract/grid_encoder.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

using test::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Grid kGrid{.height = 2, .width = 3, .cells = {0, 1, 2, 3, 4, 5}};

std::string encode(std::string_view encoder) { return parse_grid_encoder(encoder)->encode(kGrid); }

TEST(GridEncoder, WritesTheFormsOfTheOriginal) {
  EXPECT_EQ(encode("MinimalGridEncoder()"), "012\n345");
  EXPECT_EQ(encode("GridWithSeparationEncoder('|')"), "0|1|2\n3|4|5");
  EXPECT_EQ(encode("GridWithSeparationEncoder(split_symbol=\" - \")"), "0 - 1 - 2\n3 - 4 - 5");
  EXPECT_EQ(encode("RowNumberEncoder(MinimalGridEncoder())"), "1 012\n2 345");
  EXPECT_EQ(encode("GridCodeBlockEncoder(MinimalGridEncoder())"), "```grid\n012\n345\n```");
  EXPECT_EQ(encode(kDefaultGridEncoder), "```grid shape: 2x3\n1 012\n2 345\n```");
  EXPECT_EQ(encode("RepeatNumberEncoder()"), "000111222\n333444555");
  EXPECT_EQ(encode("RepeatNumberEncoder(n=2)"), "001122\n334455");
  EXPECT_EQ(encode(" RowNumberEncoder( ReplaceNumberEncoder(MinimalGridEncoder()) ) "),
            "1 ñò÷\n2 ûąć");
}

TEST(GridEncoder, WhatIsNoneIsAnErrorWithItsPlace) {
  const auto error = [](std::string_view text) {
    return error_of([&] { parse_grid_encoder(text); });
  };
  EXPECT_THAT(error("MinimalGridEncodr()"),
              HasSubstr("at character 1: there is no encoder \"MinimalGridEncodr\"; nearest: "
                        "MinimalGridEncoder"));
  EXPECT_THAT(error("RowNumberEncoder()"), HasSubstr("at character 18: there is no encoder \"\""));
  EXPECT_THAT(error("RowNumberEncoder(MinimalGridEncoder()"),
              HasSubstr("at character 38: ')' must stand here"));
  EXPECT_THAT(error("MinimalGridEncoder() x"), HasSubstr("nothing more must stand here"));
  EXPECT_THAT(error("GridWithSeparationEncoder(|)"), HasSubstr("a quoted text must stand here"));
  EXPECT_THAT(error("GridWithSeparationEncoder('|)"), HasSubstr("a closing quote"));
  EXPECT_THAT(error("RepeatNumberEncoder(n=0)"), HasSubstr("a number from 1 to 99"));
  EXPECT_THAT(error("__import__('os')"), HasSubstr("there is no encoder \"__import__\""));
}

TEST(ArcTask, ReadsATaskWithAndWithoutAnId) {
  const std::string body =
      R"("train": [{"input": [[0,1],[2,3]], "output": [[1,0],[3,2]]}],
         "test": [{"input": [[4,5],[6,7]]}])";
  const ArcTask task = parse_arc_task("{" + body + "}", "f line 43", line_id(42));
  EXPECT_EQ(task.id, "task_0000002a");
  EXPECT_THAT(task.train.at(0).output->cells, ElementsAre(1, 0, 3, 2));
  EXPECT_FALSE(task.test.at(0).output);
  EXPECT_EQ(parse_arc_task("{\"task_id\": \"a\", " + body + "}", "f", "x").id, "a");
}

TEST(ArcTask, WhatIsNoneIsAnErrorWithItsPlace) {
  const auto error = [](std::string_view text) {
    return error_of([&] { parse_arc_task(text, "tasks.jsonl line 7", "t"); });
  };
  const auto train = [&](std::string_view pair) {
    return error(fmt::format(R"({{"train": [{}], "test": []}})", pair));
  };
  EXPECT_THAT(error("{"), HasSubstr("tasks.jsonl line 7 is not JSON"));
  EXPECT_THAT(error("[]"), HasSubstr("tasks.jsonl line 7 is no JSON object"));
  EXPECT_THAT(error("{}"), HasSubstr("tasks.jsonl line 7: \"train\" is missing or no list"));
  EXPECT_THAT(error(R"({"train": [], "test": []})"), HasSubstr("\"test\" is empty"));
  EXPECT_THAT(error(R"({"task_id": 3, "train": [], "test": []})"), HasSubstr("task_id = 3"));
  EXPECT_THAT(train("{}"), HasSubstr("line 7: train[0] has no input"));
  EXPECT_THAT(train(R"({"input": [[1]]})"), HasSubstr("train[0] has no output"));
  EXPECT_THAT(train(R"({"input": []})"), HasSubstr("train[0] input is no grid"));
  EXPECT_THAT(train(R"({"input": [[1, 2], [3]]})"),
              HasSubstr("train[0] input row 1 has 1 cells, the rows above 2"));
  EXPECT_THAT(train(R"({"input": [[1, 10]]})"),
              HasSubstr("train[0] input row 0 column 1 is 10, no colour from 0 to 9"));
  EXPECT_THAT(train(R"({"input": [[1, 2.5]]})"), HasSubstr("column 1 is 2.5"));
}

TEST(ArcTask, ReadsThePublicTasks) {
  const auto folder = std::filesystem::path(ESPALIER_SOURCE_DIR) / "../shared/data/arc/training";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
  int64_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path());
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    const ArcTask task = parse_arc_task(text, entry.path().string(), entry.path().stem());
    EXPECT_GE(task.train.size(), 2u) << task.id;
    ++count;
  }
  EXPECT_GT(count, 20);
}

TEST(PythonRandom, DrawsWhatPythonDraws) {
  PythonRandom random((uint64_t{1} << 40) + 7);
  EXPECT_EQ(random.uniform(), 0.6137037779936511);
  EXPECT_EQ(random.uniform(), 0.8149162973309487);
}

TEST(NumpyRandom, PermutesAsNumpyDoes) {
  EXPECT_THAT(NumpyRandom(42).permutation(10), ElementsAre(8, 1, 5, 0, 7, 2, 9, 4, 3, 6));
  NumpyRandom three(42);
  EXPECT_THAT(three.permutation(3), ElementsAre(0, 1, 2));
  EXPECT_THAT(three.permutation(3), ElementsAre(1, 2, 0));
  EXPECT_THAT(three.permutation(3), ElementsAre(0, 1, 2));
  EXPECT_THAT(three.permutation(3), ElementsAre(1, 2, 0));
  // More words than one state holds.
  const std::vector<int64_t> many = NumpyRandom(42).permutation(700);
  EXPECT_THAT(std::vector<int64_t>(many.end() - 5, many.end()),
              ElementsAre(71, 106, 270, 435, 102));
}

ArcTask task_of(size_t examples, size_t tests) {
  ArcTask task{.id = "t", .train = {}, .test = {}};
  task.train.assign(examples, {.input = kGrid, .output = kGrid});
  task.test.assign(tests, {.input = kGrid, .output = {}});
  return task;
}

TEST(Augmenter, DrawsTheColoursOfTheOriginal) {
  Augmenter augmenter(42);
  const std::vector<Augmentation> drawn = augmenter.variants(task_of(3, 1), 32);
  ASSERT_EQ(drawn.size(), 32u);
  EXPECT_THAT(drawn[0].colours, ElementsAre(0, 8, 4, 3, 9, 6, 7, 2, 5, 1));
  EXPECT_THAT(drawn[1].colours, ElementsAre(0, 5, 4, 3, 7, 6, 2, 8, 9, 1));
  EXPECT_THAT(drawn[2].colours, ElementsAre(0, 8, 6, 1, 3, 5, 4, 2, 7, 9));
  EXPECT_THAT(drawn[4].colours, ElementsAre(2, 6, 1, 7, 8, 3, 9, 0, 4, 5));
  EXPECT_THAT(drawn[28].colours, ElementsAre(3, 8, 5, 1, 6, 4, 0, 2, 7, 9));
  EXPECT_THAT(drawn[1].order, ElementsAre(1, 2, 0));
  EXPECT_FALSE(drawn[15].mirrored);
  EXPECT_TRUE(drawn[16].mirrored);
  EXPECT_EQ(drawn[15].quarter_turns, 3);
}

TEST(Augmenter, MakesTheNumberOfVariantsOfTheOriginal) {
  for (const auto& [predictions, count] :
       {std::pair{1, 1}, {5, 5}, {8, 8}, {12, 8}, {16, 16}, {20, 16}}) {
    EXPECT_EQ(Augmenter(1).variants(task_of(2, 3), predictions).size(), static_cast<size_t>(count));
  }
  EXPECT_THAT(error_of([] { Augmenter(1).variants(task_of(2, 1), 0); }),
              HasSubstr("predictions per task = 0 must be positive"));
  EXPECT_THAT(error_of([] { Augmenter augmenter(uint64_t{1} << 32); }),
              HasSubstr("the seed 4294967296 is not below 2^32"));
}

TEST(Augment, TurnsMirrorsAndColours) {
  EXPECT_THAT(mirror(kGrid).cells, ElementsAre(2, 1, 0, 5, 4, 3));
  const Grid turned = quarter_turn(kGrid);
  EXPECT_EQ(turned.height, 3);
  EXPECT_THAT(turned.cells, ElementsAre(2, 5, 1, 4, 0, 3));
  ArcTask task = task_of(2, 1);
  task.train[1].input.cells[0] = 9;
  const ArcTask made = augment(task, {.mirrored = true,
                                      .quarter_turns = 1,
                                      .colours = {0, 2, 1, 4, 3, 6, 5, 8, 7, 9},
                                      .order = {1, 0}});
  // Mirrored 2 1 9 / 5 4 3, turned 9 3 / 1 4 / 2 5, then the colours.
  EXPECT_THAT(made.train[0].input.cells, ElementsAre(9, 4, 2, 3, 1, 6));
  EXPECT_THAT(made.train[0].output->cells, ElementsAre(0, 4, 2, 3, 1, 6));
  EXPECT_THAT(made.test[0].input.cells, ElementsAre(0, 4, 2, 3, 1, 6));
  EXPECT_FALSE(made.test[0].output);
}

}  // namespace
}  // namespace espalier::extract
