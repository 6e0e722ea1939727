// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/lease.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::extract {
namespace {

constexpr int64_t kTextLimit = 4096;

std::string folder_of(const std::string& unit) { return "leases/" + unit + "/"; }

std::string key_of(const std::string& unit, int64_t generation) {
  return fmt::format("{}{:06}", folder_of(unit), generation);
}

/// The generation at the end of a key.
int64_t generation_of(const std::string& key) {
  const std::string digits = key.substr(key.rfind('/') + 1);
  ESPALIER_CHECK(!digits.empty() && digits.size() < 10 &&
                     digits.find_first_not_of("0123456789") == std::string::npos,
                 ErrorKind::data, "lease", "{} is no lease", key);
  return std::stoll(digits);
}

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Leases::Leases(Store& store, std::string worker, LeaseOptions options)
    : store_(store), worker_(std::move(worker)), options_(std::move(options)) {
  if (!options_.clock) options_.clock = steady_seconds;
}

std::string Leases::text_of(const Lease& lease) const {
  return fmt::format("{{\"worker\": {}, \"beat\": {}}}\n", json_quote(worker_), lease.beat);
}

std::optional<Lease> Leases::claim(const std::string& unit) {
  Lease lease{.unit = unit};
  const std::vector<std::string> keys = store_.list(folder_of(unit));
  if (!keys.empty()) {
    const std::string& key = keys.back();
    std::string text = store_.get(key, kTextLimit).value_or("");
    const double now = options_.clock();
    Seen& seen = seen_[unit];
    if (seen.key != key || seen.text != text) {
      seen = {.key = key, .text = std::move(text), .since = now};
      return std::nullopt;
    }
    if (now - seen.since < options_.expire_seconds) return std::nullopt;
    lease.generation = generation_of(key) + 1;
  }
  if (!store_.create(key_of(unit, lease.generation), text_of(lease))) return std::nullopt;
  seen_.erase(unit);
  return lease;
}

bool Leases::renew(Lease& lease) {
  const std::vector<std::string> keys = store_.list(folder_of(lease.unit));
  if (keys.empty() || generation_of(keys.back()) != lease.generation) return false;
  // The number alone may be a later claim's, made after all before it were given back.
  if (store_.get(keys.back(), kTextLimit) != text_of(lease)) return false;
  ++lease.beat;
  store_.put(keys.back(), text_of(lease));
  return true;
}

void Leases::release(const Lease& lease) {
  // Later generations are not this worker's to remove, nor a later claim of the same number;
  // earlier ones are of dead workers.
  for (const std::string& key : store_.list(folder_of(lease.unit))) {
    const int64_t generation = generation_of(key);
    if (generation > lease.generation) continue;
    if (generation < lease.generation || store_.get(key, kTextLimit) == text_of(lease)) {
      store_.remove(key);
    }
  }
}

}  // namespace espalier::extract
