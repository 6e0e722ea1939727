// SPDX-License-Identifier: Apache-2.0
// A set of byte strings with a number each, walked byte by byte to find the longest that begins at
// a place of a text.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/rng.h"

namespace espalier::text {

class ByteTrie {
 public:
  ByteTrie() : slots_(64) {}

  /// `key` is not empty; adding one again replaces its value (>= 0).
  void add(std::string_view key, int32_t value) {
    uint32_t node = kRoot;
    for (const char byte : key) node = child_or_new(node, static_cast<uint8_t>(byte));
    values_[node] = value;
    starts_[static_cast<uint8_t>(key.front())] = true;
  }

  struct Match {
    size_t size = 0;
    int32_t value = -1;  // -1: nothing begins here
  };

  /// The longest member that `text` begins with.
  Match longest(std::string_view text) const {
    Match best;
    uint32_t node = kRoot;
    for (size_t i = 0; i < text.size(); ++i) {
      node = child(node, static_cast<uint8_t>(text[i]));
      if (node == 0) break;
      if (values_[node] >= 0) best = {i + 1, values_[node]};
    }
    return best;
  }

  /// Whether any member begins with this byte.
  bool starts(char byte) const { return starts_[static_cast<uint8_t>(byte)]; }
  bool empty() const { return values_.size() == 2; }

 private:
  static constexpr uint32_t kRoot = 1;  // 0 is no node
  static constexpr uint32_t kMaxNodes = 1 << 24;
  struct Slot {
    uint32_t parent = 0;
    uint32_t byte_and_node = 0;  // byte << 24 | child
  };

  static size_t hash(uint32_t parent, uint8_t byte) {
    return mix32(parent << 8 ^ parent >> 24 ^ byte);
  }

  uint32_t child(uint32_t parent, uint8_t byte) const {
    const size_t mask = slots_.size() - 1;
    for (size_t at = hash(parent, byte) & mask;; at = (at + 1) & mask) {
      const Slot slot = slots_[at];
      if (slot.parent == 0) return 0;
      if (slot.parent == parent && slot.byte_and_node >> 24 == byte) {
        return slot.byte_and_node & 0xFFFFFF;
      }
    }
  }

  uint32_t child_or_new(uint32_t parent, uint8_t byte) {
    if (const uint32_t found = child(parent, byte)) return found;
    // At most half of the slots are taken.
    if (values_.size() * 2 > slots_.size()) {
      std::vector<Slot> old(slots_.size() * 2);
      old.swap(slots_);
      for (const Slot& slot : old) {
        if (slot.parent != 0) insert(slot);
      }
    }
    const auto node = static_cast<uint32_t>(values_.size());
    ESPALIER_CHECK(node < kMaxNodes, ErrorKind::data, "tokenizer",
                   "the tokens have more than {} different beginnings", kMaxNodes);
    values_.push_back(-1);
    insert({parent, uint32_t{byte} << 24 | node});
    return node;
  }

  void insert(Slot slot) {
    const size_t mask = slots_.size() - 1;
    size_t at = hash(slot.parent, static_cast<uint8_t>(slot.byte_and_node >> 24)) & mask;
    while (slots_[at].parent != 0) at = (at + 1) & mask;
    slots_[at] = slot;
  }

  std::vector<Slot> slots_;
  std::vector<int32_t> values_{-1, -1};
  bool starts_[256] = {};
};

}  // namespace espalier::text
