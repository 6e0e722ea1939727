// SPDX-License-Identifier: Apache-2.0
// A small BERT, batches for it, and runs of its training step.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "espalier/base/rng.h"
#include "espalier/train/bert_steps.h"
#include "espalier/train/text_steps.h"

namespace espalier::testing {

inline models::BertConfig tiny_bert() {
  models::BertConfig c;
  c.vocab_size = 40;
  c.hidden_size = 16;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 2;
  c.intermediate_size = 24;
  c.max_position_embeddings = 16;
  return c;
}

inline uint64_t draw(uint64_t stream, uint64_t index) { return mix64(mix64(stream) ^ index); }

/// Rows of random tokens in two segments and some padding; about a quarter of the places is
/// labelled, some rows more than others.
struct BertRows {
  int64_t rows = 8, seq_len = 12;
  std::vector<int32_t> ids, segments, positions, labels;  // [rows, seq_len]

  explicit BertRows(int64_t count = 8, uint64_t seed = 1) : rows(count) {
    for (int64_t r = 0; r < rows; ++r) {
      const auto first = 3 + static_cast<int64_t>(draw(seed, 1000 + static_cast<uint64_t>(r)) % 4);
      const auto filled =
          seq_len - static_cast<int64_t>(draw(seed, 2000 + static_cast<uint64_t>(r)) % 4);
      for (int64_t t = 0; t < seq_len; ++t) {
        const auto k = static_cast<uint64_t>(r * seq_len + t);
        const bool padding = t >= filled;
        ids.push_back(padding ? 0 : static_cast<int32_t>(5 + draw(seed, k) % 35));
        segments.push_back(padding ? 0 : t < first ? 1 : 2);
        positions.push_back(static_cast<int32_t>(padding ? 0 : t < first ? t : t - first));
        const bool labelled = !padding && draw(seed + 1, k) % 16 < 2 + static_cast<uint64_t>(r) % 5;
        labels.push_back(labelled ? ids.back() : train::kNoLabel);
      }
    }
  }

  int64_t label_count() const {
    return rows * seq_len - std::count(labels.begin(), labels.end(), train::kNoLabel);
  }

  /// Cut into `parts`, with room for `room` labels in each (0: as many as the fullest has).
  train::BertBatch batch(int64_t parts, int64_t room = 0) const {
    train::BertBatch b;
    b.parts = parts;
    b.labels = label_count();
    b.input_ids = ids;
    b.segments = segments;
    b.positions = positions;
    const int64_t places = rows / parts * seq_len;
    const auto count = [&](int64_t p) {
      const auto from = labels.begin() + p * places;
      return places - std::count(from, from + places, train::kNoLabel);
    };
    if (room == 0) {
      for (int64_t p = 0; p < parts; ++p) room = std::max<int64_t>(room, count(p));
    }
    b.shape = {.rows = rows / parts, .seq_len = seq_len, .label_room = room};
    b.label_rows.assign(static_cast<size_t>(parts * room), 0);
    b.label_ids.assign(static_cast<size_t>(parts * room), train::kNoLabel);
    for (int64_t p = 0; p < parts; ++p) {
      auto at = static_cast<size_t>(p * room);
      for (int64_t i = 0; i < places; ++i) {
        const int32_t label = labels[static_cast<size_t>(p * places + i)];
        if (label == train::kNoLabel) continue;
        b.label_rows[at] = static_cast<int32_t>(i);
        b.label_ids[at++] = label;
      }
    }
    return b;
  }
};

struct BertCase {
  models::BertConfig config = tiny_bert();
  train::Optimizer optimizer = train::sgd({.learning_rate = 0.1});
  train::StepOptions options;
  std::string freeze;

  BertCase() {
    options.compile.backend = "interp";
    options.gradients = true;
    options.grad_norm = true;
  }
};

inline train::Step bert_step(const BertCase& c, const train::BertBatch& batch) {
  train::StepOptions options = c.options;
  options.accumulate = batch.parts;
  return train::make_train_step(
      train::with_frozen(models::BertForMaskedLm(c.config), c.freeze),
      [&](const models::BertForMaskedLm& model, const train::Trace& trace) {
        const models::BertLoss loss = train::bert_batch_loss(model, batch.shape, trace);
        return train::Loss::mean_over(loss.sum, loss.count, {{"labels", loss.count, loss.count}});
      },
      c.optimizer, options);
}

struct BertRun {
  std::vector<double> losses, norms;
  std::map<std::string, std::vector<double>> gradients;   // of the last step
  std::map<std::string, std::vector<double>> parameters;  // after it
  double labels = 0.0;                                    // of the last step
};

inline BertRun run_bert(const BertCase& c, const train::BertBatch& batch, int steps = 2,
                        uint64_t seed = 7) {
  train::Step step = bert_step(c, batch);
  step.initialize(seed);
  train::set_bert_batch(step, batch);
  BertRun run;
  for (int s = 0; s < steps; ++s) {
    step.run();
    run.losses.push_back(step.loss());
    if (c.options.grad_norm) run.norms.push_back(step.scalar("grad_norm"));
  }
  run.labels = step.scalar("metric.labels.count");
  for (const auto& [path, value] : step.parameters()) {
    run.parameters[path] = value.to_doubles();
    const bool frozen = !c.freeze.empty();
    if (c.options.gradients && !frozen) {
      run.gradients[path] = step.executable().output("grad." + path).to_doubles();
    }
  }
  return run;
}

}  // namespace espalier::testing
