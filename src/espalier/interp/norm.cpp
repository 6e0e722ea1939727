// SPDX-License-Identifier: Apache-2.0
// Composites over the last axis.
#include <algorithm>
#include <cmath>
#include <span>

#include "espalier/interp/kernels.h"

namespace espalier::interp {
namespace {

using ir::Attr;
using ir::Op;

/// The rows of operand 0, one after the other.
class Rows {
 public:
  explicit Rows(const Call& call)
      : data_(call.data(0)),
        width_(static_cast<size_t>(call.shape(0)[call.shape(0).rank() - 1])),
        count_(width_ == 0 ? 0 : data_.size() / width_) {}
  size_t count() const { return count_; }
  size_t width() const { return width_; }
  std::span<const double> operator[](size_t row) const {
    return std::span(data_).subspan(row * width_, width_);
  }

 private:
  const Elements& data_;
  size_t width_;
  size_t count_;
};

double mean_square(std::span<const double> x, double centre) {
  double sum = 0.0;
  for (double v : x) sum += (v - centre) * (v - centre);
  return sum / static_cast<double>(x.size());
}

std::vector<Elements> layer_norm(const Call& call) {
  const Rows rows(call);
  Elements out;
  out.reserve(call.data(0).size());
  for (size_t r = 0; r < rows.count(); ++r) {
    double mean = 0.0;
    for (double v : rows[r]) mean += v;
    mean /= static_cast<double>(rows.width());
    const double factor =
        1.0 / std::sqrt(mean_square(rows[r], mean) + call.node.attrs.real(Attr::epsilon));
    for (size_t i = 0; i < rows.width(); ++i) {
      out.push_back((rows[r][i] - mean) * factor * call.data(1)[i] + call.data(2)[i]);
    }
  }
  return {std::move(out)};
}

std::vector<Elements> rms_norm(const Call& call) {
  const Rows rows(call);
  Elements out;
  out.reserve(call.data(0).size());
  for (size_t r = 0; r < rows.count(); ++r) {
    const double factor =
        1.0 / std::sqrt(mean_square(rows[r], 0.0) + call.node.attrs.real(Attr::epsilon));
    for (size_t i = 0; i < rows.width(); ++i) out.push_back(rows[r][i] * factor * call.data(1)[i]);
  }
  return {std::move(out)};
}

double log_sum_exp(std::span<const double> x) {
  const double top = *std::max_element(x.begin(), x.end());
  double sum = 0.0;
  for (double v : x) sum += std::exp(v - top);
  return top + std::log(sum);
}

std::vector<Elements> softmax(const Call& call) {
  const Rows rows(call);
  Elements out;
  out.reserve(call.data(0).size());
  for (size_t r = 0; r < rows.count(); ++r) {
    const double top = *std::max_element(rows[r].begin(), rows[r].end());
    double sum = 0.0;
    for (double v : rows[r]) sum += std::exp(v - top);
    for (double v : rows[r]) out.push_back(std::exp(v - top) / sum);
  }
  return {std::move(out)};
}

/// A label outside the classes gives 0.
std::vector<Elements> softmax_cross_entropy(const Call& call) {
  const Rows rows(call);
  Elements out(call.data(1).size(), 0.0);
  for (size_t r = 0; r < rows.count(); ++r) {
    const double label = call.data(1)[r];
    if (label < 0.0 || label >= static_cast<double>(rows.width())) continue;
    out[r] = log_sum_exp(rows[r]) - rows[r][static_cast<size_t>(label)];
  }
  return {std::move(out)};
}

}  // namespace

std::vector<KernelRow> norm_kernels() {
  return {{Op::layer_norm, layer_norm},
          {Op::rms_norm, rms_norm},
          {Op::softmax, softmax},
          {Op::softmax_cross_entropy, softmax_cross_entropy}};
}

}  // namespace espalier::interp
