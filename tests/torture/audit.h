// SPDX-License-Identifier: Apache-2.0
// Is a run what an undisturbed one is? Shares no code with `espalier verify`: reads the files as
// the documentation describes them, with a JSON parser and OpenSSL's SHA-256.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/torture/inputs.h"

namespace espalier::torture {

struct Audit {
  int64_t shards = 0, samples = 0, tokens = 0, bytes = 0;
  int64_t lost = 0, duplicated = 0;  // samples
  int64_t damaged = 0;               // shards whose size, checksum or content is not as declared
  int64_t different = 0;             // shards with other bytes than the undisturbed run's
  int64_t leftovers = 0;             // temporary files and leases
  std::vector<std::string> wrong;    // a line for each thing that is, the first few
  bool pass() const { return wrong.empty(); }
};

/// Key to SHA-256 of every shard.
using Checksums = std::map<std::string, std::string>;
Checksums shard_checksums(const std::filesystem::path& run);

/// Checks a complete run against the samples that must be in it and the undisturbed run's shards.
Audit audit_run(const std::filesystem::path& run, const std::vector<WantedSample>& samples,
                const Checksums& undisturbed);

/// Checks a run that was interrupted: what its manifest calls done is what it shall be.
Audit audit_part(const std::filesystem::path& run, const Checksums& undisturbed);

}  // namespace espalier::torture
