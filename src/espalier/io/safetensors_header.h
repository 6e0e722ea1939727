// SPDX-License-Identifier: Apache-2.0
// The JSON header of a safetensors file: text to entries. For readers of parts of files, which have
// no image of the whole.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "espalier/io/safetensors.h"

namespace espalier::io {

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // sorted by their bytes
  SafetensorsMetadata metadata;
};

/// Parses and checks a header whose tensors fill `data_bytes` bytes exactly.
SafetensorsHeader parse_safetensors_header(std::string_view text, const std::string& label,
                                           int64_t data_bytes);

/// Bits of one element of a dtype of the format; nothing for an unknown name.
std::optional<int64_t> safetensors_bits(std::string_view dtype);

}  // namespace espalier::io
