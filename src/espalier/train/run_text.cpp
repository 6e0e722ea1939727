// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/run_text.h"

#include <algorithm>
#include <cmath>

#include "espalier/base/error.h"
#include "espalier/io/file.h"
#include "espalier/text/byte_vocab.h"
#include "espalier/text/tokenizer_file.h"
#include "espalier/text/vocab_builder.h"

namespace espalier::train {
namespace {

namespace fs = std::filesystem;

/// Files that make a tokenizer, as Hugging Face folders name them.
constexpr const char* kFiles[] = {"tokenizer.json", "tokenizer_config.json", "vocab.txt",
                                  "vocab.json", "merges.txt"};
constexpr int64_t kFileLimit = int64_t{256} << 20;
constexpr const char* kLearnedConfig =
    "{\"tokenizer_class\": \"BertTokenizer\", \"do_lower_case\": true}\n";

RunTokenizer read_tokenizer(const fs::path& path) {
  const io::FileContext context{.stage = "tokenizer"};
  RunTokenizer result{text::Tokenizer::open(path), {}, "of " + path.string()};
  if (!fs::is_directory(path)) {
    const char* name = path.extension() == ".json" ? "tokenizer.json" : "vocab.txt";
    result.files[name] = io::read_text(path, kFileLimit, context);
    return result;
  }
  for (const char* name : kFiles) {
    if (fs::exists(path / name)) {
      result.files[name] = io::read_text(path / name, kFileLimit, context);
    }
  }
  return result;
}

}  // namespace

RunTokenizer open_run_tokenizer(const TextOptions& options, const ByteData& data,
                                const LearnTokenizer& learn) {
  if (!options.tokenizer.empty()) return read_tokenizer(options.tokenizer);
  if (!options.resume_from.empty()) return read_tokenizer(options.resume_from);
  if (!options.from.empty()) {
    const fs::path from = options.from;
    const bool there = fs::exists(from / "tokenizer.json") || fs::exists(from / "vocab.txt") ||
                       fs::exists(from / "vocab.json");
    ESPALIER_CHECK(there, ErrorKind::user, "tokenizer",
                   "no tokenizer.json, vocab.txt or vocab.json in {}; give the --tokenizer that "
                   "belongs to its weights",
                   from.string());
    return read_tokenizer(from);
  }
  ESPALIER_CHECK(
      format_of(data.source()) == DocumentFormat::text, ErrorKind::user, "tokenizer",
      "a vocabulary is learned from plain text, not from {}; give --tokenizer (`espalier "
      "vocab` makes one)",
      data.source());
  const auto bytes = data.bytes();
  return learn({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, data.source());
}

RunTokenizer learn_word_pieces(std::string_view text, const std::string& label, int64_t size) {
  const std::string lines = text::vocab_txt(text::build_vocabulary(text, {.size = size}));
  return {text::Tokenizer(text::parse_vocab_txt(lines, kLearnedConfig, "the learned vocabulary")),
          {{"vocab.txt", lines}, {"tokenizer_config.json", kLearnedConfig}},
          "learned from " + label};
}

RunTokenizer learn_byte_pairs(std::string_view text, const std::string& label, int64_t size) {
  auto files = text::qwen2_tokenizer_files(text::learn_byte_vocabulary(text, {.size = size}));
  text::Tokenizer tokenizer(
      text::parse_vocab_and_merges(files.at("vocab.json"), files.at("merges.txt"),
                                   files.at("tokenizer_config.json"), "the learned vocabulary"));
  return {std::move(tokenizer), std::move(files), "learned from " + label};
}

TokenDocuments read_documents(const ByteData& data, const text::Tokenizer& tokenizer,
                              int64_t max_bytes) {
  auto bytes = data.bytes();
  if (max_bytes > 0) bytes = bytes.first(std::min(bytes.size(), static_cast<size_t>(max_bytes)));
  return tokenize_documents(bytes, format_of(data.source()), data.source(), tokenizer);
}

double unigram_entropy(const TokenDocuments& documents, int64_t first, int64_t last,
                       const std::vector<bool>& counted) {
  std::vector<int64_t> counts(counted.size(), 0);
  int64_t all = 0;
  for (int64_t i = first; i < last; ++i) {
    for (const int32_t id : documents.document(i)) {
      const auto at = static_cast<size_t>(id);
      if (!counted[at]) continue;
      ++counts[at];
      ++all;
    }
  }
  double entropy = 0.0;
  for (const int64_t count : counts) {
    if (count == 0) continue;
    const double p = static_cast<double>(count) / static_cast<double>(all);
    entropy -= p * std::log(p);
  }
  return entropy;
}

}  // namespace espalier::train
