// SPDX-License-Identifier: Apache-2.0
#include "espalier/ir/text_reader.h"

#include <algorithm>
#include <charconv>

namespace espalier::ir {
namespace {

constexpr size_t kMaxIntegers = 64;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_inner(char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '.'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

void TextReader::fail_at(size_t position, std::string_view what) const {
  const std::string_view before = text_.substr(0, position);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t line_start = before.rfind('\n') == before.npos ? 0 : before.rfind('\n') + 1;
  fail(ErrorKind::data, "parse", "{}:{}: {}", line, position - line_start + 1, what);
}

void TextReader::skip_space() {
  while (!at_end()) {
    if (text_[at_] == '#') {
      at_ = std::min(text_.find('\n', at_), text_.size());
    } else if (is_space(text_[at_])) {
      ++at_;
    } else {
      return;
    }
  }
}

bool TextReader::accept(std::string_view mark) {
  if (text_.substr(at_, mark.size()) != mark) return false;
  at_ += mark.size();
  skip_space();
  return true;
}

void TextReader::expect(std::string_view mark) {
  if (accept(mark)) return;
  const std::string found = at_end() ? "the end" : fmt::format("\"{}\"", text_.substr(at_, 1));
  fail_here(fmt::format("expected \"{}\", found {}", mark, found));
}

std::string_view TextReader::peek_word() const {
  size_t end = at_;
  if (!at_end() && is_letter(text_[end])) {
    while (end < text_.size() && is_inner(text_[end])) ++end;
  }
  return text_.substr(at_, end - at_);
}

bool TextReader::accept_word(std::string_view word) {
  if (peek_word() != word) return false;
  at_ += word.size();
  skip_space();
  return true;
}

void TextReader::expect_word(std::string_view word) {
  if (accept_word(word)) return;
  const std::string found = at_end()              ? "the end"
                            : peek_word().empty() ? fmt::format("\"{}\"", text_.substr(at_, 1))
                                                  : fmt::format("\"{}\"", peek_word());
  fail_here(fmt::format("expected \"{}\", found {}", word, found));
}

std::string TextReader::word() {
  std::string found(peek_word());
  if (found.empty()) fail_here("expected a word");
  at_ += found.size();
  skip_space();
  return found;
}

std::string TextReader::quoted() {
  const size_t start = at_;
  if (!peek('"')) fail_here("expected a text in double quotes");
  std::string out;
  for (++at_; !peek('"'); ++at_) {
    if (at_end() || text_[at_] == '\n') fail_at(start, "the text has no closing quote");
    if (text_[at_] != '\\') {
      out += text_[at_];
      continue;
    }
    ++at_;
    if (peek('"') || peek('\\')) {
      out += text_[at_];
    } else if (peek('x') && at_ + 2 < text_.size() && hex_digit(text_[at_ + 1]) >= 0 &&
               hex_digit(text_[at_ + 2]) >= 0) {
      out += static_cast<char>(hex_digit(text_[at_ + 1]) * 16 + hex_digit(text_[at_ + 2]));
      at_ += 2;
    } else {
      fail_here("an escape is \\\", \\\\ or \\xHH");
    }
  }
  ++at_;
  skip_space();
  return out;
}

std::string TextReader::name() { return peek('"') ? quoted() : word(); }

template <typename Number>
Number TextReader::number(std::string_view what) {
  Number value{};
  const char* const begin = text_.data() + at_;
  const char* const end = text_.data() + text_.size();
  const auto [stop, status] = std::from_chars(begin, end, value);
  if (status == std::errc::result_out_of_range) fail_here(fmt::format("{} out of range", what));
  if (status != std::errc()) fail_here(fmt::format("expected {}", what));
  at_ += static_cast<size_t>(stop - begin);
  return value;
}

int64_t TextReader::integer() {
  const auto value = number<int64_t>("an integer");
  skip_space();
  return value;
}

double TextReader::real() {
  const auto value = number<double>("a number");
  skip_space();
  return value;
}

std::vector<int64_t> TextReader::integers() {
  std::vector<int64_t> values;
  expect("[");
  if (accept("]")) return values;
  do {
    if (values.size() == kMaxIntegers) fail_here("more than 64 integers in a list");
    values.push_back(integer());
  } while (accept(","));
  expect("]");
  return values;
}

}  // namespace espalier::ir
