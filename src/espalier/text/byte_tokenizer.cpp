// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/byte_tokenizer.h"

#include <utility>

#include "espalier/text/byte_bpe.h"

namespace espalier::text {
namespace {

class Bytes final : public Model {
 public:
  void encode(std::string_view text, Workspace& work, IdWriter& out) const override {
    encode_normalized(text, work, out);
  }
  void normalize(std::string_view text, std::string& out) const override { out += text; }
  void encode_normalized(std::string_view text, Workspace&, IdWriter& out) const override {
    for (const char byte : text) out.put(static_cast<unsigned char>(byte));
  }
};

}  // namespace

Tokenizer byte_tokenizer() {
  TokenizerParts parts;
  parts.model = std::make_shared<Bytes>();
  int64_t id = 0;
  for (const std::string& character : byte_characters()) {
    parts.tokens.add(character, id++, "bytes");
  }
  parts.decoder = {.kind = DecoderKind::byte_level, .name = "ByteLevel"};
  parts.kind = "bytes";
  return Tokenizer(std::move(parts));
}

}  // namespace espalier::text
