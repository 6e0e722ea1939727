// SPDX-License-Identifier: Apache-2.0
// The byte LM written from basic ops only: no layer of nn, no composite op. See byte_lm.h.
#pragma once

#include "espalier/models/byte_lm.h"

namespace espalier::models::handcraft {

/// Logits [batch, seq, vocab] of u8 bytes [batch, seq].
Tensor logits(const ByteLm& model, Tensor bytes, const nn::Context& context);

/// Mean over all positions of log(sum(exp(logits))) - logits[byte].
Tensor loss(Tensor logits, Tensor bytes);

}  // namespace espalier::models::handcraft
