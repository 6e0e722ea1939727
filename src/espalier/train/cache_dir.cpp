// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/cache_dir.h"

#include <cstdlib>

namespace espalier::train {

std::string default_cache_dir() {
  if (const char* dir = std::getenv("ESPALIER_CACHE_DIR")) return dir;
  if (const char* dir = std::getenv("XDG_CACHE_HOME"); dir != nullptr && *dir != '\0') {
    return std::string(dir) + "/espalier";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    return std::string(home) + "/.cache/espalier";
  }
  return {};
}

}  // namespace espalier::train
