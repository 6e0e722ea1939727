// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/prompt_template.h"

#include <toml++/toml.h>

#include <array>
#include <utility>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::extract {
namespace {

using Values = std::vector<std::pair<std::string_view, std::string_view>>;

/// `text` with each {name} of `values` replaced; what is put in is not searched again.
std::string fill(std::string_view text, const Values& values) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    bool found = false;
    if (text[at] == '{') {
      for (const auto& [name, value] : values) {
        if (text.substr(at + 1, name.size()) == name && at + 1 + name.size() < text.size() &&
            text[at + 1 + name.size()] == '}') {
          result += value;
          at += name.size() + 2;
          found = true;
          break;
        }
      }
    }
    if (!found) result += text[at++];
  }
  return result;
}

struct Key {
  const char* name;
  std::string PromptTemplate::*text;
  bool required;
  std::vector<const char*> needs;
};

const std::vector<Key>& keys() {
  static const std::vector<Key> rows{
      {"system", &PromptTemplate::system, true, {}},
      {"user", &PromptTemplate::user, true, {}},
      {"example", &PromptTemplate::example, true, {"{input}", "{output}"}},
      {"test", &PromptTemplate::test, true, {"{input}"}},
      {"assistant", &PromptTemplate::assistant, true, {}},
      {"turn", &PromptTemplate::turn, false, {"{role}", "{text}"}},
      {"end", &PromptTemplate::end, false, {}},
  };
  return rows;
}

// Two lengths of the same request: with everything explained, and next to nothing.
constexpr std::string_view kLong = R"toml(
system = """
You solve puzzles about grids of coloured cells. A cell's colour is a digit from 0 to 9; 0 is usually the background.
Each puzzle shows pairs of an input grid and the output grid that belongs to it. One rule turns every input into its output.
Find that rule by comparing shapes, positions, counts, symmetry and colours across all pairs.
Then apply it to the input of the test and answer with the output grid alone, written as the examples are.
The output may have another size than the input.
"""
user = "The following pairs of grids all follow one rule. Study them, then complete the test case.\n\n"
example = "## Example {number}\n\n### Input\n\n{input}\n\n### Output\n\n{output}\n\n"
test = "## Test case\n\n### Input\n\n{input}\n"
assistant = "### Output\n\n```grid"
)toml";
constexpr std::string_view kShort = R"toml(
system = "You answer with a grid of digits."
user = "Continue the pattern of these grids.\n\n"
example = "Input {number}\n{input}\n\nOutput {number}\n{output}\n\n"
test = "Input\n{input}\n"
assistant = "Output\n```grid"
)toml";
constexpr std::array<std::pair<const char*, std::string_view>, 2> kBuiltin{{
    {"output-from-examples-v0", kLong},
    {"output-from-examples-v1", kShort},
}};

}  // namespace

std::string PromptTemplate::render(const ArcTask& task, size_t index,
                                   const GridEncoder& encoder) const {
  ESPALIER_CHECK(index < task.test.size(), ErrorKind::internal, "prompt",
                 "task {} has {} tests, not one of index {}", task.id, task.test.size(), index);
  std::string text = user;
  for (size_t i = 0; i < task.train.size(); ++i) {
    const ArcPair& pair = task.train[i];
    text += fill(example, {{"number", std::to_string(i + 1)},
                           {"input", encoder.encode(pair.input)},
                           {"output", encoder.encode(pair.output.value())}});
  }
  text += fill(test, {{"input", encoder.encode(task.test[index].input)}});
  if (text.ends_with('\n')) text.pop_back();
  std::string prompt;
  for (const auto& [role, said] : {std::pair<std::string_view, std::string_view>{"system", system},
                                   {"user", text},
                                   {"assistant", assistant}}) {
    prompt += fill(turn, {{"role", role}, {"text", said}});
  }
  return prompt.substr(0, prompt.rfind(end));
}

PromptTemplate parse_prompt_template(std::string_view text, std::string_view label) {
  toml::table table;
  try {
    table = toml::parse(text, std::string(label));
  } catch (const toml::parse_error& error) {
    fail(ErrorKind::user, "prompt", "{} line {} is not TOML: {}", label, error.source().begin.line,
         error.description());
  }
  PromptTemplate result;
  std::vector<std::string> wrong, names;
  for (const Key& key : keys()) {
    names.emplace_back(key.name);
    const auto value = table[key.name].value_exact<std::string>();
    if (value) {
      result.*key.text = *value;
    } else if (table.contains(key.name)) {
      wrong.push_back(fmt::format("{} is no text", key.name));
      continue;
    } else if (key.required) {
      wrong.push_back(fmt::format("{} is missing", key.name));
      continue;
    }
    for (const char* name : key.needs) {
      if ((result.*key.text).find(name) == std::string::npos) {
        wrong.push_back(fmt::format("{} has no {}", key.name, name));
      }
    }
  }
  for (const auto& [name, value] : table) {
    if (std::find(names.begin(), names.end(), name.str()) == names.end()) {
      wrong.push_back(fmt::format("{} is unknown{}", name.str(), nearest_hint(name.str(), names)));
    }
  }
  ESPALIER_CHECK(wrong.empty(), ErrorKind::user, "prompt", "{} is no prompt template: {}", label,
                 fmt::join(wrong, "; "));
  ESPALIER_CHECK(!result.end.empty() && result.turn.find(result.end) != std::string::npos,
                 ErrorKind::user, "prompt", "{}: turn does not contain end = \"{}\"", label,
                 result.end);
  return result;
}

PromptTemplate builtin_prompt_template(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& [known, text] : kBuiltin) {
    if (name == known) return parse_prompt_template(text, known);
    names.emplace_back(known);
  }
  fail(ErrorKind::user, "prompt", "there is no prompt version \"{}\"{}", name,
       nearest_hint(name, names));
}

}  // namespace espalier::extract
