// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/pair_learner.h"

#include <algorithm>

namespace espalier::text {

PairLearner::PairLearner(std::vector<CountedWord> words) : words_(std::move(words)) {
  for (size_t word = 0; word < words_.size(); ++word) {
    const auto& pieces = words_[word].pieces;
    for (size_t i = 0; i + 1 < pieces.size(); ++i) {
      change({pieces[i], pieces[i + 1]}, words_[word].count, word);
    }
  }
  for (const auto& [pair, entry] : pairs_) queue_.push({entry.count, pair});
}

std::optional<PairLearner::Pair> PairLearner::best(int64_t min_count) {
  while (!queue_.empty()) {
    const Candidate best = queue_.top();
    const int64_t count = pairs_[best.pair].count;
    if (count == best.count) {
      return best.count < min_count ? std::nullopt : std::optional(best.pair);
    }
    queue_.pop();  // it has changed since
    if (count > 0) queue_.push({count, best.pair});
  }
  return std::nullopt;
}

void PairLearner::join(Pair pair, int32_t joined) {
  std::vector<size_t> where = std::move(pairs_[pair].words);
  std::sort(where.begin(), where.end());
  where.erase(std::unique(where.begin(), where.end()), where.end());
  std::vector<Pair> grown;
  for (const size_t index : where) {
    CountedWord& word = words_[index];
    auto& pieces = word.pieces;
    for (size_t i = 0; i + 1 < pieces.size(); ++i) {
      if (Pair{pieces[i], pieces[i + 1]} != pair) continue;
      if (i > 0) {
        change({pieces[i - 1], pair.first}, -word.count, index);
        change({pieces[i - 1], joined}, word.count, index);
        grown.push_back({pieces[i - 1], joined});
      }
      if (i + 2 < pieces.size()) {
        change({pair.second, pieces[i + 2]}, -word.count, index);
        change({joined, pieces[i + 2]}, word.count, index);
        grown.push_back({joined, pieces[i + 2]});
      }
      pieces[i] = joined;
      pieces.erase(pieces.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    }
  }
  pairs_[pair] = {};
  for (const Pair& candidate : grown) queue_.push({pairs_[candidate].count, candidate});
}

void PairLearner::change(Pair pair, int64_t by, size_t word) {
  PairEntry& entry = pairs_[pair];
  entry.count += by;
  if (by > 0) entry.words.push_back(word);
}

}  // namespace espalier::text
