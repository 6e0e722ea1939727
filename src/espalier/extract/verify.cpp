// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/verify.h"

#include <cmath>
#include <filesystem>

#include "espalier/base/error.h"
#include "espalier/extract/manifest.h"
#include "espalier/io/safetensors.h"
#include "espalier/io/sha256.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
constexpr int64_t kEntryLimit = 4096;

bool is_finite(DType dtype, const HostTensor& tensor, int64_t i) {
  const auto at = static_cast<size_t>(i);
  switch (dtype) {
    case DType::bf16:
      return (tensor.as<uint16_t>()[at] & 0x7F80u) != 0x7F80u;
    case DType::f16:
      return (tensor.as<uint16_t>()[at] & 0x7C00u) != 0x7C00u;
    default:
      return std::isfinite(tensor.as<float>()[at]);
  }
}

/// Activations, and how the samples lie in them.
void check_contents(const io::SafetensorsFile& file, const ManifestEntry& entry,
                    VerifyReport& report) {
  const HostTensor offsets = file.tensor("offsets", DType::i64, {entry.samples + 1});
  const HostTensor indices = file.tensor("sample_index", DType::i64, {entry.tokens});
  int64_t token = 0;
  bool right = offsets.as<int64_t>()[0] == 0;
  for (int64_t s = 0; s < entry.samples && right; ++s) {
    const int64_t end = offsets.as<int64_t>()[static_cast<size_t>(s + 1)];
    right = end > token && end <= entry.tokens;
    for (; right && token < end; ++token) {
      right = indices.as<int64_t>()[static_cast<size_t>(token)] == entry.first_sample + s;
    }
  }
  if (!right || token != entry.tokens) {
    report.wrong.push_back(fmt::format("{}: offsets and sample_index disagree", file.label()));
  }
  for (const io::SafetensorsEntry& tensor : file.entries()) {
    if (tensor.shape.rank() != 2) continue;
    const HostTensor values = file.tensor(tensor.name);
    if (values.shape()[0] != entry.tokens) {
      report.wrong.push_back(fmt::format("{}:{} has {} rows, the manifest {} tokens", file.label(),
                                         tensor.name, values.shape()[0], entry.tokens));
      continue;
    }
    const int64_t width = values.shape()[1];
    int64_t bad = 0, first = 0;
    for (int64_t i = 0; i < values.numel(); ++i) {
      if (!is_finite(values.dtype(), values, i) && bad++ == 0) first = i / width;
    }
    report.not_finite += bad;
    if (bad > 0) {
      report.wrong.push_back(fmt::format(
          "{}:{} has {} values that are NaN or infinite, the first in sample {}", file.label(),
          tensor.name, bad, indices.as<int64_t>()[static_cast<size_t>(first)]));
    }
  }
}

}  // namespace

VerifyReport verify_run(const std::string& folder) {
  ESPALIER_CHECK(fs::exists(fs::path(folder) / "run.json"), ErrorKind::user, "verify",
                 "{} holds no run: run.json is missing", folder);
  const std::unique_ptr<Store> store = open_folder_store(folder);
  VerifyReport report;
  const bool complete = store->get("manifest.jsonl", int64_t{1} << 30).has_value();
  if (!complete) report.wrong.push_back("the run is not complete: manifest.jsonl is missing");
  int64_t next_sample = 0;
  for (const std::string& key : store->list("manifest/")) {
    const ManifestEntry entry =
        parse_manifest_entry(store->get(key, kEntryLimit).value_or(""), store->where(key));
    const std::string path = store->where(shard_key(entry.shard));
    if (entry.shard != report.shards || entry.first_sample != next_sample) {
      report.wrong.push_back(fmt::format(
          "{}: shard {} begins with sample {}, shard {} with sample "
          "{} was to come",
          store->where(key), entry.shard, entry.first_sample, report.shards, next_sample));
    }
    report.shards = entry.shard + 1;
    next_sample = entry.first_sample + entry.samples;
    report.samples += entry.samples;
    report.tokens += entry.tokens;
    report.bytes += entry.bytes;
    std::error_code error;
    const auto size = static_cast<int64_t>(fs::file_size(path, error));
    if (error || size != entry.bytes) {
      report.wrong.push_back(
          error ? fmt::format("{} is missing", path)
                : fmt::format("{} has {} bytes, the manifest {}", path, size, entry.bytes));
      continue;
    }
    if (io::sha256_file(path) != entry.sha256) {
      report.wrong.push_back(fmt::format("{}: its checksum is not the manifest's", path));
      continue;
    }
    try {
      check_contents(io::SafetensorsFile::open(path), entry, report);
    } catch (const Error& e) {
      report.wrong.emplace_back(e.what());
    }
  }
  return report;
}

}  // namespace espalier::extract
