// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace espalier::train {

/// Folder of compiled loops: the variable ESPALIER_CACHE_DIR (set but empty: no cache), else
/// `espalier` in XDG_CACHE_HOME or in ~/.cache; empty when none of these is set.
std::string default_cache_dir();

}  // namespace espalier::train
