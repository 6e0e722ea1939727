// SPDX-License-Identifier: Apache-2.0
// What is known about an activation after one pass over its rows, in memory that does not grow with
// their number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "espalier/tensor/dtype.h"

namespace espalier::extract {

/// A channel stands out when its root mean square is so many times the median channel's.
inline constexpr double kOutlierChannel = 6.0;
/// A token stands out when its norm is so many times the median token's: attention sinks, mostly.
inline constexpr double kHighNorm = 10.0;
/// How many of either are kept with their numbers; all are counted.
inline constexpr size_t kKept = 8;

/// Euclidean norm.
double norm_of(std::span<const float> row);

/// Counts of positive numbers in bins of equal relative width, 2^-9 of their lower bound.
class LogHistogram {
 public:
  void add(float value);
  void merge(const LogHistogram& other);
  int64_t count() const { return count_; }
  /// Within 0.1 % of the value with half of the others below it; 0 when there are none.
  double median() const;
  /// How many are above `value`, which counts as the lower bound of its bin's successor.
  int64_t above(double value) const;

 private:
  int64_t& bin(int64_t index);
  int64_t first_ = 0;  // bin of counts_[0]
  std::vector<int64_t> counts_;
  int64_t count_ = 0;
};

struct Outlier {
  int64_t index = 0;   // channel or token
  double value = 0.0;  // root mean square or norm
  friend bool operator==(const Outlier&, const Outlier&) = default;
};

struct HookSummary {
  int64_t tokens = 0;            // with finite values; the rest is about these
  int64_t not_finite = 0;        // values
  double mean = 0.0, std = 0.0;  // of all values
  double norm_mean = 0.0, norm_median = 0.0, norm_max = 0.0;  // of tokens
  double channel_median = 0.0;  // root mean square of the median channel
  int64_t outlier_channels = 0, high_norm_tokens = 0;
  std::vector<Outlier> channels;  // the largest outliers, descending
};

class HookStatistics {
 public:
  explicit HookStatistics(int64_t width);

  /// `count` rows [count, width] of `dtype`; the first is token `first`, by the caller's numbers.
  void add(std::span<const std::byte> rows, DType dtype, int64_t first);
  /// Adds what `other` saw; its tokens' numbers begin at `offset` here.
  void merge(const HookStatistics& other, int64_t offset);

  HookSummary summary() const;
  /// The tokens of largest norm, descending, whether they stand out or not.
  const std::vector<Outlier>& largest() const { return largest_; }
  /// The first token with a value that is NaN or infinite, or -1.
  int64_t first_not_finite() const { return first_not_finite_; }
  int64_t not_finite() const { return not_finite_; }

 private:
  void add_finite(const std::byte* rows, DType dtype, int64_t count, int64_t first);
  void offer(const Outlier& token);

  int64_t width_;
  int64_t tokens_ = 0, not_finite_ = 0, first_not_finite_ = -1;
  std::vector<double> sums_, squares_;  // by channel
  double norm_sum_ = 0.0, norm_max_ = 0.0;
  LogHistogram norms_;
  std::vector<Outlier> largest_;
  std::vector<float> row_, part_sums_, part_squares_;  // of a few rows in f32
};

}  // namespace espalier::extract
