// SPDX-License-Identifier: Apache-2.0
#include "espalier/ir/graph.h"

#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace espalier;
  fuzz::refuse_or_read([&] {
    const ir::Graph graph = ir::parse(fuzz::as_text(data, size));
    ir::verify(graph);
    const std::string printed = ir::print(graph);
    const ir::Graph again = ir::parse(printed);
    fuzz::require(ir::equal(graph, again), "print and parse give an equal graph");
    fuzz::require(ir::print(again) == printed, "printing is stable");
  });
  return 0;
}
