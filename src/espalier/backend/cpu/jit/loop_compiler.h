// SPDX-License-Identifier: Apache-2.0
// Compiles fused loops (plan/loop.h) to machine code with LLVM and keeps the objects on disk.
//
// What compiled code promises:
//  - each elementwise instruction rounds once to its dtype: nothing is contracted or reassociated,
//    so fusing, chunking a call and choosing another vector width never change an elementwise
//    value;
//  - a row reduction adds in one fixed order given the row's length and the vector width;
//  - reads stay inside the operands' elements, also at the end of a row.
// Functions with no exact result (exp, log, tanh, erf, sin, cos, pow) in f32 stay within 3 units in
// the last place; docs/decisions/jit.md lists the measured bound of each. In f64 they are libm's.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "espalier/plan/loop.h"

namespace espalier::cpu {

/// Compiled loop. Valid while the compiler that made it lives; may run on many threads at once.
using LoopFn = void (*)(const plan::LoopCall*);

struct JitOptions {
  std::string cache_dir;  // empty: no disk cache. A folder that cannot be written is ignored.
  int threads = 2;        // that compile
  int vector_width = 0;   // f32 lanes: 4, 8 or 16; 0: what the processor has (cpu_info().isa)
};

struct JitStats {
  int64_t loops = 0;       // asked for
  int64_t compiled = 0;    // distinct ones compiled here
  int64_t from_cache = 0;  // distinct ones found on disk
  double seconds = 0.0;    // inside compile()
};

class LoopCompiler {
 public:
  explicit LoopCompiler(JitOptions options = {});
  ~LoopCompiler();
  LoopCompiler(const LoopCompiler&) = delete;
  LoopCompiler& operator=(const LoopCompiler&) = delete;

  /// One function per loop; loops of equal structure (Loop::key) share one. Throws `internal` for
  /// a malformed loop (wrong arity, mixed register types, a row reduction in a flat loop).
  std::vector<LoopFn> compile(std::span<const plan::Loop> loops);
  JitStats stats() const;
  /// The loop as LLVM IR text, as `espalier dump` shows it.
  std::string llvm_ir(const plan::Loop& loop) const;
  /// The loop as assembly text.
  std::string assembly(const plan::Loop& loop) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Bytes of LoopCall::scratch that one thread needs; 0 when the loop keeps no row.
int64_t loop_scratch_bytes(const plan::Loop& loop, int64_t inner_extent);

}  // namespace espalier::cpu
