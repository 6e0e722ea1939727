// SPDX-License-Identifier: Apache-2.0
// Documents as token ids: what a masked-language model trains on.
//
// Text files hold documents with empty lines between them; JSONL files (.jsonl) one object a line,
// whose `text` is the document. Everything is tokenized once, by all threads, without the tokens
// that a tokenizer puts around texts; the result can be kept in a file and mapped the next time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/text/tokenizer.h"

namespace espalier::train {

/// What reading found, for the report.
struct DocumentCounts {
  int64_t documents = 0;      // with at least one token
  int64_t empty = 0;          // without any; they are left out
  int64_t invalid_lines = 0;  // with bytes that are no UTF-8
  int64_t replaced = 0;       // U+FFFD put in their place
  int64_t tokens = 0;
  int64_t bytes = 0;
};

/// "1,200 documents, 3 empty, 2 lines of invalid UTF-8 (5 replacements), 340,000 tokens"
std::string describe(const DocumentCounts& counts);

class TokenDocuments {
 public:
  /// Document i is ids[offsets[i] .. offsets[i + 1]); `owner` keeps both alive.
  TokenDocuments(std::span<const int32_t> ids, std::span<const int64_t> offsets,
                 DocumentCounts counts, std::shared_ptr<const void> owner)
      : ids_(ids), offsets_(offsets), counts_(counts), owner_(std::move(owner)) {}

  int64_t size() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  std::span<const int32_t> ids() const { return ids_; }
  std::span<const int64_t> offsets() const { return offsets_; }
  std::span<const int32_t> document(int64_t i) const {
    const auto at = static_cast<size_t>(i);
    return ids_.subspan(static_cast<size_t>(offsets_[at]),
                        static_cast<size_t>(offsets_[at + 1] - offsets_[at]));
  }
  const DocumentCounts& counts() const { return counts_; }

 private:
  std::span<const int32_t> ids_;
  std::span<const int64_t> offsets_;
  DocumentCounts counts_;
  std::shared_ptr<const void> owner_;
};

enum class DocumentFormat { text, jsonl };
/// By the name of the file: .jsonl and .ndjson are JSONL.
DocumentFormat format_of(const std::string& source);

/// Tokenizes `bytes`; `source` names them in messages. `data` error for a JSONL line that is no
/// object with a string `text` (with its number), and when there is no document at all.
TokenDocuments tokenize_documents(std::span<const uint8_t> bytes, DocumentFormat format,
                                  const std::string& source, const text::Tokenizer& tokenizer);

/// The same through `cache`, a file: read when it was made from the same data and tokenizer
/// (`fingerprint`), else made again and written. An empty path keeps no file.
TokenDocuments cached_documents(const std::filesystem::path& cache, const std::string& fingerprint,
                                std::span<const uint8_t> bytes, DocumentFormat format,
                                const std::string& source, const text::Tokenizer& tokenizer);

}  // namespace espalier::train
