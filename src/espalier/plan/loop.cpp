// SPDX-License-Identifier: Apache-2.0
#include "espalier/plan/loop.h"

#include <fmt/format.h>

#include <bit>

namespace espalier::plan {

std::string Loop::key() const {
  std::string text = fmt::format("r{}", outer_rank);
  for (const LoopOperand& o : operands) {
    text += fmt::format(";o{}{}{}{}", static_cast<int>(o.role), name(o.dtype),
                        o.varies_outer ? 'v' : '-', static_cast<int>(o.inner));
  }
  for (const LoopInst& i : insts) {
    text +=
        fmt::format(";{}{}s{}", static_cast<int>(i.op), name(i.dtype), static_cast<int>(i.space));
    for (int32_t a : i.args) {
      if (a >= 0) text += fmt::format(",{}", a);
    }
    if (i.operand >= 0) text += fmt::format("@{}", i.operand);
    if (i.op == LoopOp::constant) text += fmt::format("={:x}", std::bit_cast<uint64_t>(i.value));
    if (i.op == LoopOp::uniform) text += fmt::format("#{}", i.id);
  }
  return text;
}

}  // namespace espalier::plan
