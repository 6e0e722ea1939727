// SPDX-License-Identifier: Apache-2.0
// Rows of documents as the inputs of BERT's steps.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "espalier/train/mlm_data.h"
#include "espalier/train/step.h"

namespace espalier::train {

/// Sizes of one part of a batch: what a step is compiled for.
struct BertShape {
  int64_t rows = 0, seq_len = 0;
  int64_t label_room = 0;  // the head works on that many places
};

/// Parts of equal size; each input holds all of them in a row.
struct BertBatch {
  int64_t parts = 1;
  BertShape shape;                                      // of a part
  int64_t labels = 0;                                   // of all parts
  std::vector<int32_t> input_ids, segments, positions;  // [parts * rows, seq_len]
  std::vector<int32_t> label_rows;  // [parts * label_room]; row * seq_len + place, within a part
  std::vector<int32_t> label_ids;   // [parts * label_room]; kNoLabel where there is none

  /// By the names of a step's batch inputs.
  std::map<std::string, const void*> inputs() const;
};

/// Rows [first, first + count) of the data in `parts` parts of `rows` rows; rows beyond `count` are
/// padding. The room for labels is that of the usual part, or larger where a part has more.
void fill_bert_batch(const MlmData& data, int64_t first, int64_t count, int64_t parts, int64_t rows,
                     BertBatch& batch);

void set_bert_batch(Step& step, const BertBatch& batch);

}  // namespace espalier::train
