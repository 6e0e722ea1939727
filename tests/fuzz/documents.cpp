// SPDX-License-Identifier: Apache-2.0
// Training text, as it is and as JSON lines.
#include "espalier/train/documents.h"

#include "espalier/text/tokenizer_file.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace espalier;
  static const text::Tokenizer tokenizer(
      text::parse_vocab_txt("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\nb\n", "", "vocabulary"));
  for (const auto format : {train::DocumentFormat::text, train::DocumentFormat::jsonl}) {
    fuzz::refuse_or_read([&] {
      const auto documents = train::tokenize_documents({data, size}, format, "input", tokenizer);
      const train::DocumentCounts& counts = documents.counts();
      fuzz::require(documents.size() == counts.documents && counts.documents > 0, "documents");
      fuzz::require(counts.tokens == static_cast<int64_t>(documents.ids().size()), "tokens");
      for (int64_t i = 0; i < documents.size(); ++i) {
        fuzz::require(!documents.document(i).empty(), "no document is empty");
      }
      for (const int32_t id : documents.ids()) {
        fuzz::require(id >= 0 && id < tokenizer.vocab_size(), "ids are tokens");
      }
    });
  }
  return 0;
}
