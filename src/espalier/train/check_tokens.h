// SPDX-License-Identifier: Apache-2.0
// What the parity checks of token models share: one padded batch, seen in every step, and AdamW.
#pragma once

#include <cstdint>
#include <vector>

#include "espalier/train/check_case.h"

namespace espalier::train {

/// input_ids, attention_mask and labels of expected.safetensors, [batch, seq] each.
struct TokenBatch {
  int64_t batch = 0, seq = 0;
  std::vector<int64_t> ids;
  std::vector<uint8_t> mask;  // 1: visible
  std::vector<int64_t> labels;

  Shape shape() const { return {batch, seq}; }
};

/// Throws `data` for other shapes and for ids outside the vocabulary.
TokenBatch read_token_batch(const io::SafetensorsFile& expected, int64_t vocab_size);
/// Batch inputs "input_ids" and "attention_mask".
void set_tokens(Step& step, const TokenBatch& tokens);
inline const std::vector<std::string> kTokenInputs{"input_ids", "attention_mask", "labels"};

/// Clipping and AdamW as the settings say; `unsupported` for another optimizer.
Optimizer check_adamw(const CheckSettings& settings, const AdamOptions& adam);

}  // namespace espalier::train
