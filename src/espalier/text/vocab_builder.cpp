// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/vocab_builder.h"

#include <algorithm>
#include <map>
#include <queue>
#include <unordered_map>

#include "espalier/base/error.h"
#include "espalier/text/unicode.h"
#include "espalier/text/utf8.h"

namespace espalier::text {
namespace {

constexpr size_t kLongestWord = 100;  // characters; longer ones are unknown to WordPiece

struct Word {
  std::vector<int32_t> pieces;
  int64_t count;
};

/// How often each word occurs, in the order of words.
std::map<std::string, int64_t> count_words(std::string_view text, const VocabOptions& options) {
  const BertNormalizer normalizer(options.normalizer);
  std::string repaired, normal;
  append_repaired_utf8(text, repaired);
  std::unordered_map<std::string, int64_t> counts;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty() && static_cast<size_t>(count_code_points(word)) <= kLongestWord) {
      ++counts[word];
    }
    word.clear();
  };
  // Line by line, so that the normalized copy stays small.
  for (std::string_view rest = repaired; !rest.empty();) {
    const size_t size = std::min(rest.find('\n'), rest.size() - 1) + 1;
    normal.clear();
    normalizer.append_normalized(rest.substr(0, size), normal);
    rest.remove_prefix(size);
    const char* end = normal.data() + normal.size();
    for (const char* at = normal.data(); at < end;) {
      const char* start = at;
      const char32_t c = next_code_point(at);
      const bool apart = is_bert_punctuation(c);
      if (apart || is_white_space(c)) end_word();
      if (is_white_space(c)) continue;
      word.append(start, at);
      if (apart) end_word();
    }
    end_word();
  }
  return {counts.begin(), counts.end()};
}

class Builder {
 public:
  Builder(const std::map<std::string, int64_t>& counts, const VocabOptions& options)
      : options_(options), tokens_{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"} {
    add_alphabet(counts);
    for (const auto& [word, count] : counts) add_word(word, count);
  }

  std::vector<std::string> build() {
    for (size_t word = 0; word < words_.size(); ++word) {
      const auto& pieces = words_[word].pieces;
      for (size_t i = 0; i + 1 < pieces.size(); ++i) {
        change({pieces[i], pieces[i + 1]}, words_[word].count, word);
      }
    }
    for (const auto& [pair, entry] : pairs_) queue_.push({entry.count, pair});
    while (size() < options_.size && !queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      PairEntry& entry = pairs_[best.pair];
      if (entry.count != best.count) {  // it has changed since
        if (entry.count > 0) queue_.push({entry.count, best.pair});
        continue;
      }
      if (best.count < options_.min_count) break;
      join(best.pair);
    }
    return std::move(tokens_);
  }

 private:
  using Pair = std::pair<int32_t, int32_t>;
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

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }

  int32_t id_of(const std::string& token) {
    const auto [it, inserted] = ids_.try_emplace(token, static_cast<int32_t>(tokens_.size()));
    if (inserted) tokens_.push_back(token);
    return it->second;
  }

  /// Every character gets two tokens: at the beginning of a word and in it.
  void add_alphabet(const std::map<std::string, int64_t>& counts) {
    std::map<std::string, int64_t> characters;
    for (const auto& [word, count] : counts) {
      const char* end = word.data() + word.size();
      for (const char* at = word.data(); at < end;) {
        const char* start = at;
        next_code_point(at);
        characters[std::string(start, at)] += count;
      }
    }
    std::vector<std::pair<std::string, int64_t>> sorted(characters.begin(), characters.end());
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    const int64_t room = std::min(options_.max_characters, (options_.size - size()) / 2);
    if (static_cast<int64_t>(sorted.size()) > room) sorted.resize(static_cast<size_t>(room));
    std::sort(sorted.begin(), sorted.end());
    for (const auto& [character, count] : sorted) id_of(character);
    for (const auto& [character, count] : sorted) id_of("##" + character);
  }

  /// Words with a character outside of the alphabet are left out.
  void add_word(const std::string& word, int64_t count) {
    Word result{{}, count};
    const char* end = word.data() + word.size();
    for (const char* at = word.data(); at < end;) {
      const char* start = at;
      next_code_point(at);
      const std::string character(start, at);
      const auto it = ids_.find(result.pieces.empty() ? character : "##" + character);
      if (it == ids_.end()) return;
      result.pieces.push_back(it->second);
    }
    words_.push_back(std::move(result));
  }

  void change(Pair pair, int64_t by, size_t word) {
    PairEntry& entry = pairs_[pair];
    entry.count += by;
    if (by > 0) entry.words.push_back(word);
  }

  void join(Pair pair) {
    const int32_t joined = id_of(tokens_[static_cast<size_t>(pair.first)] +
                                 tokens_[static_cast<size_t>(pair.second)].substr(2));
    std::vector<size_t> where = std::move(pairs_[pair].words);
    std::sort(where.begin(), where.end());
    where.erase(std::unique(where.begin(), where.end()), where.end());
    std::vector<Pair> grown;
    for (const size_t index : where) {
      Word& word = words_[index];
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

  const VocabOptions& options_;
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<Word> words_;
  std::map<Pair, PairEntry> pairs_;
  std::priority_queue<Candidate> queue_;
};

}  // namespace

std::vector<std::string> build_vocabulary(std::string_view text, const VocabOptions& options) {
  constexpr int64_t kLeast = 16;
  ESPALIER_CHECK(options.size >= kLeast, ErrorKind::user, "vocabulary",
                 "size = {} leaves no room for words; at least {} are needed", options.size,
                 kLeast);
  const auto counts = count_words(text, options);
  ESPALIER_CHECK(!counts.empty(), ErrorKind::data, "vocabulary",
                 "the text of {} bytes has no words to learn from", text.size());
  return Builder(counts, options).build();
}

std::string vocab_txt(const std::vector<std::string>& tokens) {
  std::string lines;
  for (const std::string& token : tokens) lines += token + "\n";
  return lines;
}

}  // namespace espalier::text
