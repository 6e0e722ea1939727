// SPDX-License-Identifier: Apache-2.0
// Attacks on `espalier extract`, each followed by an audit: SIGKILL at random moments, sleep beyond
// the lease, clocks that jump, disks that are full.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace espalier::torture {

struct AttackOptions {
  int64_t kills = 200;
  int workers = 0;  // of each run; 0: 1, 2, 3, 4 in turn
  double seconds = 600.0;
  uint64_t seed = 1;
  int64_t size = 60;             // of the data, in thousand tokens
  std::filesystem::path folder;  // for everything; made and removed
  std::function<void(const std::string&)> line;
};

struct AttackReport {
  int64_t runs = 0, kills = 0, kills_while_writing = 0;
  int64_t pauses = 0, taken_over = 0;  // taken over: the run was completed without the sleeper
  int64_t jumping_clocks = 0, full_disks = 0;
  int64_t samples = 0, shards = 0;  // audited
  int64_t lost = 0, duplicated = 0, damaged = 0, different = 0, leftovers = 0;
  double seconds = 0.0;
  std::vector<std::string> wrong;
  bool pass() const { return wrong.empty(); }
};

/// Throws for what is no matter of data: a worker that failed, time that is up.
AttackReport attack(const AttackOptions& options);

}  // namespace espalier::torture
