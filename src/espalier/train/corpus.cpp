// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/corpus.h"

// The build names the packed file; the assembler copies it as it is.
asm(R"(
.section .rodata
.balign 64
espalier_corpus_begin:
.incbin ")" ESPALIER_CORPUS R"("
espalier_corpus_end:
.byte 0
.previous
)");

extern "C" {
extern const uint8_t espalier_corpus_begin[];
extern const uint8_t espalier_corpus_end[];
}

namespace espalier::train {

std::span<const uint8_t> builtin_corpus() {
  return {espalier_corpus_begin, static_cast<size_t>(espalier_corpus_end - espalier_corpus_begin)};
}

}  // namespace espalier::train
