// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace espalier::cli {

/// From now on SIGINT and SIGTERM are noted; a second one ends the process at once. A write beyond
/// a file-size limit becomes an error instead of a signal.
void watch_signals();

/// The first signal noted, or 0.
int stop_signal();

}  // namespace espalier::cli
