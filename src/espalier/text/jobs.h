// SPDX-License-Identifier: Apache-2.0
// What `espalier tokenize` does.
#pragma once

#include <iosfwd>

#include "espalier/text/tokenizer.h"

namespace espalier::text {

struct TokenizeOptions {
  bool no_special = false;
  bool decode = false;
  bool json = false;  // {"ids":[...],"tokens":[...],"replaced":0} or {"text":"..."}
};

/// Reads a JSON string a line (with `decode`, a list of ids) and writes a list of ids (a string)
/// for each. Bytes in a string that are no UTF-8 are replaced, not refused. `data` error with the
/// number of the line for anything else. Empty lines are skipped.
void tokenize_lines(const Tokenizer& tokenizer, const TokenizeOptions& options, std::istream& in,
                    std::ostream& out);

}  // namespace espalier::text
