// SPDX-License-Identifier: Apache-2.0
// What one thread needs beside a tokenizer to use it: the cache of words and buffers that keep
// their memory from text to text.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "espalier/text/word_cache.h"

namespace espalier::text {

class Model;

/// Appends ids to a vector that is grown in large steps and cut to size at the end, so that
/// appending costs one comparison a word.
class IdWriter {
 public:
  explicit IdWriter(std::vector<int32_t>& out) : out_(out), start_(out.size()), used_(out.size()) {}
  ~IdWriter() { out_.resize(used_); }
  IdWriter(const IdWriter&) = delete;
  IdWriter& operator=(const IdWriter&) = delete;

  void put(int32_t id) {
    reserve(1);
    out_[used_++] = id;
  }
  void put(std::span<const int32_t> ids) {
    reserve(ids.size());
    std::copy(ids.begin(), ids.end(), out_.begin() + static_cast<std::ptrdiff_t>(used_));
    used_ += ids.size();
  }
  void put(const WordCache::Entry& entry) {
    reserve(WordCache::kMaxIds);
    std::memcpy(out_.data() + used_, entry.ids, sizeof(entry.ids));
    used_ += entry.count;
  }

 private:
  void reserve(size_t count) {
    // Grows by what this text has brought so far, so that a short text behind many others costs
    // little.
    if (used_ + count > out_.size()) out_.resize(2 * used_ - start_ + count + 64);
  }
  std::vector<int32_t>& out_;
  size_t start_;
  size_t used_;
};

/// For one thread at a time. It may serve several tokenizers in turn, but forgets its words at each
/// change.
class Workspace {
 public:
  void use_for(const std::shared_ptr<const Model>& model) {
    if (model == model_) return;
    if (model_ != nullptr) cache = WordCache();
    model_ = model;
  }

  WordCache cache;
  std::vector<int32_t> word_ids;  // of the word being tokenized

  // Byte-pair merging of long words.
  std::vector<int32_t> symbols, previous, next;
  struct Candidate {
    uint32_t rank;
    int32_t at;
  };
  std::vector<Candidate> heap;

  std::string repaired;    // the text, where it was not valid UTF-8
  std::string normalized;  // a segment under a normalization form
  std::string word;        // of normalized characters

 private:
  std::shared_ptr<const Model> model_;  // the words in the cache are of this one
};

}  // namespace espalier::text
