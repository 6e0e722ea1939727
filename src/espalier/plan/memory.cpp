// SPDX-License-Identifier: Apache-2.0
// Memory: in-place results, lifetimes, and offsets in one arena.
#include <algorithm>
#include <limits>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/plan/program.h"

namespace espalier::plan {
namespace {

constexpr int64_t kAlignment = 128;  // two cache lines: neighbours never share one

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

Buffer& at(Program& program, int32_t buffer) {
  return program.buffers[static_cast<size_t>(buffer)];
}

void add_kernel_buffers(Program& program) {
  for (Step& step : program.steps) {
    if (step.packed_bytes > 0) {
      Buffer packed;
      packed.kind = BufferKind::state;
      packed.bytes = step.packed_bytes;
      packed.borrowed = step.packed_shared;
      packed.label = step.label + ":packed";
      program.buffers.push_back(packed);
      step.packed = static_cast<int32_t>(program.buffers.size()) - 1;
    }
    if (step.scratch_bytes <= 0) continue;
    Buffer buffer;
    buffer.bytes = step.scratch_bytes;
    buffer.label = step.label + ":scratch";
    program.buffers.push_back(buffer);
    step.scratch = static_cast<int32_t>(program.buffers.size()) - 1;
  }
}

void find_lifetimes(Program& program) {
  for (Buffer& b : program.buffers) b.first = b.last = -1;
  const auto touch = [&](int32_t buffer, int32_t step) {
    Buffer& b = at(program, program.root(buffer));
    if (b.first < 0) b.first = step;
    b.last = step;
  };
  for (size_t s = 0; s < program.steps.size(); ++s) {
    const auto step = static_cast<int32_t>(s);
    for (const Location& l : program.steps[s].inputs) touch(l.buffer, step);
    for (const Location& l : program.steps[s].outputs) touch(l.buffer, step);
    if (program.steps[s].scratch >= 0) touch(program.steps[s].scratch, step);
  }
  const auto end = static_cast<int32_t>(program.steps.size());
  for (const auto& [name, location] : program.outputs) touch(location.buffer, end);
}

/// A loop's result takes over an operand that dies there and lies the same way.
void share_in_place(Program& program) {
  for (size_t s = 0; s < program.steps.size(); ++s) {
    Step& step = program.steps[s];
    if (step.kind != StepKind::loop) continue;
    std::vector<int32_t> taken;
    for (const Location& out : step.outputs) {
      Buffer& result = at(program, out.buffer);
      const bool own = result.kind == BufferKind::arena && result.shares < 0 &&
                       result.first == static_cast<int32_t>(s);
      if (!own) continue;
      for (const Location& in : step.inputs) {
        const int32_t operand = program.root(in.buffer);
        const Buffer& b = at(program, operand);
        const bool dies = b.kind == BufferKind::arena && b.last == static_cast<int32_t>(s) &&
                          b.bytes == result.bytes && operand != out.buffer;
        if (!dies || std::count(taken.begin(), taken.end(), operand) > 0) continue;
        // Every location of the operand in this step must be checked under its own buffer number.
        bool same = true;
        for (const Location& other : step.inputs) {
          if (program.root(other.buffer) != operand) continue;
          same = same && loop_may_overwrite(step, out.buffer, other.buffer);
        }
        if (!same) continue;
        const int32_t last = result.last;
        result.shares = operand;
        at(program, operand).last = last;
        taken.push_back(operand);
        break;
      }
    }
  }
}

/// Greedy by size: each buffer goes to the lowest gap among those that live at the same time.
void assign_offsets(Program& program) {
  std::vector<int32_t> order;
  for (size_t i = 0; i < program.buffers.size(); ++i) {
    const Buffer& b = program.buffers[i];
    if (b.kind == BufferKind::arena && b.shares < 0 && b.first >= 0) {
      order.push_back(static_cast<int32_t>(i));
    }
  }
  std::stable_sort(order.begin(), order.end(), [&](int32_t x, int32_t y) {
    return at(program, x).bytes > at(program, y).bytes;
  });
  struct Placed {
    int64_t from, to;
    int32_t first, last;
  };
  const auto lower = [](const Placed& x, const Placed& y) {
    return std::pair(x.from, x.to) < std::pair(y.from, y.to);
  };
  std::vector<Placed> placed;  // from the bottom of the arena up
  for (int32_t id : order) {
    Buffer& b = at(program, id);
    // The smallest gap that fits, else behind the last.
    int64_t best = -1;
    int64_t best_gap = std::numeric_limits<int64_t>::max();
    int64_t free_from = 0;
    for (const auto& [from, to, first, last] : placed) {
      if (last < b.first || first > b.last) continue;
      const int64_t gap = from - free_from;
      if (gap >= aligned(b.bytes) && gap < best_gap) {
        best = free_from;
        best_gap = gap;
      }
      free_from = std::max(free_from, to);
    }
    b.offset = best >= 0 ? best : free_from;
    program.arena_bytes = std::max(program.arena_bytes, b.offset + aligned(b.bytes));
    const Placed now{b.offset, b.offset + aligned(b.bytes), b.first, b.last};
    placed.insert(std::upper_bound(placed.begin(), placed.end(), now, lower), now);
  }
}

void measure_peak(Program& program) {
  std::vector<int64_t> change(program.steps.size() + 2, 0);
  for (const Buffer& b : program.buffers) {
    if (b.kind != BufferKind::arena || b.shares >= 0 || b.first < 0) continue;
    change[static_cast<size_t>(b.first)] += aligned(b.bytes);
    change[static_cast<size_t>(b.last) + 1] -= aligned(b.bytes);
  }
  int64_t live = 0;
  for (int64_t c : change) {
    live += c;
    program.peak_live_bytes = std::max(program.peak_live_bytes, live);
  }
}

void place_state(Program& program) {
  for (Buffer& b : program.buffers) {
    if (b.kind != BufferKind::state || b.borrowed) continue;
    b.offset = program.state_bytes;
    program.state_bytes += aligned(b.bytes);
  }
}

}  // namespace

void plan_memory(Program& program) {
  add_kernel_buffers(program);
  find_lifetimes(program);
  share_in_place(program);
  assign_offsets(program);
  measure_peak(program);
  place_state(program);
}

std::string Program::str() const {
  std::string text = fmt::format("program: {} steps, arena {} bytes (live {}), state {} bytes\n",
                                 steps.size(), arena_bytes, peak_live_bytes, state_bytes);
  const auto place = [&](const Location& l) {
    const Buffer& b = buffers[static_cast<size_t>(root(l.buffer))];
    const char* kind = b.kind == BufferKind::arena   ? "arena"
                       : b.kind == BufferKind::state ? "state"
                                                     : "batch";
    return fmt::format("{}+{}{}:{}{}", kind, b.offset,
                       l.view.offset != 0 ? fmt::format("+{}", l.view.offset) : "",
                       espalier::name(l.dtype), l.view.shape.str());
  };
  for (size_t s = 0; s < steps.size(); ++s) {
    text += fmt::format("{:4} {} {}", s, name(steps[s].kind), steps[s].label);
    for (const Location& l : steps[s].inputs) text.append(" ").append(place(l));
    text += " ->";
    for (const Location& l : steps[s].outputs) text.append(" ").append(place(l));
    text += '\n';
  }
  return text;
}

}  // namespace espalier::plan
