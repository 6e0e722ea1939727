// SPDX-License-Identifier: Apache-2.0
// The tokenizer of models that read bytes: each byte of a text in UTF-8 is its own id.
#pragma once

#include "espalier/text/tokenizer.h"

namespace espalier::text {

/// Ids 0 to 255. As in every tokenizer, invalid UTF-8 is read as U+FFFD.
Tokenizer byte_tokenizer();

}  // namespace espalier::text
