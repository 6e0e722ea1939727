// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

namespace espalier::extract {

/// Cuts a stream into parts of one size. A part leaves when bytes follow it, so that the last one
/// is never empty, unless all is.
class PartBuffer {
 public:
  explicit PartBuffer(size_t part_bytes) : part_bytes_(part_bytes) {}

  void write(std::span<const std::byte> bytes, const std::function<void(std::string)>& send) {
    while (!bytes.empty()) {
      if (rest_.size() == part_bytes_) {
        send(std::move(rest_));
        rest_ = {};
      }
      if (rest_.empty() && bytes.size() >= part_bytes_) rest_.reserve(part_bytes_);
      const size_t count = std::min(bytes.size(), part_bytes_ - rest_.size());
      rest_.append(reinterpret_cast<const char*>(bytes.data()), count);
      bytes = bytes.subspan(count);
    }
  }
  /// What is left, at the end.
  std::string take() { return std::move(rest_); }

 private:
  size_t part_bytes_;
  std::string rest_;
};

}  // namespace espalier::extract
