// SPDX-License-Identifier: Apache-2.0
// Epilogues: bias, activation and conversion that a matmul applies as it stores its result.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "espalier/ir/builder.h"

namespace espalier::passes {

struct Epilogue {
  int32_t dot = -1;
  int32_t second = -1;     // of a swiglu: silu(dot) * second
  ir::Value bias;          // [last axis of the product], or none
  std::string activation;  // "relu", "swiglu" or empty
  DType dtype = DType::f32;
};

/// Matches convert(relu(add(dot, broadcast(bias)))) ending at node `result`, where any of the three
/// may be missing and the dot has no other use. `inner` says which nodes exist for this alone;
/// `uses` are the graph's use counts.
std::optional<Epilogue> match_epilogue(const ir::Graph& graph, const std::vector<int32_t>& uses,
                                       int32_t result, const std::function<bool(int32_t)>& inner);

/// The same for convert(silu(dot) * second), where both products have one left operand and packed
/// right ones of one shape, and no other use.
std::optional<Epilogue> match_gated(const ir::Graph& graph, const std::vector<int32_t>& uses,
                                    int32_t result, const std::function<bool(int32_t)>& inner);

ir::Value add_epilogue_matmul(const ir::Graph& graph, const Epilogue& epilogue,
                              const ir::Rewriter& rewriter, ir::Builder& out);

}  // namespace espalier::passes
