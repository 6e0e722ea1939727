// SPDX-License-Identifier: Apache-2.0
#include "espalier/plan/updates.h"

#include <algorithm>
#include <numeric>

namespace espalier::plan {
namespace {

bool reads(const Step& step, int32_t buffer) {
  return std::any_of(step.inputs.begin(), step.inputs.end(),
                     [&](const Location& l) { return l.buffer == buffer; });
}

bool writes(const Step& step, int32_t buffer) {
  return std::any_of(step.outputs.begin(), step.outputs.end(),
                     [&](const Location& l) { return l.buffer == buffer; });
}

/// Whether two neighbours may change places.
bool independent(const Program& program, const Step& earlier, const Step& later) {
  const auto clash = [&](const std::vector<Location>& xs, const std::vector<Location>& ys) {
    for (const Location& x : xs) {
      for (const Location& y : ys) {
        if (program.root(x.buffer) == program.root(y.buffer)) return true;
      }
    }
    return false;
  };
  return !clash(earlier.outputs, later.inputs) && !clash(earlier.inputs, later.outputs) &&
         !clash(earlier.outputs, later.outputs);
}

}  // namespace

bool loop_may_overwrite(const Step& step, int32_t result_buffer, int32_t operand_buffer) {
  if (step.kind != StepKind::loop) return false;
  const std::vector<LoopBinding>& bindings = step.loop.bindings;
  const LoopBinding* result = nullptr;
  DType dtype = DType::f32;
  for (size_t i = 0; i < bindings.size(); ++i) {
    const LoopBinding& b = bindings[i];
    if (b.kind != LoopBinding::Kind::result) continue;
    if (step.outputs[static_cast<size_t>(b.number)].buffer != result_buffer) continue;
    if (!step.loop.may_overwrite[static_cast<size_t>(b.number)]) return false;
    result = &b;
    dtype = step.loop.loop.operands[i].dtype;
  }
  if (result == nullptr) return false;
  for (size_t i = 0; i < bindings.size(); ++i) {
    const LoopBinding& b = bindings[i];
    if (b.kind != LoopBinding::Kind::operand) continue;
    if (step.inputs[static_cast<size_t>(b.number)].buffer != operand_buffer) continue;
    if (b.strides != result->strides || b.offset != result->offset ||
        step.loop.loop.operands[i].dtype != dtype) {
      return false;
    }
  }
  return true;
}

bool update_in_place(Program& program, const Location& made, const Location& state) {
  Buffer& buffer = program.buffers[static_cast<size_t>(made.buffer)];
  if (buffer.kind != BufferKind::arena || buffer.shares >= 0) return false;
  int32_t maker = -1;
  for (size_t s = 0; s < program.steps.size(); ++s) {
    const Step& step = program.steps[s];
    if (writes(step, made.buffer)) maker = static_cast<int32_t>(s);
    if (maker >= 0 && static_cast<int32_t>(s) > maker && reads(step, state.buffer)) return false;
  }
  if (maker < 0 || !made.view.is_contiguous()) return false;
  const Step& step = program.steps[static_cast<size_t>(maker)];
  if (reads(step, state.buffer) && !loop_may_overwrite(step, made.buffer, state.buffer)) {
    return false;
  }
  // The memory of a state takes one result only.
  for (const Buffer& other : program.buffers) {
    if (other.shares == state.buffer) return false;
  }
  buffer.shares = state.buffer;
  return true;
}

void hoist_updates(Program& program) {
  constexpr int64_t kScalar = 8;  // bytes
  std::vector<Step>& steps = program.steps;
  std::vector<size_t> order(steps.size());  // steps are large: their numbers move
  std::iota(order.begin(), order.end(), size_t{0});
  for (size_t s = 0; s < steps.size(); ++s) {
    bool updates = false;
    bool scalars = steps[s].kind == StepKind::loop;
    for (const Location& l : steps[s].outputs) {
      const Buffer& buffer = program.buffers[static_cast<size_t>(program.root(l.buffer))];
      updates |= buffer.kind == BufferKind::state;
      scalars &= buffer.bytes <= kScalar;
    }
    if (!updates && !scalars) continue;
    size_t to = s;
    while (to > 0 && independent(program, steps[order[to - 1]], steps[s])) --to;
    std::rotate(order.begin() + static_cast<std::ptrdiff_t>(to),
                order.begin() + static_cast<std::ptrdiff_t>(s),
                order.begin() + static_cast<std::ptrdiff_t>(s) + 1);
  }
  std::vector<Step> moved;
  moved.reserve(steps.size());
  for (const size_t s : order) moved.push_back(std::move(steps[s]));
  steps = std::move(moved);
}

}  // namespace espalier::plan
