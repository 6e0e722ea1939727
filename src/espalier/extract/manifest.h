// SPDX-License-Identifier: Apache-2.0
// The objects that say which shards are done.
//
//   manifest/00000012.json   shard 12 is there, with this size and SHA-256
//   manifest.jsonl           all of them in order, when the run is complete
//   damaged/00000012.json    a check found that shard 12 is not what its manifest says; whoever
//   goes
//                            on with the run makes it again and removes this
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/extract/store.h"

namespace espalier::extract {

/// "shards/shard-00000012.safetensors"
std::string shard_key(int64_t index);
/// "manifest/00000012.json"
std::string manifest_key(int64_t index);
/// 12 of the above; nothing for another key.
std::optional<int64_t> shard_of_manifest_key(std::string_view key);

struct ManifestEntry {
  int64_t shard = 0, first_sample = 0, samples = 0, tokens = 0;
  int64_t bytes = 0;      // of the file
  int64_t raw_bytes = 0;  // of its tensors, before compression
  std::string sha256;
  friend bool operator==(const ManifestEntry&, const ManifestEntry&) = default;
};

/// One line of JSON, with its end.
std::string to_json(const ManifestEntry& entry);
/// Throws `data` for text that is no entry, or one with impossible numbers.
ManifestEntry parse_manifest_entry(std::string_view json, std::string_view label);
/// The lines of manifest.jsonl. Throws `data` as above, with the number of the line, and unless the
/// shards are 0, 1, ... and each begins with the sample after the last one's.
std::vector<ManifestEntry> parse_manifest(std::string_view jsonl, std::string_view label);

/// Shards that checks found to be damaged.
std::set<int64_t> damaged_shards(Store& store);
/// Says that a shard is damaged, and why, until it is made again.
void note_damage(Store& store, int64_t index, std::string_view why);
/// The shard is right.
void clear_damage(Store& store, int64_t index);

}  // namespace espalier::extract
