// SPDX-License-Identifier: Apache-2.0
// Building loops by hand and running them against the evaluator.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "espalier/backend/cpu/jit/loop_compiler.h"
#include "espalier/plan/loop_eval.h"

namespace espalier::cpu {

/// Appends instructions; each call returns the index of what it appended.
class LoopBuilder {
 public:
  explicit LoopBuilder(int outer_rank) { loop.outer_rank = outer_rank; }
  int operand(plan::OperandRole role, DType dtype, bool varies_outer,
              plan::InnerStride inner = plan::InnerStride::unit);
  int inst(plan::LoopOp op, DType dtype, std::vector<int> args = {}, int operand = -1);
  /// Input operand and its load.
  int load(DType dtype, plan::InnerStride inner = plan::InnerStride::unit, bool varies = true);
  int constant(DType dtype, double value);
  int index(bool varies = true, plan::InnerStride inner = plan::InnerStride::unit);
  int op(plan::LoopOp op, int a, int b = -1, int c = -1);  // dtype of the last argument
  int compare(plan::LoopOp op, int a, int b);
  int convert(int a, DType to);
  int uniform(int seed, int step, int index, int64_t id);
  /// Output operand and its store; the operand varies as the value does unless told.
  int store(int value, DType dtype, plan::InnerStride inner = plan::InnerStride::unit,
            bool varies = true);
  int accumulate(int value, DType dtype, plan::InnerStride inner, bool varies,
                 plan::LoopSpace space = plan::LoopSpace::full);
  plan::Loop loop;
};

/// Memory that ends at a page nobody may touch, with a pattern before it.
class GuardedBytes {
 public:
  explicit GuardedBytes(int64_t bytes);
  ~GuardedBytes();
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  char* data() { return data_; }
  int64_t size() const { return bytes_; }
  bool front_intact() const;

 private:
  int64_t bytes_, mapped_;
  char* map_;
  char* data_;
};

/// Operands for a loop over given extents, filled from a seed, and the call that names them.
class LoopCase {
 public:
  struct Options {
    uint64_t seed = 1;
    bool transposed = false;   // outer dimensions laid out in reverse order
    int64_t index_base = 5;    // of index operands
    double scale = 2.0;        // spread of float inputs
    int64_t inner_stride = 3;  // of strided operands
  };
  LoopCase(const plan::Loop& loop, std::vector<int64_t> outer, int64_t inner, Options options);
  LoopCase(const plan::Loop& loop, std::vector<int64_t> outer, int64_t inner)
      : LoopCase(loop, std::move(outer), inner, Options{}) {}

  /// Makes operand `output` the memory of operand `input` (equal strides).
  void in_place(int output, int input);
  plan::LoopCall call(int64_t begin, int64_t end);
  plan::LoopCall call() { return call(0, range()); }
  int64_t range() const { return loop.outer_rank == 0 ? inner : rows; }
  /// Runs [0, range) in pieces of `chunk` and compares every byte: results within their bounds,
  /// all else untouched. Returns what differs, or "".
  std::string check(LoopFn fn, int64_t chunk = 0);
  /// Runs into fresh memory and gives all bytes of outputs and accumulators.
  std::vector<std::vector<char>> run(LoopFn fn, int64_t chunk = 0);
  void restore();  // the memory as it was before any run

  template <typename T>
  T* as(int operand) {
    return reinterpret_cast<T*>(memory[operand]->data());
  }

  plan::Loop loop;
  std::vector<int64_t> outer;
  int64_t inner;
  int64_t rows = 1;
  std::vector<std::shared_ptr<GuardedBytes>> memory;  // per operand; null for index
  std::vector<void*> pointers;
  std::vector<int64_t> strides;
  std::vector<int64_t> ids;
  std::unique_ptr<GuardedBytes> scratch;
  std::vector<std::vector<char>> originals;
};

/// Compiler shared by the tests of one program, without a disk cache, for a vector width.
LoopCompiler& compiler(int vector_width = 0);
LoopFn compile(const plan::Loop& loop, int vector_width = 0);

}  // namespace espalier::cpu
