// SPDX-License-Identifier: Apache-2.0
// Kernels of the CPU executable: one object a step, made once, run every step without allocating.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "espalier/backend/cpu/jit/loop_compiler.h"
#include "espalier/plan/program.h"

namespace espalier::cpu {

/// Where the buffers of a program are now.
class Memory {
 public:
  virtual ~Memory() = default;
  /// First byte of a buffer, following `shares`.
  virtual std::byte* buffer(int32_t id) const = 0;
  std::byte* at(const plan::Location& location) const {
    return buffer(location.buffer) + location.view.offset * size_of(location.dtype);
  }
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual int64_t scratch_bytes() const { return 0; }
  /// Resolves pointers; again whenever a batch input moves. `scratch` is 64-byte aligned.
  virtual void bind(const plan::Step& step, const Memory& memory, std::byte* scratch) = 0;
  virtual void run() = 0;
  /// Bytes of an operand that is packed once, and what their layout depends on.
  virtual int64_t packed_bytes() const { return 0; }
  virtual std::string packed_layout() const { return {}; }
  /// The packing: before the first run, and again after state may have changed. Several kernels may
  /// pack at a time, each with scratch of its own.
  virtual int64_t pack_scratch_bytes() const { return 0; }
  virtual void pack(std::byte* /*scratch*/) {}
  /// What was chosen, for dumps and profiles.
  virtual std::string describe() const = 0;
  virtual double flops() const { return 0.0; }
};

std::unique_ptr<Kernel> make_loop_kernel(const plan::Step& step, LoopFn fn, int threads);
std::unique_ptr<Kernel> make_matmul_kernel(const plan::Step& step, int threads);
std::unique_ptr<Kernel> make_attention_kernel(const plan::Step& step, int threads);
std::unique_ptr<Kernel> make_attention_grad_kernel(const plan::Step& step, int threads);
std::unique_ptr<Kernel> make_gather_kernel(const plan::Step& step, int threads);
std::unique_ptr<Kernel> make_scatter_add_kernel(const plan::Step& step, int threads);

}  // namespace espalier::cpu
