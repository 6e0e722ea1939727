// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/arc_task.h"

#include "espalier/base/error.h"
#include "espalier/io/json.h"

namespace espalier::extract {
namespace {

using Json = nlohmann::json;

Grid read_grid(const Json& json, const std::string& where) {
  ESPALIER_CHECK(json.is_array() && !json.empty(), ErrorKind::data, "arc",
                 "{} is no grid: a list of rows, at least one", where);
  Grid grid;
  for (const Json& row : json) {
    const std::string at = fmt::format("{} row {}", where, grid.height);
    ESPALIER_CHECK(row.is_array() && !row.empty(), ErrorKind::data, "arc", "{} is no list of cells",
                   at);
    const auto width = static_cast<int64_t>(row.size());
    if (grid.height == 0) grid.width = width;
    ESPALIER_CHECK(width == grid.width, ErrorKind::data, "arc",
                   "{} has {} cells, the rows above {}", at, width, grid.width);
    for (size_t column = 0; column < row.size(); ++column) {
      const Json& cell = row[column];
      ESPALIER_CHECK(
          cell.is_number_integer() && cell.get<int64_t>() >= 0 && cell.get<int64_t>() <= 9,
          ErrorKind::data, "arc", "{} column {} is {}, no colour from 0 to 9", at, column,
          cell.dump());
      grid.cells.push_back(cell.get<uint8_t>());
    }
    ++grid.height;
  }
  return grid;
}

std::vector<ArcPair> read_pairs(const Json& task, const char* key, bool outputs,
                                std::string_view where) {
  const auto found = task.find(key);
  ESPALIER_CHECK(found != task.end() && found->is_array(), ErrorKind::data, "arc",
                 "{}: \"{}\" is missing or no list", where, key);
  std::vector<ArcPair> pairs;
  for (const Json& json : *found) {
    const std::string at = fmt::format("{}: {}[{}]", where, key, pairs.size());
    ESPALIER_CHECK(json.is_object() && json.contains("input"), ErrorKind::data, "arc",
                   "{} has no input", at);
    ArcPair pair{.input = read_grid(json.at("input"), at + " input"), .output = {}};
    if (json.contains("output")) {
      pair.output = read_grid(json.at("output"), at + " output");
    } else {
      ESPALIER_CHECK(!outputs, ErrorKind::data, "arc", "{} has no output", at);
    }
    pairs.push_back(std::move(pair));
  }
  return pairs;
}

}  // namespace

ArcTask parse_arc_task(std::string_view text, std::string_view where, std::string default_id) {
  Json json;
  try {
    json = io::parse_json(text);
  } catch (const Json::exception& error) {
    fail(ErrorKind::data, "arc", "{} is not JSON: {}", where, error.what());
  }
  ESPALIER_CHECK(json.is_object(), ErrorKind::data, "arc", "{} is no JSON object", where);
  ArcTask task{.id = std::move(default_id), .train = {}, .test = {}};
  if (const auto id = json.find("task_id"); id != json.end()) {
    ESPALIER_CHECK(id->is_string() && !id->get_ref<const std::string&>().empty(), ErrorKind::data,
                   "arc", "{}: task_id = {} is no name", where, id->dump());
    task.id = id->get<std::string>();
  }
  task.train = read_pairs(json, "train", true, where);
  task.test = read_pairs(json, "test", false, where);
  ESPALIER_CHECK(!task.test.empty(), ErrorKind::data, "arc", "{}: \"test\" is empty", where);
  return task;
}

std::string line_id(int64_t line) { return fmt::format("task_{:08x}", line); }

}  // namespace espalier::extract
