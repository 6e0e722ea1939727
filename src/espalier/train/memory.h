// SPDX-License-Identifier: Apache-2.0
// Memory of this process as the system counts it.
#pragma once

#include <cstdint>

namespace espalier::train {

/// Bytes in memory now (resident set).
int64_t resident_bytes();

/// The most bytes that were in memory since the start of the process or the last reset.
int64_t peak_resident_bytes();

/// Starts a new peak; false where the system does not allow it.
bool reset_peak_resident();

/// Gives freed memory back to the system, so that the resident set holds what is in use.
void release_free_memory();

}  // namespace espalier::train
