// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/byte_bpe.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/text/utf8.h"

namespace espalier::text {
namespace {

/// Up to this many bytes, looking at every pair again is faster than a heap.
constexpr size_t kShort = 48;

/// Where the characters that stand for bytes begin and end: U+0143 is the last.
constexpr char32_t kByteCharacters = 0x144;

/// Printable bytes stand for themselves; the others are counted from U+0100.
std::array<char32_t, 256> byte_code_points() {
  std::array<char32_t, 256> points{};
  char32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
                           (byte >= 0xAE && byte <= 0xFF);
    points[byte] = printable ? byte : next++;
  }
  return points;
}

/// The byte that a code point stands for, or -1.
const std::array<int16_t, kByteCharacters>& bytes_of_code_points() {
  static const auto made = [] {
    std::array<int16_t, kByteCharacters> table;
    table.fill(-1);
    const auto points = byte_code_points();
    for (size_t byte = 0; byte < 256; ++byte) table[points[byte]] = static_cast<int16_t>(byte);
    return table;
  }();
  return made;
}

/// Whether NFC may change the text.
bool needs_nfc(std::string_view text) {
  const CodePointTable<uint8_t>& classes = pattern_classes();
  const char* end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    // Everything below U+0300 is as it should be: lead bytes below 0xCC.
    if (static_cast<uint8_t>(*at) < 0xCC) {
      ++at;
    } else if ((classes[next_code_point(at)] & PatternClass::kMayChange) != 0) {
      return true;
    }
  }
  return false;
}

}  // namespace

const std::array<std::string, 256>& byte_characters() {
  static const auto made = [] {
    std::array<std::string, 256> characters;
    const auto points = byte_code_points();
    for (size_t byte = 0; byte < 256; ++byte) append_utf8(points[byte], characters[byte]);
    return characters;
  }();
  return made;
}

std::string bytes_of_token(std::string_view token) {
  const auto& bytes = bytes_of_code_points();
  std::string result;
  const char* end = token.data() + token.size();
  for (const char* at = token.data(); at < end;) {
    const char32_t c = next_code_point(at);
    if (c >= bytes.size() || bytes[c] < 0) return std::string(token);
    result.push_back(static_cast<char>(bytes[c]));
  }
  return result;
}

MergeTable::MergeTable(size_t count)
    : slots_(std::bit_ceil(2 * count + 2)), mask_(slots_.size() - 1) {}

void MergeTable::add(int32_t left, int32_t right, uint32_t rank) {
  const uint64_t key = key_of(left, right);
  size_t at = hash(key) & mask_;
  while (slots_[at].key != kFree && slots_[at].key != key) at = (at + 1) & mask_;
  slots_[at] = {key, rank};
}

ByteBpe::ByteBpe(Options options)
    : pattern_(options.pattern),
      nfc_(options.nfc),
      byte_ids_(options.byte_ids),
      byte_ranks_(256 * 256, MergeTable::kNone),
      merges_(options.merges.size()) {
  results_.reserve(options.merges.size());
  for (const Merge& merge : options.merges) {
    merges_.add(merge.left, merge.right, static_cast<uint32_t>(results_.size()));
    results_.push_back(merge.result);
  }
  for (size_t left = 0; left < 256; ++left) {
    for (size_t right = 0; right < 256; ++right) {
      byte_ranks_[left << 8 | right] = merges_.rank(byte_ids_[left], byte_ids_[right]);
    }
  }
}

void ByteBpe::encode(std::string_view text, Workspace& work, IdWriter& out) const {
  if (nfc_ && needs_nfc(text)) {
    work.normalized.clear();
    append_nfc(text, work.normalized);
    text = work.normalized;
  }
  encode_normalized(text, work, out);
}

void ByteBpe::normalize(std::string_view text, std::string& out) const {
  if (nfc_ && needs_nfc(text)) {
    append_nfc(text, out);
  } else {
    out += text;
  }
}

void ByteBpe::encode_normalized(std::string_view text, Workspace& work, IdWriter& out) const {
  WordScanner words(pattern_, text);
  for (std::string_view word = words.next(); !word.empty(); word = words.next()) {
    if (word.size() > WordCache::kMaxBytes) {
      merge_word(word, work);
      out.put(work.word_ids);
      continue;
    }
    const WordCache::Key key = WordCache::key_of(word);
    if (const WordCache::Entry* known = work.cache.find(key)) {
      out.put(*known);
      continue;
    }
    merge_word(word, work);
    out.put(work.word_ids);
    work.cache.put(key, work.word_ids);
  }
}

void ByteBpe::merge_word(std::string_view word, Workspace& work) const {
  if (word.size() <= kShort) {
    merge_short(word, work);
  } else {
    merge_long(word, work);
  }
}

void ByteBpe::merge_short(std::string_view word, Workspace& work) const {
  std::array<int32_t, kShort> ids;
  std::array<uint32_t, kShort> ranks;  // of the pair that begins here
  size_t count = word.size();
  const auto byte = [&](size_t i) { return size_t{static_cast<uint8_t>(word[i])}; };
  for (size_t i = 0; i < count; ++i) {
    ids[i] = byte_ids_[byte(i)];
    ranks[i] = i + 1 < count ? byte_ranks_[byte(i) << 8 | byte(i + 1)] : MergeTable::kNone;
  }
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) best = ranks[i] < ranks[best] ? i : best;
    if (ranks[best] == MergeTable::kNone) break;
    ids[best] = results_[ranks[best]];
    --count;
    for (size_t i = best + 1; i < count; ++i) {
      ids[i] = ids[i + 1];
      ranks[i] = ranks[i + 1];
    }
    ranks[best] = best + 1 < count ? merges_.rank(ids[best], ids[best + 1]) : MergeTable::kNone;
    if (best > 0) ranks[best - 1] = merges_.rank(ids[best - 1], ids[best]);
  }
  work.word_ids.assign(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
}

void ByteBpe::merge_long(std::string_view word, Workspace& work) const {
  ESPALIER_CHECK(word.size() < (size_t{1} << 30), ErrorKind::data, "tokenizer",
                 "a word of {} bytes is too long", word.size());
  const auto count = static_cast<int32_t>(word.size());
  // Symbols are a list over their first bytes. A merged one lives on at its left part's place; -1
  // stands at the right part's.
  auto& symbols = work.symbols;
  auto& previous = work.previous;
  auto& next = work.next;
  auto& heap = work.heap;
  symbols.resize(word.size());
  previous.resize(word.size());
  next.resize(word.size());
  heap.clear();
  for (int32_t i = 0; i < count; ++i) {
    symbols[i] = byte_ids_[static_cast<uint8_t>(word[i])];
    previous[i] = i - 1;
    next[i] = i + 1 < count ? i + 1 : -1;
  }
  const auto later = [](const Workspace::Candidate& a, const Workspace::Candidate& b) {
    return std::pair(a.rank, a.at) > std::pair(b.rank, b.at);
  };
  const auto rank_at = [&](int32_t i) {
    return symbols[i] >= 0 && next[i] >= 0 ? merges_.rank(symbols[i], symbols[next[i]])
                                           : MergeTable::kNone;
  };
  const auto offer = [&](int32_t i) {
    const uint32_t rank = rank_at(i);
    if (rank == MergeTable::kNone) return;
    heap.push_back({rank, i});
    std::push_heap(heap.begin(), heap.end(), later);
  };
  for (int32_t i = 0; i < count; ++i) offer(i);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Workspace::Candidate best = heap.back();
    heap.pop_back();
    // One of the two has been merged since.
    if (rank_at(best.at) != best.rank) continue;
    const int32_t right = next[best.at];
    symbols[best.at] = results_[best.rank];
    symbols[right] = -1;
    next[best.at] = next[right];
    if (next[right] >= 0) previous[next[right]] = best.at;
    offer(best.at);
    if (previous[best.at] >= 0) offer(previous[best.at]);
  }
  work.word_ids.clear();
  for (int32_t i = 0; i >= 0; i = next[i]) work.word_ids.push_back(symbols[i]);
}

}  // namespace espalier::text
