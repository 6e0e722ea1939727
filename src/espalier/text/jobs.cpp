// SPDX-License-Identifier: Apache-2.0
#include "espalier/text/jobs.h"

#include <fmt/format.h>

#include <istream>
#include <ostream>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/io/json.h"
#include "espalier/text/utf8.h"

namespace espalier::text {
namespace {

/// The value of a line; `number` counts from 1.
nlohmann::json parse_line(const std::string& line, int64_t number, std::string_view wanted) {
  auto value = io::try_parse_json(line);
  ESPALIER_CHECK(!value.is_discarded(), ErrorKind::data, "tokenize",
                 "line {} is no JSON: {} is needed", number, wanted);
  return value;
}

std::string decoded(const Tokenizer& tokenizer, const TokenizeOptions& options,
                    const std::string& line, int64_t number) {
  const auto value = parse_line(line, number, "a list of ids");
  std::vector<int32_t> ids;
  ESPALIER_CHECK(value.is_array(), ErrorKind::data, "tokenize",
                 "line {} holds {}, not a list of ids", number, value.type_name());
  for (const auto& item : value) {
    const bool id = item.is_number_unsigned() && item.get<uint64_t>() <= INT32_MAX;
    ESPALIER_CHECK(id, ErrorKind::data, "tokenize", "line {}: {} is no id", number, item.dump());
    ids.push_back(item.get<int32_t>());
  }
  const std::string text = json_quote(tokenizer.decode(ids, options.no_special));
  return options.json ? fmt::format("{{\"text\":{}}}", text) : text;
}

}  // namespace

void tokenize_lines(const Tokenizer& tokenizer, const TokenizeOptions& options, std::istream& in,
                    std::ostream& out) {
  Workspace work;
  std::vector<int32_t> ids;
  std::string line, repaired;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (line.empty()) continue;
    ESPALIER_CONTEXT("line {}", number);
    if (options.decode) {
      out << decoded(tokenizer, options, line, number) << '\n';
      continue;
    }
    repaired.clear();
    const int64_t replaced = append_repaired_utf8(line, repaired);
    const auto value = parse_line(repaired, number, "a string");
    ESPALIER_CHECK(value.is_string(), ErrorKind::data, "tokenize", "line {} holds {}, not a string",
                   number, value.type_name());
    ids.clear();
    tokenizer.encode(value.get_ref<const std::string&>(), {.special = !options.no_special}, work,
                     ids);
    const std::string list = fmt::format("[{}]", fmt::join(ids, ", "));
    if (!options.json) {
      out << list << '\n';
      continue;
    }
    out << "{\"ids\":" << list << ",\"tokens\":[";
    for (size_t i = 0; i < ids.size(); ++i) {
      out << (i > 0 ? "," : "") << json_quote(tokenizer.token(ids[i]));
    }
    out << "],\"replaced\":" << replaced << "}\n";
  }
  out.flush();
}

}  // namespace espalier::text
