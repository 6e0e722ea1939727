// SPDX-License-Identifier: Apache-2.0
// A vocabulary of byte-level BPE learned from text, as Qwen2's tokenizer reads it: the bytes of
// NFC, cut into words by Qwen2's pattern, and the most frequent pairs joined.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::text {

struct ByteVocabOptions {
  int64_t size = 8192;    // tokens at most, the 256 bytes and the end of a text included
  int64_t min_count = 2;  // of a pair that is joined
};

struct ByteVocabulary {
  std::vector<std::string> tokens;  // by id, as vocab.json spells them: bytes, then merged ones
  std::vector<std::string> merges;  // "left right", the first one learned first
};

inline constexpr std::string_view kEndOfText = "<|endoftext|>";

/// Invalid UTF-8 is replaced. `user` error when `size` leaves no room for a merge, `data` for an
/// empty text.
ByteVocabulary learn_byte_vocabulary(std::string_view text, const ByteVocabOptions& options);

/// vocab.json, merges.txt and tokenizer_config.json of a Qwen2Tokenizer, by name; kEndOfText is the
/// token behind the last of the vocabulary.
std::map<std::string, std::string> qwen2_tokenizer_files(const ByteVocabulary& vocabulary);

}  // namespace espalier::text
