// SPDX-License-Identifier: Apache-2.0
// What runs on text read: a tokenizer and the documents it cuts into tokens.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/text/tokenizer.h"
#include "espalier/train/data.h"
#include "espalier/train/documents.h"
#include "espalier/train/text_options.h"

namespace espalier::train {

struct RunTokenizer {
  text::Tokenizer tokenizer;
  std::map<std::string, std::string> files;  // it can be read again from, by name
  std::string origin;                        // "learned from builtin", "of models/bert"
};

/// A tokenizer with `size` tokens at most, learned from the text; `label` names the data.
using LearnTokenizer = std::function<RunTokenizer(std::string_view text, const std::string& label)>;

/// Of options.tokenizer, of the checkpoint a run goes on from, of the folder a run starts from, or
/// learned. Throws `user` when there is none and the data is no plain text to learn from.
RunTokenizer open_run_tokenizer(const TextOptions& options, const ByteData& data,
                                const LearnTokenizer& learn);
/// WordPiece, of lower case.
RunTokenizer learn_word_pieces(std::string_view text, const std::string& label, int64_t size);
/// Byte-level BPE, as Qwen2's.
RunTokenizer learn_byte_pairs(std::string_view text, const std::string& label, int64_t size);

/// The documents of the first `max_bytes` of the data; 0: of all.
TokenDocuments read_documents(const ByteData& data, const text::Tokenizer& tokenizer,
                              int64_t max_bytes = 0);

/// Entropy in nats of the `counted` tokens (by id) of documents [first, last): what a model that
/// knows how often each token comes, and nothing else, is left with.
double unigram_entropy(const TokenDocuments& documents, int64_t first, int64_t last,
                       const std::vector<bool>& counted);

/// How a trained model is measured on documents.
struct TextEvalOptions {
  int64_t batch_size = 16;  // rows at once
  int64_t max_bytes = 0;    // of the data; 0: all
  CompileOptions compile;
};

}  // namespace espalier::train
