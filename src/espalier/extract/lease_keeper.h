// SPDX-License-Identifier: Apache-2.0
// The leases of one process: claimed and given back by any of its threads, kept alive by one.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "espalier/extract/lease.h"

namespace espalier::extract {

class LeaseKeeper {
 public:
  /// A unit that this process has.
  class Held {
   public:
    explicit Held(Lease lease) : lease_(std::move(lease)) {}
    const std::string& unit() const { return lease_.unit; }
    /// Another worker had it and fell silent.
    bool taken_over() const { return lease_.generation > 0; }
    /// It was taken over, as this process was silent for too long: what is being made of it is to
    /// be dropped.
    bool lost() const { return lost_; }

   private:
    friend class LeaseKeeper;
    Lease lease_;
    std::atomic<bool> lost_ = false;
  };

  LeaseKeeper(Store& store, std::string worker, LeaseOptions options);
  /// Gives back what is still held, as far as the store allows.
  ~LeaseKeeper();
  LeaseKeeper(const LeaseKeeper&) = delete;
  LeaseKeeper& operator=(const LeaseKeeper&) = delete;

  /// Nothing when another worker has the unit.
  std::shared_ptr<Held> claim(const std::string& unit);
  /// The unit is done, or given back.
  void release(const std::shared_ptr<Held>& held);
  /// Tells the others that this process lives, and finds out what it lost.
  void beat();
  /// How often `beat` is to be called.
  double beat_seconds() const { return expire_seconds_ / kBeats; }

 private:
  /// Beats in the time after which others take over: some may fail or be late.
  static constexpr double kBeats = 6.0;
  const double expire_seconds_;
  std::mutex mutex_;  // of everything below: a store call is short beside the time between beats
  Leases leases_;
  std::vector<std::shared_ptr<Held>> held_;
};

}  // namespace espalier::extract
