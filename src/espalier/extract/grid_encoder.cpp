// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/grid_encoder.h"

#include <array>
#include <cctype>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::extract {
namespace {

using Inner = std::unique_ptr<GridEncoder>;

/// Each cell repeated `repeat` times, cells joined by `separator`, rows by line breaks.
class CellsEncoder final : public GridEncoder {
 public:
  CellsEncoder(int64_t repeat, std::string separator)
      : repeat_(repeat), separator_(std::move(separator)) {}
  std::string encode(const Grid& grid) const override {
    std::string text;
    for (int64_t row = 0; row < grid.height; ++row) {
      if (row > 0) text += '\n';
      for (int64_t column = 0; column < grid.width; ++column) {
        if (column > 0) text += separator_;
        text.append(static_cast<size_t>(repeat_), static_cast<char>('0' + grid.at(row, column)));
      }
    }
    return text;
  }

 private:
  int64_t repeat_;
  std::string separator_;
};

class RowNumberEncoder final : public GridEncoder {
 public:
  explicit RowNumberEncoder(Inner inner) : inner_(std::move(inner)) {}
  std::string encode(const Grid& grid) const override {
    std::string text = "1 ";
    int64_t row = 1;
    for (char c : inner_->encode(grid)) {
      text += c;
      if (c == '\n') text += fmt::format("{} ", ++row);
    }
    return text;
  }

 private:
  Inner inner_;
};

class ReplaceNumberEncoder final : public GridEncoder {
 public:
  explicit ReplaceNumberEncoder(Inner inner) : inner_(std::move(inner)) {}
  std::string encode(const Grid& grid) const override {
    constexpr std::array<std::string_view, 10> kLetters{"ñ", "ò", "÷", "û", "ą",
                                                        "ć", "ď", "ę", "Ě", "Ğ"};
    std::string text;
    for (char c : inner_->encode(grid)) {
      if (c >= '0' && c <= '9') {
        text += kLetters[static_cast<size_t>(c - '0')];
      } else {
        text += c;
      }
    }
    return text;
  }

 private:
  Inner inner_;
};

class CodeBlockEncoder final : public GridEncoder {
 public:
  CodeBlockEncoder(Inner inner, bool shape) : inner_(std::move(inner)), shape_(shape) {}
  std::string encode(const Grid& grid) const override {
    const std::string shape =
        shape_ ? fmt::format(" shape: {}x{}", grid.height, grid.width) : std::string();
    return fmt::format("```grid{}\n{}\n```", shape, inner_->encode(grid));
  }

 private:
  Inner inner_;
  bool shape_;
};

enum class Argument { none, encoder, text, number };
struct Row {
  const char* name;
  Argument argument;
  const char* keyword;  // of a text or number
};
constexpr std::array<Row, 7> kEncoders{{
    {"MinimalGridEncoder", Argument::none, ""},
    {"GridWithSeparationEncoder", Argument::text, "split_symbol"},
    {"RepeatNumberEncoder", Argument::number, "n"},
    {"RowNumberEncoder", Argument::encoder, ""},
    {"ReplaceNumberEncoder", Argument::encoder, ""},
    {"GridCodeBlockEncoder", Argument::encoder, ""},
    {"GridShapeEncoder", Argument::encoder, ""},
}};

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Inner parse() {
    Inner encoder = parse_encoder();
    skip_spaces();
    if (at_ != text_.size()) wrong("nothing more");
    return encoder;
  }

 private:
  [[noreturn]] void wrong(std::string_view wanted) const {
    fail(ErrorKind::user, "grid encoder", "\"{}\" at character {}: {} must stand here", text_,
         at_ + 1, wanted);
  }
  void skip_spaces() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool take(char c) {
    skip_spaces();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void need(char c) {
    if (!take(c)) wrong(fmt::format("'{}'", c));
  }
  std::string word() {
    skip_spaces();
    const size_t begin = at_;
    while (at_ < text_.size() &&
           (std::isalnum(static_cast<unsigned char>(text_[at_])) != 0 || text_[at_] == '_')) {
      ++at_;
    }
    return std::string(text_.substr(begin, at_ - begin));
  }

  const Row& row() {
    const size_t begin = at_;
    const std::string name = word();
    std::vector<std::string> names;
    for (const Row& row : kEncoders) {
      if (name == row.name) return row;
      names.emplace_back(row.name);
    }
    fail(ErrorKind::user, "grid encoder", "\"{}\" at character {}: there is no encoder \"{}\"{}",
         text_, begin + 1, name, nearest_hint(name, names));
  }

  /// "keyword=" before an argument may be there or not.
  void skip_keyword(const char* keyword) {
    const size_t begin = at_;
    if (word() != keyword || !take('=')) at_ = begin;
  }

  std::string quoted() {
    skip_spaces();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') wrong("a quoted text");
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) wrong("a text with a closing quote");
    std::string text(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return text;
  }

  int64_t number() {
    const std::string digits = word();
    const bool fits = !digits.empty() && digits.size() <= 2 &&
                      digits.find_first_not_of("0123456789") == std::string::npos;
    if (!fits || digits == "0" || digits == "00") wrong("a number from 1 to 99");
    return std::stoll(digits);
  }

  Inner parse_encoder() {
    const Row& found = row();
    need('(');
    Inner made = make(found);
    need(')');
    return made;
  }

  Inner make(const Row& row) {
    const std::string_view name = row.name;
    switch (row.argument) {
      case Argument::none:
        return std::make_unique<CellsEncoder>(1, "");
      case Argument::text:
        skip_keyword(row.keyword);
        return std::make_unique<CellsEncoder>(1, quoted());
      case Argument::number:
        skip_keyword(row.keyword);
        skip_spaces();
        return std::make_unique<CellsEncoder>(
            at_ < text_.size() && text_[at_] == ')' ? kRepeat : number(), "");
      case Argument::encoder:
        break;
    }
    Inner inner = parse_encoder();
    if (name == "RowNumberEncoder") return std::make_unique<RowNumberEncoder>(std::move(inner));
    if (name == "ReplaceNumberEncoder") {
      return std::make_unique<ReplaceNumberEncoder>(std::move(inner));
    }
    return std::make_unique<CodeBlockEncoder>(std::move(inner), name == "GridShapeEncoder");
  }

  static constexpr int64_t kRepeat = 3;
  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::unique_ptr<GridEncoder> parse_grid_encoder(std::string_view text) {
  return Parser(text).parse();
}

}  // namespace espalier::extract
