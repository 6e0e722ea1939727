// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/jit/loop_schedule.h"

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier::cpu::jit {
namespace {

using plan::InnerStride;
using plan::Loop;
using plan::LoopInst;
using plan::LoopOp;
using plan::LoopOperand;
using plan::LoopSpace;
using plan::OperandRole;

// Vector instructions of one operation, roughly: decides what to recompute and how far to unroll.
constexpr int kRecomputeCost = 3;  // at most this: cheaper than a store and a load of scratch
constexpr int kStridedCost = 16;   // one scalar access per lane
constexpr int kRoundCost = 5;
constexpr const char* kTooVaried = "the value varies over more dimensions than its operand";

bool is_reduction(LoopOp op) { return op == LoopOp::row_sum || op == LoopOp::row_max; }
bool is_sink(LoopOp op) { return op == LoopOp::store || op == LoopOp::accumulate; }

int cost_of(const Loop& loop, const LoopInst& inst) {
  const bool rounds = inst.dtype == DType::bf16 || inst.dtype == DType::f16;
  switch (inst.op) {
    case LoopOp::constant:
      return 0;
    case LoopOp::load: {
      const LoopOperand& operand = loop.operands[inst.operand];
      if (operand.inner == InnerStride::strided) return kStridedCost;
      return size_of(operand.dtype) < 4 ? 2 : 1;
    }
    case LoopOp::store:
    case LoopOp::accumulate:
      return loop.operands[inst.operand].inner == InnerStride::strided ? kStridedCost : 1;
    case LoopOp::exp:
      return 18;
    case LoopOp::log:
      return 24;
    case LoopOp::tanh:
      return 24;
    case LoopOp::erf:
      return 36;
    case LoopOp::sin:
    case LoopOp::cos:
      return 48;
    case LoopOp::pow:
      return 80;
    case LoopOp::div:
    case LoopOp::sqrt:
      return 5;
    case LoopOp::rsqrt:
      return 10;
    case LoopOp::uniform:
      return 26;
    case LoopOp::max:
    case LoopOp::min:
      return rounds ? kRoundCost + 2 : 2;
    case LoopOp::index:
    case LoopOp::neg:
    case LoopOp::abs:
    case LoopOp::select:
      return 1;
    default:
      return rounds ? kRoundCost + 1 : 1;
  }
}

class Scheduler {
 public:
  explicit Scheduler(const Loop& loop) : loop_(loop), count_(static_cast<int>(loop.insts.size())) {
    result_.values.resize(count_);
  }

  LoopSchedule run() {
    for (int i = 0; i < count_; ++i) place(i);
    mark_live();
    find_needs();
    for (int p = 0; p < sweeps_; ++p) result_.sweeps.push_back(build_sweep(p));
    for (int i = 0; i < count_; ++i) {
      const ScheduledValue& value = result_.values[i];
      const LoopOp op = loop_.insts[i].op;
      if (!value.live) continue;
      if (is_sink(op)) {
        if (value.space == LoopSpace::row) result_.row_sinks.push_back(i);
        if (value.space == LoopSpace::uniform) result_.uniform_sinks.push_back(i);
      } else if (value.space == LoopSpace::uniform) {
        result_.uniform_values.push_back(i);
      } else if (value.space == LoopSpace::row && !is_reduction(op)) {
        result_.sweeps[value.phase].row_values.push_back(i);
      }
    }
    return std::move(result_);
  }

 private:
  /// Whether instruction i runs once per element (reductions and sinks run where they read).
  bool in_sweep(int i) const {
    return is_reduction(loop_.insts[i].op) || result_.values[i].space == LoopSpace::full;
  }
  int sweep_of(int i) const {
    return result_.values[i].phase - (is_reduction(loop_.insts[i].op) ? 1 : 0);
  }

  void place(int i) {
    const LoopInst& inst = loop_.insts[i];
    ScheduledValue& value = result_.values[i];
    for (int a : inst.args) {
      if (a < 0) continue;
      value.space = std::max(value.space, result_.values[a].space);
      value.phase = std::max(value.phase, result_.values[a].phase);
    }
    switch (inst.op) {
      case LoopOp::load:
      case LoopOp::index:
        value.space = loop_.operands[inst.operand].space();
        value.affine = inst.op == LoopOp::index && value.space == LoopSpace::full;
        break;
      case LoopOp::add:
      case LoopOp::sub: {
        if (inst.dtype != DType::i64) break;
        const bool left = result_.values[inst.args[0]].affine;
        const bool right = result_.values[inst.args[1]].affine;
        const auto fixed = [&](int a) { return result_.values[a].space != LoopSpace::full; };
        value.affine = (left && fixed(inst.args[1])) ||
                       (right && fixed(inst.args[0]) && inst.op == LoopOp::add);
        break;
      }
      case LoopOp::uniform:  // seed and step make the key, which is computed once
        for (int a : {inst.args[0], inst.args[1]}) {
          if (result_.values[a].space != LoopSpace::uniform) check_failed(i, "seed and step vary");
        }
        break;
      case LoopOp::row_sum:
      case LoopOp::row_max:
        value.space = LoopSpace::row;
        value.phase += 1;
        break;
      case LoopOp::store: {
        const LoopSpace space = loop_.operands[inst.operand].space();
        if (space < value.space) check_failed(i, kTooVaried);
        value.space = space;
        break;
      }
      case LoopOp::accumulate:
        if (inst.space < value.space) check_failed(i, kTooVaried);
        value.space = inst.space;
        break;
      default:
        break;
    }
  }

  [[noreturn]] void check_failed(int i, const char* rule) const {
    fail(ErrorKind::internal, "jit", "malformed loop: {}: instruction {} of \"{}\"", rule, i,
         loop_.key());
  }

  void mark_live() {
    for (int i = count_ - 1; i >= 0; --i) {
      ScheduledValue& value = result_.values[i];
      value.live = value.live || is_sink(loop_.insts[i].op);
      if (!value.live) continue;
      for (int a : loop_.insts[i].args) {
        if (a >= 0) result_.values[a].live = true;
      }
      if (in_sweep(i)) sweeps_ = std::max(sweeps_, sweep_of(i) + 1);
      sweeps_ = std::max(sweeps_, value.phase + (value.space == LoopSpace::row ? 1 : 0));
    }
  }

  /// An output may be the memory of an input of equal strides: once it is stored, a load of the
  /// input no longer gives the value.
  bool overwritten_before(int load, int sweep) const {
    const LoopOperand& input = loop_.operands[loop_.insts[load].operand];
    for (int i = 0; i < count_; ++i) {
      const LoopInst& inst = loop_.insts[i];
      if (inst.op != LoopOp::store || result_.values[i].space != LoopSpace::full) continue;
      const LoopOperand& output = loop_.operands[inst.operand];
      if (size_of(output.dtype) == size_of(input.dtype) && sweep_of(i) < sweep) return true;
    }
    return false;
  }

  /// Cost of computing full value i again in `sweep`.
  int recompute_cost(int i, int sweep) const {
    const LoopInst& inst = loop_.insts[i];
    if (inst.op == LoopOp::load && overwritten_before(i, sweep)) return kRecomputeCost + 1;
    int cost = cost_of(loop_, inst);
    for (int a : inst.args) {
      if (cost > kRecomputeCost) break;
      if (a >= 0 && result_.values[a].space == LoopSpace::full) cost += recompute_cost(a, sweep);
    }
    return cost;
  }

  /// need_[p][i]: full value i is used in sweep p. Later sweeps decide what earlier ones keep.
  void find_needs() {
    need_.assign(sweeps_, std::vector<char>(count_, 0));
    reload_ = need_;
    for (int p = sweeps_ - 1; p >= 0; --p) {
      for (int i = count_ - 1; i >= 0; --i) {
        ScheduledValue& value = result_.values[i];
        if (!value.live) continue;
        const LoopOp op = loop_.insts[i].op;
        const bool root = (is_sink(op) || is_reduction(op)) && in_sweep(i) && sweep_of(i) == p;
        if (!root && !need_[p][i]) continue;
        if (!root && value.phase < p && recompute_cost(i, p) > kRecomputeCost) {
          reload_[p][i] = 1;
          need_[value.phase][i] = 1;
          if (value.slot < 0) {
            value.slot = static_cast<int>(result_.slots.size());
            result_.slots.push_back(register_of(loop_.insts[i].dtype));
          }
          continue;
        }
        for (int a : loop_.insts[i].args) {
          if (a >= 0 && result_.values[a].space == LoopSpace::full) need_[p][a] = 1;
        }
      }
    }
  }

  Sweep build_sweep(int p) const {
    Sweep sweep;
    int last_load = -1;
    for (int i = 0; i < count_; ++i) {
      if (need_[p][i] && !reload_[p][i] && loop_.insts[i].op == LoopOp::load) last_load = i;
    }
    std::vector<Step> waiting;  // stores wait for the last load: both may name the same memory
    int cost = 0;
    bool reduces = false;
    for (int i = 0; i < count_; ++i) {
      const ScheduledValue& value = result_.values[i];
      const LoopInst& inst = loop_.insts[i];
      const bool sink = is_sink(inst.op);
      if (value.live && (sink || is_reduction(inst.op)) && in_sweep(i) && sweep_of(i) == p) {
        const bool reduce = !sink || (inst.op == LoopOp::accumulate &&
                                      loop_.operands[inst.operand].inner == InnerStride::none);
        reduces = reduces || reduce;
        cost += cost_of(loop_, inst);
        (reduce ? sweep.steps : waiting)
            .push_back({reduce ? Step::Kind::reduce : Step::Kind::sink, i});
      } else if (need_[p][i]) {
        sweep.steps.push_back({reload_[p][i] ? Step::Kind::reload : Step::Kind::eval, i});
        if (value.slot >= 0 && value.phase == p) sweep.steps.push_back({Step::Kind::keep, i});
        const bool wide = register_of(inst.dtype) == Register::f64 ||
                          (register_of(inst.dtype) == Register::i64 && !value.affine);
        cost += reload_[p][i] ? 1 : cost_of(loop_, inst) * (wide ? 2 : 1);
      }
      if (i >= last_load) {
        sweep.steps.insert(sweep.steps.end(), waiting.begin(), waiting.end());
        waiting.clear();
      }
    }
    sweep.steps.insert(sweep.steps.end(), waiting.begin(), waiting.end());
    // Short bodies need several independent chains to hide latency; long ones have them already.
    sweep.unroll = cost <= 10 ? 4 : cost <= 16 || reduces ? 2 : 1;
    return sweep;
  }

  const Loop& loop_;
  int count_;
  int sweeps_ = 1;
  LoopSchedule result_;
  std::vector<std::vector<char>> need_;
  std::vector<std::vector<char>> reload_;
};

}  // namespace

int64_t scratch_size(Register reg) {
  switch (reg) {
    case Register::f64:
    case Register::i64:
      return 8;
    case Register::f32:
    case Register::i32:
      return 4;
    case Register::i1:
      break;
  }
  return 1;
}

LoopSchedule make_schedule(const Loop& loop) {
  check_loop(loop);
  return Scheduler(loop).run();
}

}  // namespace espalier::cpu::jit
