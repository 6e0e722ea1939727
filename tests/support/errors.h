// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "espalier/base/error.h"

namespace espalier::test {

/// What running `run` throws, or "no error".
inline std::string error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace espalier::test
