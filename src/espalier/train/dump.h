// SPDX-License-Identifier: Apache-2.0
// Training steps as text, at any stage between the model's code and the program that runs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "espalier/train/byte_lm_options.h"
#include "espalier/train/step.h"

namespace espalier::train {

/// Stages in order: "traced", the canonical passes, "grad", the passes on the step, "fused",
/// "program", and "partition", which partition_step.h prints.
std::vector<std::string> dump_stages();

/// Text of a stage. All but "program" parse back (ir::parse). Throws `user` with the nearest stage.
std::string dump_byte_lm(const ByteLmOptions& options, std::string_view stage);

/// A BERT by name or config.json (see PlanJobOptions::model), AdamW with clipping.
struct BertDumpOptions {
  std::string model = "bert-base";
  int64_t batch = 8;
  int64_t seq = 128;
  int64_t labels = 160;  // of the batch
  CompileOptions compile;
};
Step bert_dump_step(const BertDumpOptions& options);
std::string dump_bert(const BertDumpOptions& options, std::string_view stage);

}  // namespace espalier::train
