// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bert_text.h"

#include <cmath>

#include "espalier/base/error.h"
#include "espalier/io/file.h"
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

BertTokenizer read_tokenizer(const fs::path& path) {
  const io::FileContext context{.stage = "tokenizer"};
  BertTokenizer result{text::Tokenizer::open(path), {}, "of " + path.string()};
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

BertTokenizer learn_tokenizer(const BertOptions& options, const ByteData& data) {
  ESPALIER_CHECK(
      format_of(data.source()) == DocumentFormat::text, ErrorKind::user, "tokenizer",
      "a vocabulary is learned from plain text, not from {}; give --tokenizer (`espalier "
      "vocab` makes one)",
      data.source());
  const int64_t size = options.config.empty() ? options.vocab_size
                                              : models::read_bert_config(options.config).vocab_size;
  const auto bytes = data.bytes();
  const auto tokens = text::build_vocabulary(
      {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, {.size = size});
  const std::string lines = text::vocab_txt(tokens);
  return {text::Tokenizer(text::parse_vocab_txt(lines, kLearnedConfig, "the learned vocabulary")),
          {{"vocab.txt", lines}, {"tokenizer_config.json", kLearnedConfig}},
          "learned from " + data.source()};
}

}  // namespace

BertTokenizer open_bert_tokenizer(const BertOptions& options, const ByteData& data) {
  if (!options.tokenizer.empty()) return read_tokenizer(options.tokenizer);
  if (!options.resume_from.empty()) return read_tokenizer(options.resume_from);
  return learn_tokenizer(options, data);
}

TokenDocuments read_documents(const ByteData& data, const text::Tokenizer& tokenizer) {
  return tokenize_documents(data.bytes(), format_of(data.source()), data.source(), tokenizer);
}

double unigram_entropy(const TokenDocuments& documents, int64_t first, int64_t last,
                       const MlmVocabulary& vocabulary) {
  std::vector<int64_t> counts(vocabulary.is_ordinary.size(), 0);
  int64_t all = 0;
  for (int64_t i = first; i < last; ++i) {
    for (const int32_t id : documents.document(i)) {
      const auto at = static_cast<size_t>(id);
      if (!vocabulary.is_ordinary[at]) continue;
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
