// SPDX-License-Identifier: Apache-2.0
// Reads the words of a graph's text. Every error is `data` and starts with line:column.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/error.h"

namespace espalier::ir {

class TextReader {
 public:
  explicit TextReader(std::string_view text) : text_(text) { skip_space(); }

  /// Offset of the next word.
  size_t position() const { return at_; }
  bool at_end() const { return at_ == text_.size(); }
  bool peek(char c) const { return !at_end() && text_[at_] == c; }
  /// Takes punctuation if it comes next.
  bool accept(std::string_view mark);
  void expect(std::string_view mark);
  bool accept_word(std::string_view word);
  void expect_word(std::string_view word);

  /// Letters, digits, "_" and ".", not starting with a digit.
  std::string word();
  /// In double quotes, with \" \\ and \xHH.
  std::string quoted();
  /// word or quoted.
  std::string name();
  int64_t integer();
  double real();
  /// "[1,2,3]", at most 64 of them.
  std::vector<int64_t> integers();

  [[noreturn]] void fail_at(size_t position, std::string_view what) const;
  [[noreturn]] void fail_here(std::string_view what) const { fail_at(at_, what); }
  /// Runs `work`; an Error in it becomes one of the text at `position`.
  template <typename Work>
  void guard(size_t position, const Work& work) const {
    try {
      work();
    } catch (const Error& error) {
      fail_at(position, error.what());
    }
  }

 private:
  void skip_space();
  std::string_view peek_word() const;
  template <typename Number>
  Number number(std::string_view what);

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace espalier::ir
