// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/manifest.h"

#include <algorithm>
#include <charconv>

#include "espalier/base/error.h"
#include "espalier/io/json.h"

namespace espalier::extract {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::string_view kDone = "manifest/", kDamaged = "damaged/";

std::string key_of(std::string_view folder, int64_t index) {
  return fmt::format("{}{:08}.json", folder, index);
}
std::optional<int64_t> index_of(std::string_view folder, std::string_view key) {
  int64_t index = -1;
  if (!key.starts_with(folder)) return std::nullopt;
  std::from_chars(key.data() + folder.size(), key.data() + key.size(), index);
  if (index < 0 || key != key_of(folder, index)) return std::nullopt;
  return index;
}

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

std::string shard_key(int64_t index) {
  return fmt::format("shards/shard-{:08}.safetensors", index);
}
std::string manifest_key(int64_t index) { return key_of(kDone, index); }
std::optional<int64_t> shard_of_manifest_key(std::string_view key) { return index_of(kDone, key); }

std::string to_json(const ManifestEntry& e) {
  const Json json{{"shard", e.shard},     {"first_sample", e.first_sample},
                  {"samples", e.samples}, {"tokens", e.tokens},
                  {"bytes", e.bytes},     {"raw_bytes", e.raw_bytes},
                  {"sha256", e.sha256}};
  return json.dump() + "\n";
}

ManifestEntry parse_manifest_entry(std::string_view text, std::string_view label) {
  const Json json = io::try_parse_ordered_json(text);
  ESPALIER_CHECK(json.is_object(), ErrorKind::data, "manifest", "{} is no JSON object", label);
  const auto at = [&](const char* key) -> const Json& {
    const auto found = json.find(key);
    ESPALIER_CHECK(found != json.end(), ErrorKind::data, "manifest", "{} has no \"{}\"", label,
                   key);
    return *found;
  };
  const auto number = [&](const char* key, int64_t least) {
    const Json& value = at(key);
    const bool good = value.is_number_integer() &&
                      !(value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) &&
                      value.get<int64_t>() >= least;
    ESPALIER_CHECK(good, ErrorKind::data, "manifest",
                   "{}: \"{}\" is {}, no whole number from {} on", label, key,
                   value.dump(-1, ' ', false, Json::error_handler_t::replace), least);
    return value.get<int64_t>();
  };
  ManifestEntry entry{.shard = number("shard", 0),
                      .first_sample = number("first_sample", 0),
                      .samples = number("samples", 1),
                      .tokens = number("tokens", 1),
                      .bytes = number("bytes", 1),
                      .raw_bytes = number("raw_bytes", 1),
                      .sha256 = {}};
  const Json& sum = at("sha256");
  ESPALIER_CHECK(sum.is_string() && is_sha256(sum.get_ref<const std::string&>()), ErrorKind::data,
                 "manifest", "{}: \"sha256\" is not 64 digits", label);
  entry.sha256 = sum.get<std::string>();
  ESPALIER_CHECK(entry.samples <= entry.tokens && entry.first_sample <= INT64_MAX - entry.samples,
                 ErrorKind::data, "manifest", "{}: {} samples from {} on in {} tokens", label,
                 entry.samples, entry.first_sample, entry.tokens);
  return entry;
}

std::vector<ManifestEntry> parse_manifest(std::string_view jsonl, std::string_view label) {
  std::vector<ManifestEntry> entries;
  int64_t next_sample = 0;
  for (size_t begin = 0; begin < jsonl.size();) {
    const size_t end = std::min(jsonl.find('\n', begin), jsonl.size());
    const std::string where = fmt::format("{} line {}", label, entries.size() + 1);
    ManifestEntry entry = parse_manifest_entry(jsonl.substr(begin, end - begin), where);
    ESPALIER_CHECK(entry.shard == std::ssize(entries) && entry.first_sample == next_sample,
                   ErrorKind::data, "manifest",
                   "{}: shard {} begins with sample {} where shard {} with sample {} is due", where,
                   entry.shard, entry.first_sample, entries.size(), next_sample);
    next_sample += entry.samples;
    entries.push_back(std::move(entry));
    begin = end + 1;
  }
  return entries;
}

std::set<int64_t> damaged_shards(Store& store) {
  std::set<int64_t> shards;
  for (const std::string& key : store.list(std::string(kDamaged))) {
    if (const auto index = index_of(kDamaged, key)) shards.insert(*index);
  }
  return shards;
}

void note_damage(Store& store, int64_t index, std::string_view why) {
  store.put(key_of(kDamaged, index), Json{{"shard", index}, {"why", why}}.dump(
                                         -1, ' ', false, Json::error_handler_t::replace) +
                                         "\n");
}

void clear_damage(Store& store, int64_t index) { store.remove(key_of(kDamaged, index)); }

}  // namespace espalier::extract
