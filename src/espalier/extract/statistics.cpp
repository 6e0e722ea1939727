// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/statistics.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "espalier/base/error.h"
#include "espalier/tensor/convert.h"

namespace espalier::extract {
namespace {

constexpr int kBinBits = 23 - 9;  // of the mantissa's that share a bin
/// Rows whose sums are kept in f32: its rounding stays below that of the values.
constexpr int64_t kRows = 64;

int64_t bin_of(float value) { return std::bit_cast<uint32_t>(value) >> kBinBits; }
float lower_bound_of(int64_t bin) {
  return std::bit_cast<float>(static_cast<uint32_t>(bin) << kBinBits);
}

bool larger(const Outlier& a, const Outlier& b) {
  return a.value > b.value || (a.value == b.value && a.index < b.index);
}

}  // namespace

double norm_of(std::span<const float> row) {
  std::array<float, 8> lanes{};  // so that the loop vectorizes
  size_t i = 0;
  for (; i + lanes.size() <= row.size(); i += lanes.size()) {
    for (size_t lane = 0; lane < lanes.size(); ++lane) lanes[lane] += row[i + lane] * row[i + lane];
  }
  double sum = 0.0;
  for (const float lane : lanes) sum += static_cast<double>(lane);
  for (; i < row.size(); ++i) sum += static_cast<double>(row[i]) * static_cast<double>(row[i]);
  return std::sqrt(sum);
}

int64_t& LogHistogram::bin(int64_t index) {
  if (counts_.empty()) first_ = index;
  if (index < first_) {
    counts_.insert(counts_.begin(), static_cast<size_t>(first_ - index), 0);
    first_ = index;
  }
  if (index >= first_ + std::ssize(counts_)) {
    counts_.resize(static_cast<size_t>(index - first_ + 1));
  }
  return counts_[static_cast<size_t>(index - first_)];
}

void LogHistogram::add(float value) {
  ++bin(bin_of(std::max(value, 0.0f)));
  ++count_;
}

void LogHistogram::merge(const LogHistogram& other) {
  for (size_t i = 0; i < other.counts_.size(); ++i) {
    if (other.counts_[i] > 0) bin(other.first_ + static_cast<int64_t>(i)) += other.counts_[i];
  }
  count_ += other.count_;
}

double LogHistogram::median() const {
  int64_t below = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    below += counts_[i];
    if (2 * below < count_) continue;
    const int64_t bin = first_ + static_cast<int64_t>(i);
    if (bin == 0) return 0.0;
    return 0.5 * (static_cast<double>(lower_bound_of(bin)) +
                  static_cast<double>(lower_bound_of(bin + 1)));
  }
  return 0.0;
}

int64_t LogHistogram::above(double value) const {
  const auto limit =
      static_cast<float>(std::min(value, static_cast<double>(std::numeric_limits<float>::max())));
  int64_t found = 0;
  for (int64_t i = std::max<int64_t>(0, bin_of(limit) + 1 - first_); i < std::ssize(counts_); ++i) {
    found += counts_[static_cast<size_t>(i)];
  }
  return found;
}

HookStatistics::HookStatistics(int64_t width)
    : width_(width),
      sums_(static_cast<size_t>(width)),
      squares_(static_cast<size_t>(width)),
      row_(static_cast<size_t>(width)),
      part_sums_(static_cast<size_t>(width)),
      part_squares_(static_cast<size_t>(width)) {}

void HookStatistics::offer(const Outlier& token) {
  if (largest_.size() == kKept && !larger(token, largest_.back())) return;
  largest_.insert(std::upper_bound(largest_.begin(), largest_.end(), token, larger), token);
  if (largest_.size() > kKept) largest_.pop_back();
}

void HookStatistics::add(std::span<const std::byte> rows, DType dtype, int64_t first) {
  const int64_t row_bytes = width_ * size_of(dtype), count = std::ssize(rows) / row_bytes;
  ESPALIER_ASSERT(count * row_bytes == std::ssize(rows));
  for (int64_t begin = 0; begin < count; begin += kRows) {
    const int64_t piece = std::min(kRows, count - begin);
    const std::byte* at = rows.data() + begin * row_bytes;
    if (count_not_finite(at, dtype, piece * width_) == 0) {
      add_finite(at, dtype, piece, first + begin);
      continue;
    }
    for (int64_t row = 0; row < piece; ++row, at += row_bytes) {
      const int64_t bad = count_not_finite(at, dtype, width_);
      if (bad == 0) {
        add_finite(at, dtype, 1, first + begin + row);
        continue;
      }
      if (first_not_finite_ < 0) first_not_finite_ = first + begin + row;
      not_finite_ += bad;
    }
  }
}

void HookStatistics::add_finite(const std::byte* rows, DType dtype, int64_t count, int64_t first) {
  const auto width = static_cast<size_t>(width_);
  std::fill(part_sums_.begin(), part_sums_.end(), 0.0f);
  std::fill(part_squares_.begin(), part_squares_.end(), 0.0f);
  for (int64_t r = 0; r < count; ++r) {
    widen_values(rows + r * width_ * size_of(dtype), dtype, width_, row_.data());
    float* sums = part_sums_.data();
    float* squares = part_squares_.data();
    const float* row = row_.data();
    for (size_t c = 0; c < width; ++c) {
      sums[c] += row[c];
      squares[c] += row[c] * row[c];
    }
    const double norm = norm_of(row_);
    norms_.add(static_cast<float>(norm));
    norm_sum_ += norm;
    norm_max_ = std::max(norm_max_, norm);
    offer({first + r, norm});
  }
  for (size_t c = 0; c < width; ++c) {
    sums_[c] += static_cast<double>(part_sums_[c]);
    squares_[c] += static_cast<double>(part_squares_[c]);
  }
  tokens_ += count;
}

void HookStatistics::merge(const HookStatistics& other, int64_t offset) {
  for (size_t c = 0; c < sums_.size(); ++c) {
    sums_[c] += other.sums_[c];
    squares_[c] += other.squares_[c];
  }
  if (first_not_finite_ < 0 && other.first_not_finite_ >= 0) {
    first_not_finite_ = other.first_not_finite_ + offset;
  }
  tokens_ += other.tokens_;
  not_finite_ += other.not_finite_;
  norm_sum_ += other.norm_sum_;
  norm_max_ = std::max(norm_max_, other.norm_max_);
  norms_.merge(other.norms_);
  for (const Outlier& token : other.largest_) offer({token.index + offset, token.value});
}

HookSummary HookStatistics::summary() const {
  HookSummary s{.tokens = tokens_, .not_finite = not_finite_};
  if (tokens_ == 0) return s;
  const auto tokens = static_cast<double>(tokens_);
  const double values = tokens * static_cast<double>(width_);
  double sum = 0.0, squares = 0.0;
  std::vector<Outlier> channels;
  std::vector<double> sizes;
  for (size_t c = 0; c < sums_.size(); ++c) {
    sum += sums_[c];
    squares += squares_[c];
    sizes.push_back(std::sqrt(squares_[c] / tokens));
    channels.push_back({static_cast<int64_t>(c), sizes.back()});
  }
  s.mean = sum / values;
  s.std = std::sqrt(std::max(0.0, squares / values - s.mean * s.mean));
  s.norm_mean = norm_sum_ / tokens;
  s.norm_median = norms_.median();
  s.norm_max = norm_max_;
  const auto middle = sizes.begin() + static_cast<std::ptrdiff_t>(sizes.size() / 2);
  std::nth_element(sizes.begin(), middle, sizes.end());
  s.channel_median = *middle;
  std::erase_if(channels, [&](const Outlier& channel) {
    return channel.value < kOutlierChannel * s.channel_median || channel.value == 0.0;
  });
  std::sort(channels.begin(), channels.end(), larger);
  s.outlier_channels = std::ssize(channels);
  channels.resize(std::min(channels.size(), kKept));
  s.channels = std::move(channels);
  s.high_norm_tokens = norms_.above(kHighNorm * s.norm_median);
  return s;
}

}  // namespace espalier::extract
