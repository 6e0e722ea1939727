// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/extract/prompt_template.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

using test::error_of;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

ArcTask two_by_two() {
  return parse_arc_task(R"({"train": [{"input": [[0,1],[2,3]], "output": [[1,0],[3,2]]}],
                            "test": [{"input": [[4,5],[6,7]]}]})",
                        "task", "t");
}

// How the original program's first version ends for this task.
constexpr std::string_view kTail =
    "## Example 1\n\n### Input\n\n```grid shape: 2x2\n1 01\n2 23\n```\n\n"
    "### Output\n\n```grid shape: 2x2\n1 10\n2 32\n```\n\n"
    "## Test case\n\n### Input\n\n```grid shape: 2x2\n1 45\n2 67\n```<|im_end|>\n"
    "<|im_start|>assistant\n### Output\n\n```grid";

TEST(PromptTemplate, RendersTheTailOfTheOriginal) {
  const auto encoder = parse_grid_encoder(kDefaultGridEncoder);
  const std::string prompt =
      builtin_prompt_template("output-from-examples-v0").render(two_by_two(), 0, *encoder);
  EXPECT_THAT(prompt, StartsWith("<|im_start|>system\nYou solve puzzles"));
  EXPECT_THAT(prompt, HasSubstr("<|im_end|>\n<|im_start|>user\n"));
  EXPECT_THAT(prompt, EndsWith(std::string(kTail)));
}

TEST(PromptTemplate, ShortVersionIsShorter) {
  const auto encoder = parse_grid_encoder(kDefaultGridEncoder);
  const auto length = [&](std::string_view name) {
    return builtin_prompt_template(name).render(two_by_two(), 0, *encoder).size();
  };
  EXPECT_LT(2 * length("output-from-examples-v1"), length("output-from-examples-v0"));
  EXPECT_THAT(error_of([] { builtin_prompt_template("output-from-examples-v2"); }),
              HasSubstr("there is no prompt version \"output-from-examples-v2\"; nearest: "
                        "output-from-examples-v0"));
}

constexpr std::string_view kOwn = R"toml(
system = "S {input}"
user = "U\n"
example = "{number}:{input}>{output} {other}\n"
test = "T {input}"
assistant = "A"
turn = "[{role}]{text}END\n"
end = "END"
)toml";

TEST(PromptTemplate, AFileOfTheUsersSaysAllTexts) {
  const auto encoder = parse_grid_encoder("MinimalGridEncoder()");
  const std::string prompt =
      parse_prompt_template(kOwn, "own.toml").render(two_by_two(), 0, *encoder);
  EXPECT_EQ(prompt,
            "[system]S {input}END\n[user]U\n1:01\n23>10\n32 {other}\nT 45\n67END\n[assistant]A");
}

TEST(PromptTemplate, WrongFilesAreErrorsThatNameAllOfIt) {
  EXPECT_THAT(error_of([] { parse_prompt_template("system = ", "own.toml"); }),
              HasSubstr("own.toml line 1 is not TOML"));
  EXPECT_THAT(
      error_of([] {
        parse_prompt_template("system = 3\nuser = \"\"\nexample = \"{input}\"\ntests = \"\"",
                              "own.toml");
      }),
      AllOf(HasSubstr("own.toml is no prompt template: system is no text"),
            HasSubstr("example has no {output}"), HasSubstr("test is missing"),
            HasSubstr("assistant is missing"), HasSubstr("tests is unknown; nearest: test")));
  std::string other(kOwn);
  other.replace(other.find("end = \"END\""), 11, "end = \"FIN\"");
  EXPECT_THAT(error_of([&] { parse_prompt_template(other, "own.toml"); }),
              HasSubstr("turn does not contain end = \"FIN\""));
}

}  // namespace
}  // namespace espalier::extract
