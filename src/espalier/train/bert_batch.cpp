// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bert_batch.h"

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier::train {

std::map<std::string, const void*> BertBatch::inputs() const {
  return {{"input_ids", input_ids.data()},
          {"segments", segments.data()},
          {"positions", positions.data()},
          {"label_rows", label_rows.data()},
          {"labels", label_ids.data()}};
}

void fill_bert_batch(const MlmData& data, int64_t first, int64_t count, int64_t parts, int64_t rows,
                     BertBatch& batch) {
  ESPALIER_ASSERT(count > 0 && count <= parts * rows);
  std::vector<MlmBatch> made(static_cast<size_t>(parts));
  batch.parts = parts;
  batch.labels = 0;
  int64_t room = data.usual_capacity(rows);
  for (int64_t p = 0; p < parts; ++p) {
    MlmBatch& part = made[static_cast<size_t>(p)];
    const int64_t there = std::clamp<int64_t>(count - p * rows, 0, rows);
    if (there > 0) data.fill(first + p * rows, there, part);
    batch.labels += part.label_count;
    room = std::max(room, data.capacity_for(rows, part.label_count));
  }
  const int64_t seq_len = made.front().seq_len;
  batch.shape = {.rows = rows, .seq_len = seq_len, .label_room = room};

  // Padding is token 0 of segment 0, which nothing else sees.
  const auto places = static_cast<size_t>(rows * seq_len);
  const auto join = [&](std::vector<int32_t> MlmBatch::*member, size_t size, int32_t rest,
                        std::vector<int32_t>& out) {
    out.assign(size * static_cast<size_t>(parts), rest);
    for (size_t p = 0; p < made.size(); ++p) {
      const std::vector<int32_t>& values = made[p].*member;
      const size_t used = std::min(values.size(), size);
      std::copy_n(values.begin(), used, out.begin() + static_cast<std::ptrdiff_t>(p * size));
    }
  };
  join(&MlmBatch::input_ids, places, 0, batch.input_ids);
  join(&MlmBatch::segments, places, 0, batch.segments);
  join(&MlmBatch::positions, places, 0, batch.positions);
  join(&MlmBatch::label_index, static_cast<size_t>(room), 0, batch.label_rows);
  join(&MlmBatch::label_ids, static_cast<size_t>(room), kNoLabel, batch.label_ids);
}

void set_bert_batch(Step& step, const BertBatch& batch) {
  for (const auto& [name, data] : batch.inputs()) step.set_batch(name, data);
}

}  // namespace espalier::train
