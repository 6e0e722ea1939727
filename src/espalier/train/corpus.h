// SPDX-License-Identifier: Apache-2.0
// The text that ships inside the program: the project's own sources and documents.
#pragma once

#include <cstdint>
#include <span>

namespace espalier::train {

/// The embedded bytes, in the order of their files' paths; they live as long as the program.
std::span<const uint8_t> builtin_corpus();

}  // namespace espalier::train
