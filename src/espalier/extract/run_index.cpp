// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/run_index.h"

#include <numeric>

#include "espalier/base/error.h"

namespace espalier::extract {
namespace {

constexpr const char* kAll = "manifest.jsonl";
constexpr int64_t kSettingsLimit = int64_t{16} << 20;
constexpr int64_t kAllLimit = int64_t{4} << 30;
constexpr int64_t kEntryLimit = 4096;

int64_t sum(const std::vector<ManifestEntry>& entries, int64_t ManifestEntry::*member) {
  return std::accumulate(
      entries.begin(), entries.end(), int64_t{0},
      [member](int64_t total, const ManifestEntry& entry) { return total + entry.*member; });
}

/// The objects of the shards that are done, up to the first that is not.
std::vector<ManifestEntry> read_objects(Store& store) {
  std::string all;
  int64_t shard = 0;
  for (const std::string& key : store.list("manifest/")) {
    if (key != manifest_key(shard)) break;
    all += store.get(key, kEntryLimit).value_or("");
    ++shard;
  }
  return parse_manifest(all, store.where("manifest"));
}

}  // namespace

int64_t RunIndex::samples() const { return sum(entries, &ManifestEntry::samples); }
int64_t RunIndex::tokens() const { return sum(entries, &ManifestEntry::tokens); }
int64_t RunIndex::bytes() const { return sum(entries, &ManifestEntry::bytes); }
int64_t RunIndex::raw_bytes() const { return sum(entries, &ManifestEntry::raw_bytes); }

std::string run_settings(Store& store) {
  std::optional<std::string> settings = store.get("run.json", kSettingsLimit);
  ESPALIER_CHECK(settings.has_value(), ErrorKind::user, "run",
                 "{} is missing: this is no run of extraction", store.where("run.json"));
  return *std::move(settings);
}

RunIndex open_run(Store& store, bool partial) {
  RunIndex index{.settings = run_settings(store)};
  const std::set<int64_t> damaged = damaged_shards(store);
  ESPALIER_CHECK(
      damaged.empty(), ErrorKind::data, "run",
      "{} shards of {} were found damaged, the first is {}; run the same extract command "
      "again to make them anew",
      damaged.size(), store.where(""), *damaged.begin());
  if (const std::optional<std::string> all = store.get(kAll, kAllLimit)) {
    index.complete = true;
    index.entries = parse_manifest(*all, store.where(kAll));
  } else {
    ESPALIER_CHECK(partial, ErrorKind::data, "run",
                   "{} is missing: the run is not complete; run the same extract command again, or "
                   "read what is there as a partial run",
                   store.where(kAll));
    index.entries = read_objects(store);
  }
  ESPALIER_CHECK(!index.entries.empty(), ErrorKind::data, "run", "{} has no shard that is done",
                 store.where(""));
  return index;
}

}  // namespace espalier::extract
