// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/metrics.h"

#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace espalier;
  fuzz::refuse_or_read([&] {
    const auto table = train::parse_metrics(fuzz::as_text(data, size), "input");
    fuzz::require(table.steps.size() == table.rows.size(), "every row has a step");
    for (const auto& row : table.rows) {
      fuzz::require(row.size() == table.columns.size(), "every row has every column");
    }
    for (const std::string& column : table.columns) {
      const auto [x, y] = table.series(column);
      fuzz::require(x.size() == y.size(), "a series has pairs");
    }
  });
  return 0;
}
