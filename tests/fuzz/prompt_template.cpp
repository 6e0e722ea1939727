// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/prompt_template.h"

#include "espalier/extract/grid_encoder.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace espalier;
  using namespace espalier::extract;
  static const auto encoder = parse_grid_encoder("MinimalGridEncoder()");
  static const Grid grid{.height = 1, .width = 2, .cells = {7, 3}};
  static const ArcTask task{.id = "t",
                            .train = {{.input = grid, .output = grid}},
                            .test = {{.input = grid, .output = {}}}};
  fuzz::refuse_or_read(
      [&] {
        const PromptTemplate prompts = parse_prompt_template(fuzz::as_text(data, size), "input");
        const std::string prompt = prompts.render(task, 0, *encoder);
        fuzz::require(prompt == prompts.render(task, 0, *encoder), "rendering is stable");
        fuzz::require(prompts.example.find("{output}") != std::string::npos &&
                          prompts.test.find("{input}") != std::string::npos,
                      "grids have their places");
      },
      ErrorKind::user);
  return 0;
}
