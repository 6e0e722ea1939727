// SPDX-License-Identifier: Apache-2.0
// What verify and inspect found, as text and as JSON.
#pragma once

#include <span>
#include <string>

#include "espalier/extract/inspect.h"
#include "espalier/extract/verify.h"
#include "espalier/io/json.h"

namespace espalier::extract {

/// A table: mean, deviation and norms of each activation, and below it what stands out.
std::string statistics_text(std::span<const HookReport> hooks);
nlohmann::ordered_json statistics_json(std::span<const HookReport> hooks);

std::string verify_text(const VerifyReport& report);
nlohmann::ordered_json verify_json(const VerifyReport& report);

std::string inspect_text(const InspectReport& report);
nlohmann::ordered_json inspect_json(const InspectReport& report);

}  // namespace espalier::extract
