// SPDX-License-Identifier: Apache-2.0
// Tasks of the Abstraction and Reasoning Corpus (Chollet, arXiv 1911.01547) in their public form:
//
//   {"task_id": "...", "train": [{"input": [[0, 1]], "output": [[1, 0]]}], "test": [{"input":
//   ...}]}
//
// one object a line of a JSONL file, or one file a task in a folder, whose name is then the id.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::extract {

/// Colours 0 to 9, row by row.
struct Grid {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> cells;  // [height][width]

  uint8_t at(int64_t row, int64_t column) const {
    return cells[static_cast<size_t>(row * width + column)];
  }
  friend bool operator==(const Grid&, const Grid&) = default;
};

struct ArcPair {
  Grid input;
  std::optional<Grid> output;  // a test's may be missing
};

struct ArcTask {
  std::string id;
  std::vector<ArcPair> train;  // with outputs
  std::vector<ArcPair> test;   // at least one
};

/// Reads one task. An object without task_id gets `default_id`. `where` names the text in errors.
/// Throws `data` for text that is not JSON, missing or wrong keys, and grids that are empty, not
/// rectangular or hold anything but 0 to 9: with the pair, row and column.
ArcTask parse_arc_task(std::string_view json, std::string_view where, std::string default_id);

/// "task_0000002a": the id of the task of line `line` (from 0) that has none of its own.
std::string line_id(int64_t line);

}  // namespace espalier::extract
