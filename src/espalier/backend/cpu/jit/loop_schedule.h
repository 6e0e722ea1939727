// SPDX-License-Identifier: Apache-2.0
// How a loop runs: which values exist once, once per row or per element, in how many sweeps over
// the inner dimension, and what is kept from one sweep for a later one. Free of LLVM.
#pragma once

#include <cstdint>
#include <vector>

#include "espalier/plan/loop.h"

namespace espalier::cpu::jit {

/// What a value is while it is computed.
enum class Register : uint8_t { f32, f64, i32, i64, i1 };
Register register_of(DType dtype);
/// Bytes of one element of a row kept in scratch.
int64_t scratch_size(Register reg);

/// Scratch rows are padded to this many elements: no vector block is longer.
inline constexpr int64_t kMaxBlock = 64;

struct ScheduledValue {
  plan::LoopSpace space = plan::LoopSpace::uniform;
  int phase = 0;        // the sweep that can compute it first
  bool live = false;    // something needs it
  bool affine = false;  // full i64: start + i * stride, from an index operand
  int slot = -1;        // scratch row that keeps it for later sweeps
};

struct Step {
  enum class Kind : uint8_t {
    eval,    // compute the value
    reload,  // read it from its scratch row
    keep,    // write it to its scratch row
    reduce,  // row_sum, row_max, or accumulate into an operand without inner dimension
    sink,    // store, or accumulate along the inner dimension
  };
  Kind kind = Kind::eval;
  int inst = -1;
};

struct Sweep {
  std::vector<int> row_values;  // once per row, before the sweep, in order
  std::vector<Step> steps;      // per vector block, in order
  int unroll = 1;               // vectors per block: 1, 2 or 4
};

struct LoopSchedule {
  std::vector<ScheduledValue> values;  // per instruction
  std::vector<int> uniform_values;     // once per call, in order
  std::vector<Sweep> sweeps;
  std::vector<int> row_sinks;      // at the end of each row
  std::vector<int> uniform_sinks;  // at the end of the call
  std::vector<Register> slots;     // registers of the scratch rows
};

/// Checks the loop and schedules it. Throws `internal` naming the instruction that breaks a rule.
LoopSchedule make_schedule(const plan::Loop& loop);
/// The check alone.
void check_loop(const plan::Loop& loop);

}  // namespace espalier::cpu::jit
