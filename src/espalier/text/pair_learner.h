// SPDX-License-Identifier: Apache-2.0
// What byte-pair encoding learns (Sennrich et al., 2016): in words that are lists of pieces, the
// most frequent pair of neighbours is joined, again and again. A function of the words: ties go to
// the pair whose pieces were made first, so to the smaller ids.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <queue>
#include <utility>
#include <vector>

namespace espalier::text {

struct CountedWord {
  std::vector<int32_t> pieces;
  int64_t count = 0;
};

class PairLearner {
 public:
  using Pair = std::pair<int32_t, int32_t>;
  explicit PairLearner(std::vector<CountedWord> words);

  /// The most frequent pair that comes at least `min_count` times; it stays what it is until
  /// joined.
  std::optional<Pair> best(int64_t min_count);
  /// Puts `joined` in its place everywhere.
  void join(Pair pair, int32_t joined);

 private:
  struct PairEntry {
    int64_t count = 0;
    std::vector<size_t> words;  // where it was seen, some of them more than once or no more
  };
  struct Candidate {
    int64_t count;
    Pair pair;
    /// The queue gives the largest: most frequent, then made first.
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };
  void change(Pair pair, int64_t by, size_t word);

  std::vector<CountedWord> words_;
  std::map<Pair, PairEntry> pairs_;
  std::priority_queue<Candidate> queue_;
};

}  // namespace espalier::text
