// SPDX-License-Identifier: Apache-2.0
// What BERT runs read: a tokenizer and the documents it cuts into tokens.
#pragma once

#include <map>
#include <string>

#include "espalier/text/tokenizer.h"
#include "espalier/train/bert_options.h"
#include "espalier/train/data.h"
#include "espalier/train/documents.h"

namespace espalier::train {

struct BertTokenizer {
  text::Tokenizer tokenizer;
  std::map<std::string, std::string> files;  // it can be read again from, by name
  std::string origin;                        // "learned from builtin", "of models/bert"
};

/// Of options.tokenizer, of the checkpoint a run goes on from, or a WordPiece vocabulary learned
/// from the text. Throws `user` when there is none and the data is no plain text to learn from.
BertTokenizer open_bert_tokenizer(const BertOptions& options, const ByteData& data);

TokenDocuments read_documents(const ByteData& data, const text::Tokenizer& tokenizer);

/// Entropy in nats of the ordinary tokens of documents [first, last): what a model that knows how
/// often each token comes, and nothing else, is left with.
double unigram_entropy(const TokenDocuments& documents, int64_t first, int64_t last,
                       const MlmVocabulary& vocabulary);

}  // namespace espalier::train
