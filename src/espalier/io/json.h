// SPDX-License-Identifier: Apache-2.0
// nlohmann's JSON library, with its parser compiled once, in json.cpp: its templates are slow to
// compile again in every source. (Explicit instantiation of its values did not save time.)
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace espalier::io {

/// The value of a text. Throws nlohmann::json::parse_error.
nlohmann::json parse_json(std::string_view text);
/// The value of a text; keys of objects keep their order.
nlohmann::ordered_json parse_ordered_json(std::string_view text);
/// As above, but where the text is no JSON the value `is_discarded()`.
nlohmann::json try_parse_json(std::string_view text);
nlohmann::ordered_json try_parse_ordered_json(std::string_view text);

}  // namespace espalier::io
