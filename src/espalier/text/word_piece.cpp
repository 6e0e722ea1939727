// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/word_piece.h"

#include <cstring>

#include "espalier/text/utf8.h"

namespace espalier::text {

WordPiece::WordPiece(Options options, const std::vector<std::string_view>& tokens)
    : options_(std::move(options)), normalizer_(options_.normalizer) {
  for (size_t id = 0; id < tokens.size(); ++id) {
    const std::string_view token = tokens[id];
    if (token.empty()) continue;
    first_.add(token, static_cast<int32_t>(id));
    if (token.size() > options_.continuation.size() && token.starts_with(options_.continuation)) {
      continuing_.add(token.substr(options_.continuation.size()), static_cast<int32_t>(id));
    }
  }
}

/// Appends the ids of a word; one unknown id when a part is no piece.
void WordPiece::pieces_of(std::string_view word, std::vector<int32_t>& ids) const {
  ids.clear();
  const ByteTrie* trie = &first_;
  while (!word.empty()) {
    const ByteTrie::Match match = trie->longest(word);
    if (match.value < 0) {
      ids.assign(1, options_.unknown);
      return;
    }
    ids.push_back(match.value);
    word.remove_prefix(match.size);
    trie = &continuing_;
  }
}

inline void WordPiece::put_word(std::string_view word, int64_t chars, Workspace& work,
                                IdWriter& out) const {
  if (chars > options_.max_chars) {
    out.put(options_.unknown);
    return;
  }
  if (word.size() > WordCache::kMaxBytes) {
    pieces_of(word, work.word_ids);
    out.put(work.word_ids);
    return;
  }
  const WordCache::Key key = WordCache::key_of(word);
  if (const WordCache::Entry* known = work.cache.find(key)) {
    out.put(*known);
    return;
  }
  pieces_of(word, work.word_ids);
  out.put(work.word_ids);
  work.cache.put(key, work.word_ids);
}

/// Collects the characters of one word in a buffer that is as large as a known word can be; of
/// longer words only the length is kept.
class WordPiece::WordBuilder {
 public:
  WordBuilder(const WordPiece& model, Workspace& work, IdWriter& out)
      : model_(model), work_(work), out_(out), limit_(model.options_.max_chars) {
    // A character brings at most kMaxPart bytes, and at least one character.
    const size_t need = static_cast<size_t>(limit_) * 4 + 2 * kMaxPart;
    if (work_.word.size() < need) work_.word.resize(need);
    buffer_ = work_.word.data();
  }

  void add_byte(char byte) {
    if (chars_++ < limit_) buffer_[size_++] = byte;
  }
  /// A part of `chars` characters.
  void add(std::string_view bytes, int64_t chars) {
    if (chars_ + chars <= limit_) {
      std::memcpy(buffer_ + size_, bytes.data(), bytes.size());
      size_ += bytes.size();
    }
    chars_ += chars;
  }
  void end_word() {
    if (chars_ == 0) return;
    model_.put_word({buffer_, size_}, chars_, work_, out_);
    chars_ = 0;
    size_ = 0;
  }
  void put_alone(std::string_view bytes) {
    end_word();
    model_.put_word(bytes, 1, work_, out_);
  }

 private:
  static constexpr size_t kMaxPart = 64;
  const WordPiece& model_;
  Workspace& work_;
  IdWriter& out_;
  int64_t limit_;
  char* buffer_;
  int64_t chars_ = 0;
  size_t size_ = 0;
};

void WordPiece::encode(std::string_view text, Workspace& work, IdWriter& out) const {
  // Whether a character needs its neighbours is known before the first word is written.
  bool alone = true;
  const char* end = text.data() + text.size();
  for (const char* at = text.data(); at < end && alone;) {
    // Below U+0300 nothing is reordered: lead bytes below 0xCC.
    if (static_cast<uint8_t>(*at) < 0xCC) {
      ++at;
    } else {
      alone = normalizer_.action(next_code_point(at)).kind != CharacterAction::sequence;
    }
  }
  if (!alone) {
    work.normalized.clear();
    normalizer_.append_normalized(text, work.normalized);
    encode_normalized(work.normalized, work, out);
    return;
  }

  WordBuilder words(*this, work, out);
  for (const char* at = text.data(); at < end;) {
    const char* start = at;
    CharacterAction action;
    if (static_cast<uint8_t>(*at) < 0x80) {
      action = normalizer_.ascii_action(static_cast<uint8_t>(*at++));
      if (action.kind == CharacterAction::keep) {
        words.add_byte(*start);
        continue;
      }
    } else {
      action = normalizer_.action(next_code_point(at));
    }
    const std::string_view bytes =
        normalizer_.bytes(action, {start, static_cast<size_t>(at - start)});
    switch (action.kind) {
      case CharacterAction::keep:
        words.add(bytes, 1);
        break;
      case CharacterAction::map:
        words.add(bytes, bytes.size() == 1 ? 1 : count_code_points(bytes));
        break;
      case CharacterAction::alone:
        words.put_alone(bytes);
        break;
      case CharacterAction::space:
        words.end_word();
        break;
      case CharacterAction::drop:
      case CharacterAction::sequence:
        break;
    }
  }
  words.end_word();
}

void WordPiece::normalize(std::string_view text, std::string& out) const {
  normalizer_.append_normalized(text, out);
}

void WordPiece::encode_normalized(std::string_view text, Workspace& work, IdWriter& out) const {
  WordBuilder words(*this, work, out);
  const char* end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    const char* start = at;
    const char32_t c = next_code_point(at);
    const std::string_view bytes(start, static_cast<size_t>(at - start));
    if (is_white_space(c)) {
      words.end_word();
    } else if (is_bert_punctuation(c)) {
      words.put_alone(bytes);
    } else {
      words.add(bytes, 1);
    }
  }
  words.end_word();
}

}  // namespace espalier::text
