// SPDX-License-Identifier: Apache-2.0
// Text from a byte LM, one byte after the other.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "espalier/train/byte_lm_steps.h"

namespace espalier::train {

struct GenerateOptions {
  int64_t length = 200;      // bytes after the prompt
  double temperature = 1.0;  // 0: always the likeliest byte
  int64_t top_k = 0;         // draw among this many likeliest bytes only; 0: all
  uint64_t seed = 0;
};

/// Index drawn from softmax(logits / temperature) among the top_k largest; `uniform` is in [0, 1).
/// Equal logits rank by index. Throws `data` when a logit is no number.
int64_t sample(std::span<const float> logits, double temperature, int64_t top_k, double uniform);

/// Continues `prompt`. The model sees the last seq_len - 1 bytes. The same seed gives the same
/// text. `on_byte` gets each byte as it is made; a true result ends the text.
std::string generate(Step& logits_step, int64_t seq_len, std::string_view prompt,
                     const GenerateOptions& options, const std::function<bool(char)>& on_byte = {});

}  // namespace espalier::train
