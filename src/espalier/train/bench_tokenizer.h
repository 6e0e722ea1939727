// SPDX-License-Identifier: Apache-2.0
// What `espalier bench tokenizer` measures.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace espalier::train {

struct TokenizerBenchOptions {
  std::string tokenizer;         // folder; empty: WordPiece learned from the built-in corpus
  std::string data = "builtin";  // file or builtin
  int64_t rounds = 5;
};

struct TokenizerBenchResult {
  std::string kind;
  std::string data;
  int64_t bytes = 0, tokens = 0, vocab_size = 0;
  double load_seconds = 0.0;
  std::vector<double> seconds;  // of each round, ascending; the cache of words starts empty in each
  /// Of the median round.
  double megabytes_per_second() const;
};

/// Tokenizes the data line by line, the way documents come, on one thread.
TokenizerBenchResult bench_tokenizer(const TokenizerBenchOptions& options);

/// One line for people; one JSON object.
std::string tokenizer_bench_line(const TokenizerBenchResult& result);
std::string tokenizer_bench_json(const TokenizerBenchResult& result);

}  // namespace espalier::train
