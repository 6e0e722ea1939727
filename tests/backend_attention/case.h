// SPDX-License-Identifier: Apache-2.0
// One attention case: guarded buffers, the reference in double, and the comparison.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "espalier/backend/cpu/attention/attention.h"
#include "espalier/backend/cpu/attention/engine.h"

namespace espalier::cpu {

/// Elements of one dtype between guard bands. Every element starts as NaN.
class Buffer {
 public:
  Buffer(DType dtype, int64_t count);
  void* data() { return bytes_.data() + kGuard * size_of(dtype_); }
  const void* data() const { return bytes_.data() + kGuard * size_of(dtype_); }
  void* at(int64_t element) { return static_cast<char*>(data()) + element * size_of(dtype_); }
  double get(int64_t i) const;
  void set(int64_t i, double value);  // rounds to the dtype
  DType dtype() const { return dtype_; }
  int64_t count() const { return count_; }
  /// Elements, guards included, whose bits are still those of construction.
  int64_t untouched() const;
  static constexpr int64_t kGuard = 64;
  bool operator==(const Buffer& other) const { return bytes_ == other.bytes_; }

 private:
  DType dtype_;
  int64_t count_;
  std::vector<uint8_t> bytes_;
};

struct Options {
  int64_t batch = 1, heads = 2, kv_heads = 2, seq_q = 7, seq_k = 7, head_dim = 8;
  DType dtype = DType::f32, out_dtype = DType::f32, grad_dtype = DType::f32;
  bool causal = false;
  bool key_mask = false;  // random, with a stretch of hidden keys; all hidden in the last batch row
  bool segments = false;  // packed sequences of uneven length; no partner for the last query
  float dropout = 0.0f;
  double magnitude = 1.0;  // standard deviation of q and k
  int threads = 1;
};

/// Inputs, poisoned outputs and expected values with their error budgets. q, k and v, and dq, dk
/// and dv, are views into one buffer whose rows are a few elements longer than needed.
struct Case {
  explicit Case(const Options& options, uint64_t seed = 1);

  void forward(const AttentionPlan& plan);
  void backward(const AttentionPlan& plan);
  void run();  // forward and backward as attention.h plans them

  Options options;
  AttentionParams params;
  Buffer qkv, out, lse, dout, dqkv;
  int64_t k_offset, v_offset;  // of the views, in elements

 private:
  std::vector<uint8_t> key_mask_;
  std::vector<int32_t> segments_q_, segments_k_;
};

/// The largest |got - want| / budget of one output and where it was. NaN counts as infinite.
struct Deviation {
  double ratio = 0.0;
  std::string where;
  void add(double got, double want, double budget, const char* what, int64_t b, int64_t h,
           int64_t i, int64_t d);
};

/// Compares all outputs of a case that has run; also reports writes outside of the outputs as an
/// infinite deviation. `scale_error` spoils the reference: the check of the check.
Deviation compare(const Case& c, double scale_error = 0.0);

}  // namespace espalier::cpu
