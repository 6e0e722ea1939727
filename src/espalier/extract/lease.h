// SPDX-License-Identifier: Apache-2.0
// Leases: which worker does which unit of work, agreed upon in the store alone.
//
//   leases/UNIT/000000    {"worker": "host-a:812", "beat": 17}
//
// A worker owns a unit from when it created the highest generation. It writes its beat there now
// and then. Another worker that has seen the same beat for longer than `expire_seconds`, by its own
// steady clock, creates the next generation; of several such workers one succeeds. So no two clocks
// are ever compared, and a clock that jumps breaks nothing.
//
// A lease saves work, it protects nothing: a worker that was asleep may go on with a unit that it
// lost. What it makes is what the new owner makes, bit for bit, and only one of them commits it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "espalier/extract/store.h"

namespace espalier::extract {

struct LeaseOptions {
  double expire_seconds = 60.0;
  /// Seconds from any start that never go back.
  std::function<double()> clock;
};

/// One generation of a unit, owned by this worker.
struct Lease {
  std::string unit;
  int64_t generation = 0;
  int64_t beat = 0;
};

class Leases {
 public:
  /// Without a clock in `options`: the system's steady one.
  Leases(Store& store, std::string worker, LeaseOptions options);

  /// The unit, if nobody else has it: never claimed, or its owner has not been heard of for
  /// expire_seconds since this object first looked.
  std::optional<Lease> claim(const std::string& unit);
  /// Says that this worker lives. False when the unit was taken over: give it up.
  bool renew(Lease& lease);
  /// The unit is done, or given back.
  void release(const Lease& lease);

 private:
  struct Seen {
    std::string key, text;
    double since = 0.0;
  };
  std::string text_of(const Lease& lease) const;

  Store& store_;
  std::string worker_;
  LeaseOptions options_;
  std::map<std::string, Seen> seen_;  // the last news of units that others have
};

}  // namespace espalier::extract
