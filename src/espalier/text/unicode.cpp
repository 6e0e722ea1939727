// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/unicode.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>
#include <unicode/unistr.h>

#include <array>
#include <memory>

#include "espalier/base/error.h"

namespace espalier::text {
namespace {

void check(UErrorCode status, const char* doing) {
  ESPALIER_CHECK(U_SUCCESS(status), ErrorKind::internal, "unicode", "{}: ICU reports {}", doing,
                 u_errorName(status));
}

/// Whether Unicode `major`.0 had this character.
bool existed(char32_t c, int major) {
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(c), age);
  return age[0] != 0 && (age[0] < major || (age[0] == major && age[1] == 0));
}

constexpr int kBertVersion = 8;
constexpr int kNormalizationVersion = 9;

uint32_t category(char32_t c) { return U_GET_GC_MASK(static_cast<UChar32>(c)); }

/// NFC and NFD restricted to the characters of Unicode 9. Immutable once made.
struct Normalizers {
  Normalizers() {
    UErrorCode status = U_ZERO_ERROR;
    characters = std::make_unique<icu::UnicodeSet>(
        icu::UnicodeString::fromUTF8(fmt::format("[:Age={}.0:]", kNormalizationVersion)), status);
    check(status, "the characters of a version");
    characters->freeze();
    const icu::Normalizer2* all_nfc = icu::Normalizer2::getNFCInstance(status);
    const icu::Normalizer2* all_nfd = icu::Normalizer2::getNFDInstance(status);
    check(status, "normalization data");
    nfc = std::make_unique<icu::FilteredNormalizer2>(*all_nfc, *characters);
    nfd = std::make_unique<icu::FilteredNormalizer2>(*all_nfd, *characters);
  }
  std::unique_ptr<icu::UnicodeSet> characters;
  std::unique_ptr<icu::FilteredNormalizer2> nfc, nfd;
};

const Normalizers& normalizers() {
  static const Normalizers made;
  return made;
}

void normalize(const icu::Normalizer2& form, std::string_view text, std::string& out) {
  constexpr size_t kLimit = size_t{1} << 30;
  ESPALIER_CHECK(text.size() < kLimit, ErrorKind::data, "unicode",
                 "a text of {} bytes is too long to normalize; the limit is {}", text.size(),
                 kLimit);
  UErrorCode status = U_ZERO_ERROR;
  icu::StringByteSink<std::string> sink(&out);
  form.normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink,
                     nullptr, status);
  check(status, "normalizing");
}

}  // namespace

bool is_letter(char32_t c) { return (category(c) & U_GC_L_MASK) != 0; }
bool is_number(char32_t c) { return (category(c) & U_GC_N_MASK) != 0; }
bool is_white_space(char32_t c) { return u_isUWhiteSpace(static_cast<UChar32>(c)) != 0; }

bool is_word(char32_t c) {
  const auto point = static_cast<UChar32>(c);
  return u_hasBinaryProperty(point, UCHAR_ALPHABETIC) != 0 ||
         (category(c) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0 ||
         u_hasBinaryProperty(point, UCHAR_JOIN_CONTROL) != 0;
}

bool is_bert_control(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  return (category(c) & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK)) != 0 &&
         existed(c, kBertVersion);
}

bool is_bert_punctuation(char32_t c) {
  if (c < 0x80) return c > 0x20 && c < 0x7F && u_isalnum(static_cast<UChar32>(c)) == 0;
  // Punctuation in Unicode 8, something else since.
  if (c == 0x166D || c == 0x111C9) return true;
  return (category(c) & U_GC_P_MASK) != 0 && existed(c, kBertVersion);
}

bool is_bert_accent(char32_t c) {
  // Other categories in Unicode 8: Mc since then, and three that became Mn after it.
  if (c == 0x1734) return true;
  if (c == 0x1885 || c == 0x1886 || c == 0xA9BD || c == 0x111C9) return false;
  return (category(c) & U_GC_MN_MASK) != 0 && existed(c, kBertVersion);
}

bool is_bert_chinese(char32_t c) {
  struct Range {
    char32_t first, last;
  };
  // The gap before U+2B920 is in the definition.
  static constexpr std::array<Range, 8> kRanges{{{0x4E00, 0x9FFF},
                                                 {0x3400, 0x4DBF},
                                                 {0x20000, 0x2A6DF},
                                                 {0x2A700, 0x2B73F},
                                                 {0x2B740, 0x2B81F},
                                                 {0x2B920, 0x2CEAF},
                                                 {0xF900, 0xFAFF},
                                                 {0x2F800, 0x2FA1F}}};
  for (const Range& range : kRanges) {
    if (c >= range.first && c <= range.last) return true;
  }
  return false;
}

void append_lower(char32_t c, std::u32string& out) {
  if (c == 0x130) {  // the only unconditional lower case of two code points
    out += U"i\u0307";
    return;
  }
  out.push_back(static_cast<char32_t>(u_tolower(static_cast<UChar32>(c))));
}

int combining_class(char32_t c) {
  const int value = u_getCombiningClass(static_cast<UChar32>(c));
  return value != 0 && existed(c, kNormalizationVersion) ? value : 0;
}

void append_decomposed(char32_t c, std::u32string& out) {
  icu::UnicodeString text;
  if (!existed(c, kNormalizationVersion) ||
      !normalizers().nfd->getDecomposition(static_cast<UChar32>(c), text)) {
    out.push_back(c);
    return;
  }
  for (int32_t i = 0; i < text.length();) {
    const UChar32 part = text.char32At(i);
    out.push_back(static_cast<char32_t>(part));
    i += U16_LENGTH(part);
  }
}

bool may_change_in_nfc(char32_t c) {
  const auto point = static_cast<UChar32>(c);
  if (c < 0x300 || !existed(c, kNormalizationVersion)) return false;
  return u_getCombiningClass(point) != 0 ||
         u_getIntPropertyValue(point, UCHAR_NFC_QUICK_CHECK) != UNORM_YES;
}

void append_nfc(std::string_view text, std::string& out) {
  normalize(*normalizers().nfc, text, out);
}
void append_nfd(std::string_view text, std::string& out) {
  normalize(*normalizers().nfd, text, out);
}

}  // namespace espalier::text
