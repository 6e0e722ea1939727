// SPDX-License-Identifier: Apache-2.0
// The program: steps in order, the places their operands lie in, and one arena.
//
// Made in two parts, because only a backend knows how much scratch its kernels need:
//   build_program(fused graph)            steps and buffers, views resolved, copies where needed
//   plan_memory(program, scratch sizes)   in-place results, lifetimes, offsets
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "espalier/ir/graph.h"
#include "espalier/ir/strided.h"
#include "espalier/plan/lower_loop.h"

namespace espalier::plan {

enum class BufferKind : uint8_t {
  arena,     // lives between two steps
  state,     // a parameter, moment, counter: kept between runs
  external,  // a batch input: memory of the caller
};

struct Buffer {
  BufferKind kind = BufferKind::arena;
  int64_t bytes = 0;
  int32_t input = -1;  // graph input node for state and external
  std::string label;
  int32_t shares = -1;  // another buffer whose memory this one takes over (in-place result)
  int32_t first = -1;   // steps between which the contents are needed
  int32_t last = -1;
  int64_t offset = -1;    // in the arena or the state block
  bool borrowed = false;  // state that another program keeps
};

/// A value of the graph as it lies in memory: view offsets and strides count elements.
struct Location {
  int32_t buffer = -1;
  DType dtype = DType::f32;
  ir::StridedView view;
};

enum class StepKind : uint8_t { loop, matmul, attention, attention_grad, gather, scatter_add };
std::string_view name(StepKind kind);

/// Sizes and strides of one matmul step, in elements. See ir::Op::matmul.
struct MatmulGeometry {
  int64_t batch_outer = 1, batch_inner = 1, m = 1, n = 1, k = 1;
  struct Layout {
    int64_t row = 0, col = 0, outer = 0, inner = 0;
  };
  Layout a, b, c;
};

struct Step {
  StepKind kind = StepKind::loop;
  std::string label;  // scope and what it does
  ir::Attrs attrs;    // of the node
  std::vector<Location> inputs;
  std::vector<Location> outputs;
  LoweredLoop loop;            // kind loop
  MatmulGeometry matmul;       // kind matmul
  int64_t scratch_bytes = 0;   // set by the backend before plan_memory
  int32_t scratch = -1;        // its buffer
  int64_t packed_bytes = 0;    // of an operand packed once; set by the backend as well
  int32_t packed = -1;         // its buffer, kept between runs
  bool packed_shared = false;  // the backend finds memory for it elsewhere
};

struct Program {
  std::vector<Buffer> buffers;
  std::vector<Step> steps;
  std::map<std::string, int32_t> inputs;  // graph input name -> buffer
  std::map<std::string, ir::TensorType> input_types;
  std::map<std::string, Location> outputs;  // results that replace no input
  int64_t arena_bytes = 0;
  int64_t peak_live_bytes = 0;  // most bytes needed at one step: no arena can be smaller
  int64_t state_bytes = 0;

  /// The buffer whose memory `buffer` uses, following `shares`.
  int32_t root(int32_t buffer) const;
  std::string str() const;
};

/// `graph` is the result of the fuse pass.
Program build_program(const ir::Graph& graph);
void plan_memory(Program& program);

/// Whether the loop of `step` may write `result_buffer` over `operand_buffer`: same type, strides
/// and offset wherever it reads it, and no read after the write.
bool loop_may_overwrite(const Step& step, int32_t result_buffer, int32_t operand_buffer);

/// Geometry of a matmul node over strided operands; nothing where axes do not join.
std::optional<MatmulGeometry> matmul_geometry(const ir::Attrs& attrs, const ir::StridedView& lhs,
                                              const ir::StridedView& rhs);

}  // namespace espalier::plan
