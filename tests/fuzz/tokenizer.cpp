// SPDX-License-Identifier: Apache-2.0
// A tokenizer file and a text, or vocab.json, merges.txt and a text, with zero bytes between them.
#include "espalier/text/tokenizer_file.h"
#include "tests/fuzz/target.h"

namespace {

/// What stands before the first zero byte, and behind it.
std::pair<std::string_view, std::string_view> cut(std::string_view input) {
  const size_t end = std::min(input.find('\0'), input.size());
  return {input.substr(0, end), input.substr(std::min(end + 1, input.size()))};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace espalier;
  const std::string_view input = fuzz::as_text(data, size);
  const auto [file, rest] = cut(input);
  const auto [merges, words_behind] = cut(rest);
  const bool two_files = rest.find('\0') != std::string_view::npos;
  const std::string_view words = two_files ? words_behind : rest;
  fuzz::refuse_or_read([&] {
    const bool json = file.starts_with('{') || file.starts_with('[');
    const text::Tokenizer tokenizer(two_files
                                        ? text::parse_vocab_and_merges(file, merges, "", "input")
                                    : json ? text::parse_tokenizer_json(file, "input")
                                           : text::parse_vocab_txt(file, "", "input"));
    static text::Workspace work;
    std::vector<int32_t> ids, again;
    tokenizer.encode(words, {}, work, ids);
    tokenizer.encode(words, {}, work, again);
    fuzz::require(ids == again, "the cache changes nothing");
    for (const int32_t id : ids) fuzz::require(id < tokenizer.vocab_size(), "ids are tokens");
    tokenizer.decode(ids, true);
  });
  return 0;
}
