// SPDX-License-Identifier: Apache-2.0
// Matrix products on the CPU: a plan made once per product, run every step.
//
//   auto plan = Matmul::create(desc, {.threads = 2});
//   plan->run(a, b, bias, c, scratch);   // scratch: plan->scratch_bytes(), 64-byte aligned
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "espalier/backend/cpu/cpu_info.h"
#include "espalier/backend/cpu/matmul/matmul_desc.h"

namespace espalier::cpu {

struct MatmulOptions {
  int threads = 1;
  std::optional<Isa> isa;      // default: cpu_info().isa
  std::string implementation;  // default: the first in the table that accepts
};

/// One product. Not thread-safe: a plan is run by one caller at a time (it uses threads itself).
class Matmul {
 public:
  /// Goes through the table of implementations (docs/decisions/matmul.md) in order. Throws `user`
  /// on sizes below 1, on types other than f32, bf16, f16, on a C that is neither f32 nor A's type,
  /// and on an unknown implementation; `unsupported` when the implementation asked for declines.
  static std::unique_ptr<Matmul> create(const MatmulDesc& desc, const MatmulOptions& options);
  virtual ~Matmul() = default;

  virtual int64_t scratch_bytes() const = 0;
  /// Pointers address element (0, 0) of batch entry (0, 0). `bias` is ignored unless desc.bias. C
  /// must not overlap an input. Allocates nothing of ours. Not for plans with a packed B.
  virtual void run(const void* a, const void* b, const void* bias, void* c, void* scratch) = 0;

  /// Bytes of B packed beforehand (desc.b_constant); 0 where this plan gains nothing from it.
  virtual int64_t packed_b_bytes() const { return 0; }
  /// All that the packed bytes depend on beside the values: where it is equal, one packed B serves
  /// both plans. It does not depend on the number of rows where that can be avoided.
  virtual std::string packed_layout() const { return {}; }
  virtual int64_t pack_scratch_bytes() const { return 0; }
  /// `b` has desc.b's layout and the type `from`; values are rounded to desc.b_dtype. `second` is
  /// the other matrix of a swiglu, of the same layout. Several threads may pack with one plan, each
  /// into memory and scratch of its own.
  virtual void pack_b(const void* b, const void* second, DType from, void* packed,
                      void* scratch) const;
  virtual void run_packed(const void* a, const void* packed, const void* bias, void* c,
                          void* scratch);

  /// "packed gemm 6x16 avx2, ...; declined: onednn (no bf16 under avx2)"
  const std::string& describe() const { return description_; }
  const MatmulDesc& desc() const { return desc_; }

 protected:
  explicit Matmul(const MatmulDesc& desc) : desc_(desc) {}
  MatmulDesc desc_;

 private:
  std::string description_;
};

}  // namespace espalier::cpu
