// SPDX-License-Identifier: Apache-2.0
// The files that define a tokenizer, as text in memory. `label` names the file in messages.
//
// A damaged file is a `data` error with the place in it; a working one that asks for something this
// project does not do is `unsupported` and says what.
#pragma once

#include <string>
#include <string_view>

#include "espalier/text/bert_normalizer.h"
#include "espalier/text/tokenizer.h"

namespace espalier::text {

/// tokenizer.json: WordPiece with BertNormalizer and BertPreTokenizer, or BPE over bytes with one
/// of the patterns of pre_tokenizer.h. The entries `truncation` and `padding` are not applied.
TokenizerParts parse_tokenizer_json(std::string_view json, const std::string& label);

/// vocab.txt, one token a line, as `transformers` reads it for BERT: [CLS] before and [SEP] after a
/// text, the special tokens that are there added. `config` is the text of tokenizer_config.json or
/// empty; of it do_lower_case, strip_accents and tokenize_chinese_chars count.
TokenizerParts parse_vocab_txt(std::string_view lines, std::string_view config,
                               const std::string& label);

/// vocab.json and merges.txt. `config` is the text of tokenizer_config.json or empty (then: Qwen2's
/// pattern); tokenizer_class decides the pattern, added_tokens_decoder brings the added tokens.
TokenizerParts parse_vocab_and_merges(std::string_view vocab, std::string_view merges,
                                      std::string_view config, const std::string& label);

}  // namespace espalier::text
