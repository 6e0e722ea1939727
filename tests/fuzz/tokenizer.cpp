// SPDX-License-Identifier: Apache-2.0
// A tokenizer file and, behind its first zero byte, a text.
#include "espalier/text/tokenizer_file.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace espalier;
  const std::string_view input = fuzz::as_text(data, size);
  const size_t end = std::min(input.find('\0'), input.size());
  const std::string_view file = input.substr(0, end);
  const std::string_view words = input.substr(std::min(end + 1, input.size()));
  fuzz::refuse_or_read([&] {
    const bool json = file.starts_with('{') || file.starts_with('[');
    const text::Tokenizer tokenizer(json ? text::parse_tokenizer_json(file, "input")
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
