// SPDX-License-Identifier: Apache-2.0
// vocab.txt, vocab.json with merges.txt, and which of the files of a folder to read.
#include <algorithm>
#include <array>
#include <charconv>

#include "espalier/io/file.h"
#include "espalier/text/bpe_file.h"
#include "espalier/text/json_node.h"
#include "espalier/text/tokenizer_file.h"
#include "espalier/text/utf8.h"
#include "espalier/text/word_piece.h"

namespace espalier::text {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxFile = int64_t{1} << 30;

/// Calls fn(line, number from 1) for each line, without its end; `data` error for invalid UTF-8.
template <typename Fn>
void for_each_line(std::string_view text, const std::string& label, Fn fn) {
  int64_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    ESPALIER_CHECK(valid_utf8_prefix(line) == line.size(), ErrorKind::data, "tokenizer",
                   "line {} is not valid UTF-8, at {}", number, label);
    fn(line, number);
  }
}

std::string read(const fs::path& path) {
  return io::read_text(path, kMaxFile,
                       {.stage = "tokenizer", .next_step = "give the folder of a tokenizer"});
}

std::string read_if_there(const fs::path& path) { return fs::exists(path) ? read(path) : ""; }

}  // namespace

TokenizerParts parse_vocab_txt(std::string_view lines, std::string_view config,
                               const std::string& label) {
  TokenizerParts parts;
  for_each_line(lines, label, [&](std::string_view token, int64_t line) {
    ESPALIER_CHECK(!token.empty(), ErrorKind::data, "tokenizer", "line {} is empty, at {}", line,
                   label);
    const auto known = parts.tokens.id(token);
    ESPALIER_CHECK(!known, ErrorKind::data, "tokenizer", "token {} is on lines {} and {}, at {}",
                   json_quote(token), known.value_or(0) + 1, line, label);
    parts.tokens.add(token, line - 1, label);
  });
  WordPiece::Options options;
  if (!config.empty()) {
    const std::string config_label = label + "'s tokenizer_config.json";
    const nlohmann::json content = parse_json(config, config_label);
    const JsonNode root(content, config_label);
    const bool lowercase = root.flag("do_lower_case", true);
    options.normalizer = {.clean_text = true,
                          .handle_chinese_chars = root.flag("tokenize_chinese_chars", true),
                          .strip_accents = root.flag("strip_accents", lowercase),
                          .lowercase = lowercase};
  }
  const auto required = [&](std::string_view token) {
    const auto id = parts.tokens.id(token);
    ESPALIER_CHECK(id.has_value(), ErrorKind::data, "tokenizer",
                   "the vocabulary of {} tokens lacks {}, at {}", parts.tokens.size(), token,
                   label);
    return *id;
  };
  options.unknown = required("[UNK]");
  parts.before = {required("[CLS]")};
  parts.after = {required("[SEP]")};
  for (const char* content : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
    if (const auto id = parts.tokens.id(content)) {
      parts.added.push_back({.content = content, .id = *id, .special = true});
    }
  }
  parts.kind = "wordpiece";
  parts.decoder = {.kind = DecoderKind::word_piece, .name = "WordPiece"};
  parts.model = std::make_shared<WordPiece>(options, parts.tokens.list());
  return parts;
}

TokenizerParts parse_vocab_and_merges(std::string_view vocab, std::string_view merges,
                                      std::string_view config, const std::string& label) {
  TokenizerParts parts;
  const std::string vocab_label = label + "/vocab.json";
  {
    const nlohmann::json content = parse_json(vocab, vocab_label);
    const JsonNode root(content, vocab_label);
    root.expect(content.is_object(), "an object");
    parts.tokens.reserve(content.size());
    for (const auto& [token, id] : content.items()) {
      ESPALIER_CHECK(id.is_number_integer(), ErrorKind::data, "tokenizer",
                     "the id of token {} is a {}, not an integer, at {}", json_quote(token),
                     id.type_name(), vocab_label);
      parts.tokens.add(token, id.get<int64_t>(), vocab_label);
    }
  }
  BpeMerges pairs(parts.tokens);
  const std::string merges_label = label + "/merges.txt";
  for_each_line(merges, merges_label, [&](std::string_view line, int64_t number) {
    if (line.empty() || line.starts_with("#version")) return;
    pairs.add(line, static_cast<size_t>(number) - 1, merges_label);
  });

  Pattern pattern = Pattern::qwen2;
  bool nfc = true;
  if (!config.empty()) {
    const std::string config_label = label + "/tokenizer_config.json";
    const nlohmann::json content = parse_json(config, config_label);
    const JsonNode root(content, config_label);
    const std::string type = root.text("tokenizer_class", "Qwen2Tokenizer");
    if (type.starts_with("GPT2Tokenizer")) {
      pattern = Pattern::gpt2;
      nfc = false;
    } else if (!type.starts_with("Qwen2Tokenizer")) {
      root.fail_here(fmt::format("tokenizer_class {} is not supported; Qwen2Tokenizer and "
                                 "GPT2Tokenizer are; use its tokenizer.json",
                                 type),
                     ErrorKind::unsupported);
    }
    if (root.flag("add_prefix_space", false)) {
      root.fail_here("add_prefix_space is not supported", ErrorKind::unsupported);
    }
    if (const auto added = root.find("added_tokens_decoder")) {
      added->expect(added->value().is_object(), "an object");
      for (const auto& [key, unused] : added->value().items()) {
        int64_t id = -1;
        const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
        if (error != std::errc() || end != key.data() + key.size()) {
          added->fail_here(fmt::format("{} is no id", json_quote(key)));
        }
        add_token(added->at(key), id, parts);
      }
    }
  }
  parts.kind = "bpe";
  parts.decoder = {.kind = DecoderKind::byte_level, .name = "ByteLevel"};
  parts.model = make_byte_bpe(pattern, nfc, parts.tokens, pairs, vocab_label);
  return parts;
}

Tokenizer Tokenizer::open(const fs::path& path) {
  const auto from_json = [](const fs::path& file) {
    return Tokenizer(parse_tokenizer_json(read(file), file.string()));
  };
  const auto from_lines = [](const fs::path& file) {
    return Tokenizer(parse_vocab_txt(
        read(file), read_if_there(file.parent_path() / "tokenizer_config.json"), file.string()));
  };
  if (fs::is_directory(path)) {
    if (fs::exists(path / "tokenizer.json")) return from_json(path / "tokenizer.json");
    if (fs::exists(path / "vocab.txt")) return from_lines(path / "vocab.txt");
    if (fs::exists(path / "vocab.json") && fs::exists(path / "merges.txt")) {
      return Tokenizer(parse_vocab_and_merges(read(path / "vocab.json"), read(path / "merges.txt"),
                                              read_if_there(path / "tokenizer_config.json"),
                                              path.string()));
    }
    fail(ErrorKind::user, "tokenizer",
         "the folder has no tokenizer.json, no vocab.txt and no vocab.json with merges.txt, at {}",
         path.string());
  }
  return path.extension() == ".txt" ? from_lines(path) : from_json(path);
}

}  // namespace espalier::text
