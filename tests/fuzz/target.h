// SPDX-License-Identifier: Apache-2.0
// What every fuzz target shares.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "espalier/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace espalier::fuzz {

inline std::string_view as_text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// Aborts, which libFuzzer and the replay both report with the input.
inline void require(bool holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

/// Runs a reader. The file is to blame for what goes wrong: anything but an Error that says so (an
/// internal error, another exception) is a defect of ours. A file that a user writes by hand may be
/// refused as wrong use: `also`.
template <typename Read>
void refuse_or_read(Read read, ErrorKind also = ErrorKind::data) {
  try {
    read();
  } catch (const Error& error) {
    const bool blames_file = error.kind() == ErrorKind::data ||
                             error.kind() == ErrorKind::unsupported || error.kind() == also;
    if (!blames_file) fprintf(stderr, "%s\n", error.what());
    require(blames_file, "the error blames the file");
  }
}

}  // namespace espalier::fuzz
