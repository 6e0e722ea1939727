// SPDX-License-Identifier: Apache-2.0
// espalier bench read: how fast a run's activations arrive, beside what the disk can do.
#pragma once

#include <string>

#include "espalier/extract/reader.h"

namespace espalier::extract {

struct ReadBenchOptions {
  std::string run;  // folder or URL
  ReadOptions read;
  double seconds = 10.0;  // each of the measurements, at most
};

struct ReadBenchResult {
  std::vector<std::string> hooks;
  int64_t rows = 0;                                      // of the measured pass
  int64_t row_bytes = 0;                                 // of all activations together
  double rows_per_second = 0.0, bytes_per_second = 0.0;  // from where the run is
  double cached_rows_per_second = 0.0, cached_bytes_per_second = 0.0;  // from the page cache
  double disk_bytes_per_second = 0.0;  // the same files in large pieces, past the page cache
  int64_t memory_bytes = 0;            // of the reader's windows
};

/// Bytes are those of the activations that are handed out. Of a URL there is the first rate only,
/// and the others are 0.
ReadBenchResult bench_read(const ReadBenchOptions& options);

}  // namespace espalier::extract
