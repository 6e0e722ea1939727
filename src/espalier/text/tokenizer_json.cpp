// SPDX-License-Identifier: Apache-2.0
// tokenizer.json
#include "espalier/text/bpe_file.h"
#include "espalier/text/json_node.h"
#include "espalier/text/tokenizer_file.h"
#include "espalier/text/word_piece.h"

namespace espalier::text {
namespace {

[[noreturn]] void unsupported(const JsonNode& node, std::string_view what) {
  node.fail_here(what, ErrorKind::unsupported);
}

/// The `type` of an optional part; "none" when it is absent.
std::string type_of(const std::optional<JsonNode>& node) {
  return node ? node->at("type").string() : "none";
}

/// A Sequence's members, or the part itself. `key`: the member that lists them.
std::vector<JsonNode> steps_of(const std::optional<JsonNode>& node, std::string_view key) {
  if (!node) return {};
  if (type_of(node) != "Sequence") return {*node};
  std::vector<JsonNode> steps;
  const JsonNode list = node->at(key);
  for (size_t i = 0; i < list.size(); ++i) steps.push_back(list.at(i));
  return steps;
}

void add_vocabulary(const JsonNode& vocab, TokenTable& tokens) {
  vocab.expect(vocab.value().is_object(), "an object");
  tokens.reserve(vocab.value().size());
  const std::string place = vocab.place();
  for (const auto& [token, id] : vocab.value().items()) {
    ESPALIER_CHECK(id.is_number_integer(), ErrorKind::data, "tokenizer",
                   "the id of token {} is a {}, not an integer, at {}", json_quote(token),
                   id.type_name(), place);
    tokens.add(token, id.get<int64_t>(), place);
  }
}

void add_tokens(const JsonNode& root, TokenizerParts& parts) {
  const auto list = root.find("added_tokens");
  if (!list) return;
  for (size_t i = 0; i < list->size(); ++i) {
    add_token(list->at(i), list->at(i).at("id").integer(), parts);
  }
}

std::shared_ptr<const Model> word_piece(const JsonNode& root, const JsonNode& model,
                                        const TokenTable& tokens) {
  WordPiece::Options options;
  const auto normalizer = root.find("normalizer");
  if (type_of(normalizer) != "BertNormalizer") {
    unsupported(root, fmt::format("WordPiece with the normalizer {} is not supported, with "
                                  "BertNormalizer it is",
                                  type_of(normalizer)));
  }
  if (const auto pre = root.find("pre_tokenizer"); type_of(pre) != "BertPreTokenizer") {
    unsupported(root, fmt::format("WordPiece with the pre-tokenizer {} is not supported, with "
                                  "BertPreTokenizer it is",
                                  type_of(pre)));
  }
  const bool lowercase = normalizer->flag("lowercase", true);
  options.normalizer = {.clean_text = normalizer->flag("clean_text", true),
                        .handle_chinese_chars = normalizer->flag("handle_chinese_chars", true),
                        .strip_accents = normalizer->flag("strip_accents", lowercase),
                        .lowercase = lowercase};
  options.continuation = model.text("continuing_subword_prefix", "##");
  const std::string unknown = model.text("unk_token", "[UNK]");
  const auto id = tokens.id(unknown);
  if (!id) model.fail_here(fmt::format("the unknown token {} is not in the vocabulary", unknown));
  options.unknown = *id;
  if (const auto limit = model.find("max_input_chars_per_word")) {
    options.max_chars = limit->integer();
    if (options.max_chars < 0 || options.max_chars > WordPiece::kMaxChars) {
      limit->fail_here(
          fmt::format("{} is outside of 0 to {}", options.max_chars, WordPiece::kMaxChars));
    }
  }
  return std::make_shared<WordPiece>(options, tokens.list());
}

Pattern pattern_in(const JsonNode& root) {
  const auto steps = steps_of(root.find("pre_tokenizer"), "pretokenizers");
  const auto is_byte_level = [](const JsonNode& step) {
    if (type_of(step) != "ByteLevel") return false;
    if (step.flag("add_prefix_space", true)) unsupported(step, "add_prefix_space is not supported");
    return true;
  };
  if (steps.size() == 1 && is_byte_level(steps[0]) && steps[0].flag("use_regex", true)) {
    return Pattern::gpt2;
  }
  if (steps.size() == 2 && type_of(steps[0]) == "Split" && is_byte_level(steps[1]) &&
      !steps[1].flag("use_regex", true)) {
    const JsonNode& split = steps[0];
    if (split.text("behavior", "") != "Isolated" || split.flag("invert", false)) {
      unsupported(split, "a split that is not Isolated, or inverted, is not supported");
    }
    const auto regex = split.at("pattern").find("Regex");
    if (!regex) unsupported(split, "a split at a fixed string is not supported");
    return pattern_of(regex->string());
  }
  std::vector<std::string> types;
  types.reserve(steps.size());
  for (const JsonNode& step : steps) types.push_back(type_of(step));
  unsupported(root, fmt::format("BPE with the pre-tokenizer [{}] is not supported; ByteLevel is, "
                                "alone or after one Split",
                                fmt::join(types, ", ")));
}

bool nfc_in(const JsonNode& root) {
  bool nfc = false;
  for (const JsonNode& step : steps_of(root.find("normalizer"), "normalizers")) {
    if (type_of(step) != "NFC") {
      unsupported(step, fmt::format("BPE with the normalizer {} is not supported, with NFC it is",
                                    type_of(step)));
    }
    nfc = true;
  }
  return nfc;
}

std::shared_ptr<const Model> bpe(const JsonNode& root, const JsonNode& model,
                                 const TokenTable& tokens) {
  for (const char* key : {"dropout", "unk_token"}) {
    if (model.find(key)) unsupported(model, fmt::format("{} in BPE is not supported", key));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.text(key, "").empty()) {
      unsupported(model, fmt::format("{} in BPE is not supported", key));
    }
  }
  for (const char* key : {"byte_fallback", "ignore_merges"}) {
    if (model.flag(key, false)) unsupported(model, fmt::format("{} in BPE is not supported", key));
  }
  BpeMerges merges(tokens);
  const JsonNode list = model.at("merges");
  const std::string place = list.place();
  for (size_t i = 0, count = list.size(); i < count; ++i) {
    const nlohmann::json& pair = list.value()[i];
    if (pair.is_string()) {
      merges.add(pair.get_ref<const std::string&>(), i, place);
    } else if (pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string()) {
      merges.add(pair[0].get_ref<const std::string&>(), pair[1].get_ref<const std::string&>(), i,
                 place);
    } else {
      list.at(i).fail_here("a merge is \"left right\" or [\"left\", \"right\"]");
    }
  }
  return make_byte_bpe(pattern_in(root), nfc_in(root), tokens, merges, model.place());
}

/// Ids that the post-processor puts around a single text.
void read_template(const JsonNode& step, TokenizerParts& parts) {
  const JsonNode single = step.at("single");
  bool text_seen = false;
  for (size_t i = 0; i < single.size(); ++i) {
    const JsonNode piece = single.at(i);
    if (const auto sequence = piece.find("Sequence")) {
      if (text_seen || sequence->at("id").string() != "A") {
        piece.fail_here("the template of a single text has the sequence A once");
      }
      text_seen = true;
      continue;
    }
    const std::string& name = piece.at("SpecialToken").at("id").string();
    const JsonNode ids = step.at("special_tokens").at(name).at("ids");
    for (size_t k = 0; k < ids.size(); ++k) {
      const int64_t id = ids.at(k).integer();
      if (id < 0 || id >= parts.tokens.size()) {
        ids.fail_here(fmt::format("id {} is not in the vocabulary of {}", id, parts.tokens.size()));
      }
      (text_seen ? parts.after : parts.before).push_back(static_cast<int32_t>(id));
    }
  }
  if (!text_seen) single.fail_here("the template of a single text lacks the sequence A");
}

void read_post_processor(const JsonNode& root, TokenizerParts& parts) {
  const auto pair_id = [&](const JsonNode& pair) {
    if (pair.size() != 2) pair.fail_here("[token, id] is needed");
    const int64_t id = pair.at(size_t{1}).integer();
    if (id < 0 || id >= parts.tokens.size()) {
      pair.fail_here(fmt::format("id {} is not in the vocabulary of {}", id, parts.tokens.size()));
    }
    return static_cast<int32_t>(id);
  };
  for (const JsonNode& step : steps_of(root.find("post_processor"), "processors")) {
    const std::string type = type_of(step);
    if (type == "TemplateProcessing") {
      read_template(step, parts);
    } else if (type == "BertProcessing") {
      parts.before.push_back(pair_id(step.at("cls")));
      parts.after.push_back(pair_id(step.at("sep")));
    } else if (type != "ByteLevel") {  // which moves offsets only
      unsupported(step, fmt::format("the post-processor {} is not supported", type));
    }
  }
}

void read_decoder(const JsonNode& root, Decoder& decoder) {
  const auto node = root.find("decoder");
  decoder.name = type_of(node);
  if (decoder.name == "WordPiece") {
    decoder.kind = DecoderKind::word_piece;
    decoder.continuation = node->text("prefix", "##");
    decoder.cleanup = node->flag("cleanup", true);
  } else if (decoder.name == "ByteLevel") {
    decoder.kind = DecoderKind::byte_level;
  }
}

}  // namespace

TokenizerParts parse_tokenizer_json(std::string_view json, const std::string& label) {
  const nlohmann::json content = parse_json(json, label);
  const JsonNode root(content, label);
  const JsonNode model = root.at("model");
  TokenizerParts parts;
  // Files of early versions do not name the type; only BPE has merges.
  const std::string type = model.text("type", model.find("merges") ? "BPE" : "WordPiece");
  if (type != "WordPiece" && type != "BPE") {
    unsupported(model, fmt::format("the model {} is not supported; WordPiece and BPE are", type));
  }
  add_vocabulary(model.at("vocab"), parts.tokens);
  if (type == "WordPiece") {
    parts.kind = "wordpiece";
    parts.model = word_piece(root, model, parts.tokens);
  } else {
    parts.kind = "bpe";
    parts.model = bpe(root, model, parts.tokens);
  }
  add_tokens(root, parts);
  read_post_processor(root, parts);
  read_decoder(root, parts.decoder);
  return parts;
}

}  // namespace espalier::text
