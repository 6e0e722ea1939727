// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/lease_keeper.h"

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier::extract {

LeaseKeeper::LeaseKeeper(Store& store, std::string worker, LeaseOptions options)
    : expire_seconds_(options.expire_seconds),
      leases_(store, std::move(worker), std::move(options)) {
  ESPALIER_CHECK(expire_seconds_ > 0.0, ErrorKind::user, "lease",
                 "the seconds after which a lease expires, {}, must be positive", expire_seconds_);
}

LeaseKeeper::~LeaseKeeper() {
  for (const std::shared_ptr<Held>& held : held_) {
    try {
      if (!held->lost_) leases_.release(held->lease_);
    } catch (const Error&) {
      return;  // whoever comes next waits until it expires
    }
  }
}

std::shared_ptr<LeaseKeeper::Held> LeaseKeeper::claim(const std::string& unit) {
  const std::lock_guard lock(mutex_);
  std::optional<Lease> lease = leases_.claim(unit);
  if (!lease) return nullptr;
  held_.push_back(std::make_shared<Held>(std::move(*lease)));
  return held_.back();
}

void LeaseKeeper::release(const std::shared_ptr<Held>& held) {
  const std::lock_guard lock(mutex_);
  std::erase(held_, held);
  if (!held->lost_) leases_.release(held->lease_);
}

void LeaseKeeper::beat() {
  const std::lock_guard lock(mutex_);
  std::erase_if(held_, [&](const std::shared_ptr<Held>& held) {
    held->lost_ = !leases_.renew(held->lease_);
    return held->lost_.load();
  });
}

}  // namespace espalier::extract
