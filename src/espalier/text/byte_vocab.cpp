// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/byte_vocab.h"

#include <unordered_map>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/io/json.h"
#include "espalier/text/byte_bpe.h"
#include "espalier/text/pair_learner.h"
#include "espalier/text/pre_tokenizer.h"
#include "espalier/text/unicode.h"
#include "espalier/text/utf8.h"

namespace espalier::text {
namespace {

constexpr int64_t kBytes = 256;

/// How often each word occurs, in the order of words.
std::map<std::string, int64_t> count_words(std::string_view text) {
  std::string repaired, normal;
  append_repaired_utf8(text, repaired);
  std::unordered_map<std::string, int64_t> counts;
  // In pieces that end with lines, so that the normalized copy stays small; words that would reach
  // over such an end are white space.
  constexpr size_t kPiece = size_t{1} << 20;
  for (std::string_view rest = repaired; !rest.empty();) {
    const size_t line_end = rest.find('\n', std::min(kPiece, rest.size()) - 1);
    const size_t size = line_end == std::string_view::npos ? rest.size() : line_end + 1;
    normal.clear();
    append_nfc(rest.substr(0, size), normal);
    rest.remove_prefix(size);
    WordScanner scanner(Pattern::qwen2, normal);
    for (auto word = scanner.next(); !word.empty(); word = scanner.next()) {
      ++counts[std::string(word)];
    }
  }
  return {counts.begin(), counts.end()};
}

}  // namespace

ByteVocabulary learn_byte_vocabulary(std::string_view text, const ByteVocabOptions& options) {
  ESPALIER_CHECK(options.size > kBytes + 1, ErrorKind::user, "vocabulary",
                 "size = {} leaves no room beside {} bytes and {}", options.size, kBytes,
                 kEndOfText);
  ESPALIER_CHECK(!text.empty(), ErrorKind::data, "vocabulary", "there is no text to learn from");
  std::vector<CountedWord> words;
  for (const auto& [word, count] : count_words(text)) {
    CountedWord& made = words.emplace_back(CountedWord{{}, count});
    for (const char byte : word) made.pieces.push_back(static_cast<uint8_t>(byte));
  }
  ByteVocabulary result;
  std::unordered_map<std::string, int32_t> ids;
  const auto id_of = [&](const std::string& token) {
    const auto [at, fresh] = ids.try_emplace(token, static_cast<int32_t>(result.tokens.size()));
    if (fresh) result.tokens.push_back(token);
    return at->second;
  };
  for (const std::string& character : byte_characters()) id_of(character);
  PairLearner learner(std::move(words));
  while (static_cast<int64_t>(result.tokens.size()) + 1 < options.size) {
    const auto pair = learner.best(options.min_count);
    if (!pair) break;
    const std::string left = result.tokens[static_cast<size_t>(pair->first)];
    const std::string right = result.tokens[static_cast<size_t>(pair->second)];
    result.merges.push_back(left + " " + right);
    learner.join(*pair, id_of(left + right));
  }
  return result;
}

std::map<std::string, std::string> qwen2_tokenizer_files(const ByteVocabulary& vocabulary) {
  using Json = nlohmann::ordered_json;
  std::string vocab;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    vocab += fmt::format("{}{}: {}", id == 0 ? "{" : ", ", json_quote(vocabulary.tokens[id]), id);
  }
  std::string merges = "#version: 0.2\n";
  for (const std::string& merge : vocabulary.merges) merges += merge + "\n";
  const std::string end(kEndOfText);
  const Json config{{"tokenizer_class", "Qwen2Tokenizer"},
                    {"add_prefix_space", false},
                    {"added_tokens_decoder",
                     {{std::to_string(vocabulary.tokens.size()),
                       {{"content", end},
                        {"lstrip", false},
                        {"normalized", false},
                        {"rstrip", false},
                        {"single_word", false},
                        {"special", true}}}}},
                    {"bos_token", nullptr},
                    {"eos_token", end},
                    {"pad_token", end},
                    {"unk_token", nullptr}};
  return {{"vocab.json", vocab + "}\n"},
          {"merges.txt", merges},
          {"tokenizer_config.json", config.dump(2) + "\n"}};
}

}  // namespace espalier::text
