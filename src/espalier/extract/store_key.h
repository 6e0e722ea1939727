// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace espalier::extract {

/// Throws `user` unless `key` is a relative path without empty parts, "." or "..": the same name
/// in every kind of store. `root` names the store.
void check_key(const std::string& key, const std::string& root);

}  // namespace espalier::extract
