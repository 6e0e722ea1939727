// SPDX-License-Identifier: Apache-2.0
// What a training step of each model multiplies, looks up and keeps, for the cost of placements.
#pragma once

#include "espalier/models/bert.h"
#include "espalier/models/byte_lm.h"
#include "espalier/shard/cost.h"

namespace espalier::models {

/// Fused attention: no probabilities are kept. The head works on `labelled` of the positions (0.15
/// of them carry labels in the usual recipe; 1 for a head over all).
shard::Workload bert_workload(const BertConfig& config, int64_t seq, double labelled);
shard::Workload byte_lm_workload(const ByteLmConfig& config);

/// A BERT by name: "bert-base", or "bert-LAYERSl-HIDDENh" such as bert-100l-5120h, with four times
/// the hidden size between the dense layers and heads of 64 (beyond a hidden size of 1024: 128).
/// Nothing when the name is neither.
std::optional<BertConfig> named_bert(std::string_view name);

}  // namespace espalier::models
