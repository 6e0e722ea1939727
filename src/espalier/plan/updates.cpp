// SPDX-License-Identifier: Apache-2.0
#include "espalier/plan/updates.h"

#include <algorithm>

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

void StateUpdates::see_new_steps() {
  uses_.resize(program_.buffers.size());
  for (; seen_ < program_.steps.size(); ++seen_) {
    for (const Location& l : program_.steps[seen_].inputs) {
      uses_[static_cast<size_t>(l.buffer)].last_read = static_cast<int32_t>(seen_);
    }
    for (const Location& l : program_.steps[seen_].outputs) {
      Uses& uses = uses_[static_cast<size_t>(l.buffer)];
      if (uses.first_write < 0) uses.first_write = static_cast<int32_t>(seen_);
      uses.last_write = static_cast<int32_t>(seen_);
    }
  }
}

bool StateUpdates::in_place(const Location& made, const Location& state) {
  see_new_steps();
  Program& program = program_;
  Buffer& buffer = program.buffers[static_cast<size_t>(made.buffer)];
  if (buffer.kind != BufferKind::arena || buffer.shares >= 0) return false;
  const Uses& makers = uses_[static_cast<size_t>(made.buffer)];
  Uses& readers = uses_[static_cast<size_t>(state.buffer)];
  const int32_t maker = makers.last_write;
  if (maker >= 0 && readers.last_read > maker) return false;
  // Where several steps make the result, only those may read the state once the first has run.
  for (int32_t s = makers.first_write + 1; s < maker; ++s) {
    const Step& step = program.steps[static_cast<size_t>(s)];
    if (reads(step, state.buffer) && !writes(step, made.buffer)) return false;
  }
  if (maker < 0 || !made.view.is_contiguous()) return false;
  const Step& step = program.steps[static_cast<size_t>(maker)];
  if (reads(step, state.buffer) && !loop_may_overwrite(step, made.buffer, state.buffer)) {
    return false;
  }
  // The memory of a state takes one result only.
  if (readers.taken) return false;
  readers.taken = true;
  buffer.shares = state.buffer;
  return true;
}

void hoist_updates(Program& program) {
  constexpr int64_t kScalar = 8;  // bytes
  std::vector<Step>& steps = program.steps;
  std::vector<size_t> order;  // steps are large: their numbers move
  std::vector<size_t> place;  // of each step in `order`
  // The steps so far that write and that read the memory of each buffer.
  std::vector<std::vector<size_t>> writers(program.buffers.size());
  std::vector<std::vector<size_t>> readers(program.buffers.size());
  for (size_t s = 0; s < steps.size(); ++s) {
    bool updates = false;
    bool scalars = steps[s].kind == StepKind::loop;
    size_t earliest = 0;
    const auto wait_for = [&](const std::vector<size_t>& others) {
      for (const size_t other : others) earliest = std::max(earliest, place[other] + 1);
    };
    for (const Location& l : steps[s].outputs) {
      const auto root = static_cast<size_t>(program.root(l.buffer));
      const Buffer& buffer = program.buffers[root];
      updates |= buffer.kind == BufferKind::state;
      scalars &= buffer.bytes <= kScalar;
    }
    size_t to = s;
    if (updates || scalars) {
      for (const Location& l : steps[s].inputs) {
        wait_for(writers[static_cast<size_t>(program.root(l.buffer))]);
      }
      for (const Location& l : steps[s].outputs) {
        wait_for(writers[static_cast<size_t>(program.root(l.buffer))]);
        wait_for(readers[static_cast<size_t>(program.root(l.buffer))]);
      }
      to = earliest;
    }
    for (size_t p = to; p < order.size(); ++p) ++place[order[p]];
    order.insert(order.begin() + static_cast<std::ptrdiff_t>(to), s);
    place.push_back(to);
    for (const Location& l : steps[s].inputs) {
      readers[static_cast<size_t>(program.root(l.buffer))].push_back(s);
    }
    for (const Location& l : steps[s].outputs) {
      writers[static_cast<size_t>(program.root(l.buffer))].push_back(s);
    }
  }
  std::vector<Step> moved;
  moved.reserve(steps.size());
  for (const size_t s : order) moved.push_back(std::move(steps[s]));
  steps = std::move(moved);
}

}  // namespace espalier::plan
