// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace espalier {

/// The version of the library, as CMake's project() states it: "0.1.0".
std::string_view version();

}  // namespace espalier
