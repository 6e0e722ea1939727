// SPDX-License-Identifier: Apache-2.0
// Byte-level byte-pair encoding: the bytes of a word are merged pair by pair, always the pair that
// was learned first and of those the leftmost (Sennrich et al., 2016; Radford et al., 2019).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/text/model.h"
#include "espalier/text/pre_tokenizer.h"

namespace espalier::text {

/// Tokens of byte-level vocabularies spell each byte as a printable character. Returns the bytes of
/// `token`; a token with any other character stands for its own UTF-8.
std::string bytes_of_token(std::string_view token);
/// The printable character for each byte, in UTF-8.
const std::array<std::string, 256>& byte_characters();

/// Pairs of ids to the rank of their merge: open addressing, at most half full.
class MergeTable {
 public:
  explicit MergeTable(size_t count);
  /// The later of two equal pairs counts.
  void add(int32_t left, int32_t right, uint32_t rank);
  static constexpr uint32_t kNone = UINT32_MAX;
  uint32_t rank(int32_t left, int32_t right) const {
    const uint64_t key = key_of(left, right);
    for (size_t at = hash(key) & mask_;; at = (at + 1) & mask_) {
      if (slots_[at].key == key) return slots_[at].rank;
      if (slots_[at].key == kFree) return kNone;
    }
  }

 private:
  struct Slot {
    uint64_t key = kFree;
    uint32_t rank = 0;
  };
  static constexpr uint64_t kFree = UINT64_MAX;  // ids are not negative
  static uint64_t key_of(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  static size_t hash(uint64_t key) { return (key * 0x9E3779B97F4A7C15ull) >> 32; }
  std::vector<Slot> slots_;
  size_t mask_;
};

class ByteBpe final : public Model {
 public:
  struct Merge {
    int32_t left, right, result;
  };
  struct Options {
    Pattern pattern = Pattern::qwen2;
    bool nfc = true;
    std::array<int32_t, 256> byte_ids = {};
    std::vector<Merge> merges;  // in order of rank
  };
  explicit ByteBpe(Options options);

  void encode(std::string_view text, Workspace& work, IdWriter& out) const override;
  void normalize(std::string_view text, std::string& out) const override;
  void encode_normalized(std::string_view text, Workspace& work, IdWriter& out) const override;

  /// The ids of one word into work.word_ids, without the cache. Takes n log n for n bytes.
  void merge_word(std::string_view word, Workspace& work) const;

 private:
  void merge_short(std::string_view word, Workspace& work) const;
  void merge_long(std::string_view word, Workspace& work) const;
  Pattern pattern_;
  bool nfc_;
  std::array<int32_t, 256> byte_ids_;
  std::vector<uint32_t> byte_ranks_;  // of pairs of bytes, [256, 256]
  std::vector<int32_t> results_;      // by rank
  MergeTable merges_;
};

}  // namespace espalier::text
