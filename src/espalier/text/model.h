// SPDX-License-Identifier: Apache-2.0
// What a tokenizer's model does: words of a text to ids, and tokens back to text.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "espalier/text/workspace.h"

namespace espalier::text {

class Model {
 public:
  virtual ~Model() = default;

  /// Appends the ids of `text`, valid UTF-8 between two added tokens, normalizing it first.
  virtual void encode(std::string_view text, Workspace& work, IdWriter& out) const = 0;

  /// The two halves of `encode`, for tokenizers that look for added tokens in normalized text.
  /// `normalize` appends.
  virtual void normalize(std::string_view text, std::string& out) const = 0;
  virtual void encode_normalized(std::string_view text, Workspace& work, IdWriter& out) const = 0;
};

}  // namespace espalier::text
