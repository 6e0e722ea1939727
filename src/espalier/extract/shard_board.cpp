// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/shard_board.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "espalier/extract/manifest.h"

namespace espalier::extract {
namespace {

/// Fewer shards than this are asked for one by one, more by listing all.
constexpr int64_t kFew = 16;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// "manifest/00000012.json" -> 12; nothing for other keys.
std::optional<int64_t> shard_of(const std::string& key) {
  const size_t slash = key.rfind('/'), dot = key.rfind('.');
  if (slash == std::string::npos || dot == std::string::npos || dot < slash) return std::nullopt;
  const std::string digits = key.substr(slash + 1, dot - slash - 1);
  if (digits.empty() || digits.size() > 18 ||
      digits.find_first_not_of("0123456789") != std::string::npos) {
    return std::nullopt;
  }
  return std::stoll(digits);
}

}  // namespace

ShardBoard::ShardBoard(Store& store, LeaseKeeper& keeper, WorkerPlace place)
    : store_(store), keeper_(keeper), place_(place) {}

std::optional<ShardBoard::Claim> ShardBoard::claim(int64_t known) {
  // Now and then also while there is work, so that progress counts what others make.
  if (idle_ || now() - looked_ > keeper_.beat_seconds()) look_at_manifest(known);
  std::vector<int64_t> candidates;
  {
    const std::lock_guard lock(mutex_);
    entries_.resize(std::max(entries_.size(), static_cast<size_t>(known)));
    const double recently = now() - keeper_.beat_seconds();
    for (int64_t shard = first_open_; shard < known; ++shard) {
      const Entry& entry = entries_[static_cast<size_t>(shard)];
      if (entry.state == State::open && entry.looked < recently) candidates.push_back(shard);
    }
  }
  std::stable_partition(candidates.begin(), candidates.end(),
                        [&](int64_t shard) { return shard % place_.workers == place_.rank; });
  for (int64_t shard : candidates) {
    if (std::optional<Claim> claim = try_claim(shard)) {
      idle_ = false;
      return claim;
    }
  }
  idle_ = true;
  return std::nullopt;
}

std::optional<ShardBoard::Claim> ShardBoard::try_claim(int64_t shard) {
  Claim claim{shard, keeper_.claim(fmt::format("{:08}", shard))};
  // Looked at with the lease in hand: nobody finishes the shard from here on.
  const bool is_done = claim.lease != nullptr && this->is_done(shard);
  if (is_done) {
    keeper_.release(claim.lease);
  } else if (claim.lease != nullptr && claim.lease->taken_over()) {
    store_.sweep(shard_key(shard));
  }
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[static_cast<size_t>(shard)];
  if (is_done) {
    mark_done(shard);
  } else if (claim.lease != nullptr) {
    entry.state = State::ours;
    return claim;
  } else {
    entry.looked = now();
  }
  return std::nullopt;
}

bool ShardBoard::is_done(int64_t shard) {
  if (!store_.size(manifest_key(shard))) return false;
  if (!damaged_.contains(shard)) return true;
  // Another worker may have made it again since.
  damaged_ = damaged_shards(store_);
  return !damaged_.contains(shard);
}

void ShardBoard::look_at_manifest(int64_t known) {
  if (looked_ < 0.0) damaged_ = damaged_shards(store_);
  looked_ = now();
  std::vector<int64_t> open;
  {
    const std::lock_guard lock(mutex_);
    entries_.resize(std::max(entries_.size(), static_cast<size_t>(known)));
    for (int64_t shard = first_open_; shard < known; ++shard) {
      if (entries_[static_cast<size_t>(shard)].state == State::open) open.push_back(shard);
    }
  }
  std::vector<int64_t> found;
  if (static_cast<int64_t>(open.size()) <= kFew) {
    for (int64_t shard : open) {
      if (!damaged_.contains(shard) && store_.size(manifest_key(shard))) found.push_back(shard);
    }
  } else {
    for (const std::string& key : store_.list("manifest/")) {
      const std::optional<int64_t> shard = shard_of(key);
      if (shard && *shard < known && !damaged_.contains(*shard)) found.push_back(*shard);
    }
  }
  const std::lock_guard lock(mutex_);
  for (int64_t shard : found) mark_done(shard);
}

void ShardBoard::mark_done(int64_t shard) {
  Entry& entry = entries_[static_cast<size_t>(shard)];
  if (entry.state != State::done) ++done_;
  entry.state = State::done;
  const auto size = static_cast<int64_t>(entries_.size());
  while (first_open_ < size && entries_[static_cast<size_t>(first_open_)].state == State::done) {
    ++first_open_;
  }
}

void ShardBoard::done(const Claim& claim) {
  keeper_.release(claim.lease);
  const std::lock_guard lock(mutex_);
  mark_done(claim.shard);
  changed_.notify_all();
}

void ShardBoard::dropped(const Claim& claim) {
  keeper_.release(claim.lease);
  const std::lock_guard lock(mutex_);
  entries_[static_cast<size_t>(claim.shard)] = {.state = State::open, .looked = now()};
  changed_.notify_all();
}

int64_t ShardBoard::done_count() const {
  const std::lock_guard lock(mutex_);
  return done_;
}

void ShardBoard::wait(double seconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(seconds));
}

void ShardBoard::wake() { changed_.notify_all(); }

}  // namespace espalier::extract
