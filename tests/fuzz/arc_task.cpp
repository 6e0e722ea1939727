// SPDX-License-Identifier: Apache-2.0
// One ARC task, through its variants to its prompts.
#include "espalier/extract/arc_task.h"

#include <algorithm>

#include "espalier/extract/augmentation.h"
#include "espalier/extract/grid_encoder.h"
#include "espalier/extract/prompt_template.h"
#include "tests/fuzz/target.h"

namespace {
using namespace espalier;
using namespace espalier::extract;

void require_grid(const Grid& grid) {
  fuzz::require(grid.height > 0 && grid.width > 0, "a grid has cells");
  fuzz::require(static_cast<int64_t>(grid.cells.size()) == grid.height * grid.width,
                "a grid is a rectangle");
  fuzz::require(std::all_of(grid.cells.begin(), grid.cells.end(), [](uint8_t c) { return c < 10; }),
                "cells are colours");
}

void require_task(const ArcTask& task) {
  fuzz::require(!task.id.empty() && !task.test.empty(), "a task has a name and a test");
  for (const ArcPair& pair : task.train) {
    require_grid(pair.input);
    require_grid(pair.output.value());
  }
  for (const ArcPair& pair : task.test) require_grid(pair.input);
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto encoder = parse_grid_encoder(kDefaultGridEncoder);
  static const PromptTemplate prompts = builtin_prompt_template("output-from-examples-v1");
  fuzz::refuse_or_read([&] {
    const ArcTask task = parse_arc_task(fuzz::as_text(data, size), "input", "unnamed");
    require_task(task);
    Augmenter augmenter(size);
    for (const Augmentation& augmentation : augmenter.variants(task, 8)) {
      const ArcTask variant = augment(task, augmentation);
      require_task(variant);
      fuzz::require(variant.train.size() == task.train.size(), "no example is lost");
      for (size_t test = 0; test < variant.test.size(); ++test) {
        fuzz::require(!prompts.render(variant, test, *encoder).empty(), "a prompt has text");
      }
    }
  });
  return 0;
}
