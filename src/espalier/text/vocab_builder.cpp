// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/vocab_builder.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "espalier/base/error.h"
#include "espalier/text/pair_learner.h"
#include "espalier/text/unicode.h"
#include "espalier/text/utf8.h"

namespace espalier::text {
namespace {

constexpr std::string_view kContinues = "##";
constexpr size_t kLongestWord = 100;  // characters; longer ones are unknown to WordPiece

std::string continued(const std::string& character) { return std::string(kContinues) + character; }

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
    PairLearner learner(std::move(words_));
    while (size() < options_.size) {
      const auto pair = learner.best(options_.min_count);
      if (!pair) break;
      const auto& [left, right] = *pair;
      learner.join(*pair, id_of(tokens_[static_cast<size_t>(left)] +
                                tokens_[static_cast<size_t>(right)].substr(kContinues.size())));
    }
    return std::move(tokens_);
  }

 private:
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
    for (const auto& [character, count] : sorted) id_of(continued(character));
  }

  /// Words with a character outside of the alphabet are left out.
  void add_word(const std::string& word, int64_t count) {
    CountedWord result{{}, count};
    const char* end = word.data() + word.size();
    for (const char* at = word.data(); at < end;) {
      const char* start = at;
      next_code_point(at);
      const std::string character(start, at);
      const auto it = ids_.find(result.pieces.empty() ? character : continued(character));
      if (it == ids_.end()) return;
      result.pieces.push_back(it->second);
    }
    words_.push_back(std::move(result));
  }

  const VocabOptions& options_;
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<CountedWord> words_;
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
