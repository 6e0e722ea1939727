// SPDX-License-Identifier: Apache-2.0
// Prompts from tasks: small TOML files say the texts.
//
//   system = "..."              the first turn
//   user = "..."                what stands before the examples
//   example = "..."             with {number} (from 1), {input} and {output}
//   test = "..."                with {input}
//   assistant = "..."           how the answer starts
//   turn = "..."                with {role} and {text}; without it ChatML
//   end = "<|im_end|>"          the prompt is cut before its last occurrence
//
// A text in braces that is none of these names stays as it is. One line break at the end of the
// user's turn is dropped, as Jinja does.
#pragma once

#include <string>
#include <string_view>

#include "espalier/extract/arc_task.h"
#include "espalier/extract/grid_encoder.h"

namespace espalier::extract {

struct PromptTemplate {
  std::string system, user, example, test, assistant;
  std::string turn = "<|im_start|>{role}\n{text}<|im_end|>\n";
  std::string end = "<|im_end|>";

  /// The prompt of test `test` of a task.
  std::string render(const ArcTask& task, size_t test, const GridEncoder& encoder) const;
};

/// Reads the text of a template file. Throws `user`, naming all of them, for keys that are missing,
/// unknown or no texts, and for texts without the names they need.
PromptTemplate parse_prompt_template(std::string_view toml, std::string_view label);

/// "output-from-examples-v0" or "-v1"; throws `user` with the nearest name for another.
PromptTemplate builtin_prompt_template(std::string_view name);

}  // namespace espalier::extract
