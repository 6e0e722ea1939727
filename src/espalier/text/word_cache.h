// SPDX-License-Identifier: Apache-2.0
// Words that were tokenized before: a table of fixed size, one cache line a word, direct-mapped.
//
// A new word replaces the one in its place, so memory is bounded, nothing is allocated after the
// start, and results never depend on the table's content. Words over 32 bytes or 7 ids stay out.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace espalier::text {

class WordCache {
 public:
  static constexpr size_t kMaxBytes = 32;
  static constexpr size_t kMaxIds = 7;

  struct alignas(64) Entry {
    uint64_t key[4];
    uint8_t size;  // bytes of the word; 0: free
    uint8_t count;
    int32_t ids[kMaxIds];
  };

  /// A word as numbers: together with its size they tell all words apart.
  struct Key {
    uint64_t part[4];
    uint64_t hash;
    uint8_t size;
  };

  WordCache() : entries_(kEntries) {}

  /// `word` has 1 to kMaxBytes bytes.
  static Key key_of(std::string_view word) {
    const char* p = word.data();
    const size_t n = word.size();
    Key key{{0, 0, 0, 0}, 0, static_cast<uint8_t>(n)};
    // Loads overlap where the size is no multiple of theirs; none reads outside of the word.
    if (n >= 8) {
      key.part[0] = load<uint64_t>(p);
      key.part[1] = load<uint64_t>(p + n - 8);
      if (n > 16) {
        key.part[2] = load<uint64_t>(p + 8);
        key.part[3] = load<uint64_t>(p + n - 16);
      }
    } else if (n >= 4) {
      key.part[0] = load<uint32_t>(p) | uint64_t{load<uint32_t>(p + n - 4)} << 32;
    } else {
      const auto byte = [&](size_t i) { return uint64_t{static_cast<uint8_t>(p[i])}; };
      key.part[0] = byte(0) | byte(n / 2) << 8 | byte(n - 1) << 16;
    }
    uint64_t h = key.part[0] * 0x9E3779B97F4A7C15ull + n;
    h = (h ^ (h >> 32) ^ key.part[1]) * 0xBF58476D1CE4E5B9ull;
    if (n > 16) {
      h = (h ^ (h >> 32) ^ key.part[2]) * 0x94D049BB133111EBull;
      h = (h ^ (h >> 32) ^ key.part[3]) * 0x9E3779B97F4A7C15ull;
    }
    key.hash = h >> 40;
    return key;
  }

  /// The entry of the word, or nothing.
  const Entry* find(const Key& key) const {
    const Entry& entry = entries_[key.hash & (kEntries - 1)];
    const bool same = entry.size == key.size && entry.key[0] == key.part[0] &&
                      entry.key[1] == key.part[1] && entry.key[2] == key.part[2] &&
                      entry.key[3] == key.part[3];
    return same ? &entry : nullptr;
  }

  /// Takes the word over if its ids fit.
  void put(const Key& key, std::span<const int32_t> ids) {
    if (ids.size() > kMaxIds) return;
    Entry& entry = entries_[key.hash & (kEntries - 1)];
    std::memcpy(entry.key, key.part, sizeof(entry.key));
    entry.size = key.size;
    entry.count = static_cast<uint8_t>(ids.size());
    std::memcpy(entry.ids, ids.data(), ids.size_bytes());
  }

 private:
  static constexpr size_t kEntries = size_t{1} << 15;  // 2 MiB

  template <typename T>
  static T load(const char* at) {
    T value;
    std::memcpy(&value, at, sizeof(T));
    return value;
  }

  std::vector<Entry> entries_;
};

}  // namespace espalier::text
