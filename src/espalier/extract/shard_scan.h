// SPDX-License-Identifier: Apache-2.0
// One pass over a shard: its checksum, its tables, and the statistics of its activations, each byte
// read once.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "espalier/extract/manifest.h"
#include "espalier/extract/shard_file.h"
#include "espalier/extract/statistics.h"
#include "espalier/extract/store.h"

namespace espalier::extract {

struct ScanOptions {
  bool checksums = true;
  /// Globs of the activations to look at; empty: all.
  std::vector<std::string> hooks;
  /// After each piece, with its bytes, on any thread.
  std::function<void(int64_t)> read;
};

/// A token, as people look it up.
struct TokenPlace {
  int64_t sample = 0;  // index in the run
  std::string sample_id;
  int32_t position = 0, token_id = 0;
};

struct HookScan {
  std::string name;
  HookStatistics statistics;       // tokens count from 0 in the shard
  std::vector<TokenPlace> places;  // of statistics.largest(), in its order
};

struct ShardScan {
  std::vector<std::string> wrong;  // one line for each thing that is
  /// The file is not what was written: made again, it would be right.
  bool damaged = false;
  DType dtype = DType::f32;
  Compression compression = Compression::none;
  int64_t width = 0;
  std::vector<HookScan> hooks;  // none when the file could not be read
};

/// What is wrong with the shard is in the result; errors of the store are thrown.
ShardScan scan_shard(Store& store, const ManifestEntry& entry, const ScanOptions& options);

}  // namespace espalier::extract
