// SPDX-License-Identifier: Apache-2.0
// The tables of `bench byte-lm --table`, with results of peers beside ours.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "espalier/train/bench.h"
#include "tests/support/errors.h"

namespace espalier::train {
namespace {

std::string file_of(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + "/" + name;
  std::ofstream(path) << text;
  return path;
}

std::string record(int batch, double rate, double gflops) {
  return fmt::format(
      R"({{"bench": "byte-lm", "peer": "torch", "model": "handcraft", "dtype": "float32", "compile": 1, )"
      R"("flash": 1, "batch": {}, "sequences_per_second": {}, "gflops": {}}})"
      "\n",
      batch, rate, gflops);
}

BenchResult ours() {
  BenchResult result;
  result.setting = {.dtype = DType::f32};
  result.batch = 16;
  result.sequences_per_second = 4.0;
  result.gflops = 160.0;
  return result;
}

TEST(BenchTables, PeersStandBesideOursWithTheMedianOfTheirRuns) {
  const auto peers =
      read_peers(file_of("peers.jsonl", "a line of another program\n" + record(16, 1.5, 60.0) +
                                            record(16, 2.5, 100.0) + record(16, 2.0, 80.0)));
  ASSERT_EQ(peers.size(), 3u);
  const std::string text = bench_tables({ours()}, peers);
  EXPECT_NE(text.find("torch handcraft"), std::string::npos) << text;
  const size_t row = text.find("  float32, compiled");
  ASSERT_NE(row, std::string::npos) << text;
  const std::string line = text.substr(row, text.find('\n', row) - row);
  EXPECT_NE(line.find("4.00"), std::string::npos) << line;
  EXPECT_NE(line.find("2.00"), std::string::npos) << line;
  EXPECT_EQ(text.find("left out"), std::string::npos) << text;
}

TEST(BenchTables, ResultsOfOtherWorkAreLeftOut) {
  const auto peers =
      read_peers(file_of("other.jsonl", record(2, 9.0, 360.0) +       // another batch
                                            record(16, 8.0, 160.0) +  // a smaller model
                                            record(16, 2.0, 80.0)));
  const std::string text = bench_tables({ours()}, peers);
  EXPECT_EQ(text.find("9.00"), std::string::npos) << text;
  EXPECT_EQ(text.find("8.00"), std::string::npos) << text;
  EXPECT_NE(text.find("2 of 3 results of peers are of another batch or size: left out"),
            std::string::npos)
      << text;
}

TEST(BenchTables, EveryRowIsAsWideAsItsHead) {
  const std::string text = bench_tables({ours()}, {});
  std::string head;
  size_t rows = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(std::string(34, ' '))) {
      head = line;
    } else if (line.starts_with("  ")) {
      EXPECT_EQ(line.size(), head.size()) << line;
      ++rows;
    }
  }
  EXPECT_EQ(rows, 1u + 6u + 4u);  // models, types, attention
}

TEST(BenchTables, ALineThatIsNoResultIsNamed) {
  const std::string path = file_of("bad.jsonl", record(16, 2.0, 80.0) + R"({"peer": "torch"})");
  const std::string error = test::message(ErrorKind::data, [&] { read_peers(path); });
  EXPECT_NE(error.find("line 2 of " + path + " is no result of a peer"), std::string::npos)
      << error;
}

}  // namespace
}  // namespace espalier::train
