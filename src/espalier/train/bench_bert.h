// SPDX-License-Identifier: Apache-2.0
// Speed of BERT's training step for masked-language modelling, beside the peak of the machine in
// the same run: clip to norm 1, AdamW with weight decay, linear warmup and cosine decay, a label at
// 15 % of the positions, full rows.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "espalier/models/bert.h"
#include "espalier/train/bench_step.h"
#include "espalier/train/report.h"

namespace espalier::train {

struct BertBenchSetting {
  int64_t layers = 12;
  int64_t hidden = 768;
  int64_t heads = 0;         // 0: one for each 64 of the hidden size
  int64_t intermediate = 0;  // 0: four times the hidden size
  int64_t batch = 4;
  int64_t seq = 512;
  double dropout = 0.0;  // of activations and of attention's probabilities
  bool flash = true;     // false: attention from basic ops ("eager")
  bool compile = true;
  DType dtype = DType::f32;
  std::vector<std::string> remat;  // globs of scopes that are computed again backward

  models::BertConfig config() const;
  /// Labelled positions of a batch: 15 %.
  int64_t labels() const;
};

struct BertBenchOptions {
  StepBenchOptions step = {.steps = 5, .warmup = 1};
  int threads = 0;
  double peak_seconds = 0.15;  // per measurement of the peak
};

struct BertBenchResult {
  BertBenchSetting setting;
  StepTimes times;
  double gflops = 0.0;  // of essential work
  double peak_gflops = 0.0;
  std::string peak_how;
  double share_of_peak = 0.0;
};

Optimizer bert_bench_optimizer();

/// The mean over labelled positions. Batch inputs: input_ids, label_rows, labels, all i32.
Loss bert_bench_loss(const BertBenchSetting& setting, const models::BertForMaskedLm& model,
                     const Trace& trace);

/// The traced step; not compiled.
Step bert_bench_step(const BertBenchSetting& setting, const CompileOptions& compile);

/// Made-up token ids and labels; the same for the same seed.
class BertBenchBatch {
 public:
  explicit BertBenchBatch(const BertBenchSetting& setting, uint64_t seed);
  /// Draws batch `i` and sets it.
  void feed(Step& step, int64_t i);
  /// Sets the batch that was drawn last.
  void point(Step& step) const;

 private:
  int32_t vocab_;
  uint64_t seed_;
  std::vector<int32_t> ids_, rows_, labels_;
};

/// Measures settings one after the other; `done` gets each result as it comes.
std::vector<BertBenchResult> bench_bert(const BertBenchOptions& options,
                                        const std::vector<BertBenchSetting>& settings,
                                        const std::function<void(const BertBenchResult&)>& done);

/// How time grows: layers 2, 4, 8, 12 at the setting's sequence, then sequences 128 to 2,048 with
/// the setting's layers and tokens of a step.
std::vector<BertBenchSetting> growth_settings(const BertBenchSetting& base);
/// Both curves, and the table behind them.
Report growth_report(const std::vector<BertBenchResult>& results);

/// One JSON object on one line, with the keys of `bench byte-lm`.
std::string bert_bench_json(const BertBenchResult& result);
/// One line for people.
std::string bert_bench_line(const BertBenchResult& result);

}  // namespace espalier::train
