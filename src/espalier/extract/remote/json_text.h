// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "espalier/io/json.h"

namespace espalier::extract {

/// A string of a JSON object; empty when it is not there or something else.
inline std::string json_text(const nlohmann::json& object, const char* name) {
  if (!object.is_object()) return "";
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace espalier::extract
