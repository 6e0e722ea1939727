// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bench_bert.h"

#include <algorithm>

#include "espalier/backend/cpu/peak/peak.h"
#include "espalier/base/error.h"
#include "espalier/base/rng.h"
#include "espalier/base/text.h"
#include "espalier/io/json.h"
#include "espalier/models/bert_forward.h"
#include "espalier/tensor/dtype_names.h"

namespace espalier::train {
namespace {

using models::BertForMaskedLm;

BertBenchResult bench_one(const BertBenchOptions& options, const BertBenchSetting& setting,
                          cpu::PeakBeside& peak) {
  BertBenchBatch batch(setting, options.step.seed);
  BertBenchResult result{.setting = setting, .times = {}, .peak_how = {}};
  result.times = bench_step(
      [&](const std::string& cache_dir) {
        return bert_bench_step(setting, {.compute_dtype = setting.dtype,
                                         .fuse = setting.compile,
                                         .flash = setting.flash,
                                         .remat = setting.remat,
                                         .threads = options.threads,
                                         .cache_dir = cache_dir});
      },
      [&](Step& step, int64_t i) { batch.feed(step, i); }, options.step);
  const double flops =
      models::bert_train_flops(setting.config(), setting.batch, setting.seq, setting.labels());
  result.gflops = flops / result.times.step_seconds * 1e-9;
  peak.measure();
  const cpu::ArithmeticPeak& beside = peak.of(setting.dtype);
  result.peak_gflops = beside.peak() * 1e-9;
  result.peak_how = beside.how;
  result.share_of_peak = result.gflops / result.peak_gflops;
  return result;
}

double per_second(const BertBenchResult& r, double seconds) {
  return static_cast<double>(r.setting.batch) / seconds;
}

}  // namespace

models::BertConfig BertBenchSetting::config() const {
  models::BertConfig c;
  c.num_hidden_layers = layers;
  c.hidden_size = hidden;
  c.num_attention_heads = heads > 0 ? heads : std::max<int64_t>(1, hidden / 64);
  c.intermediate_size = intermediate > 0 ? intermediate : 4 * hidden;
  c.max_position_embeddings = std::max<int64_t>(c.max_position_embeddings, seq);
  c.hidden_dropout_prob = dropout;
  c.attention_probs_dropout_prob = dropout;
  return c;
}

int64_t BertBenchSetting::labels() const { return std::max<int64_t>(1, batch * seq * 15 / 100); }

Optimizer bert_bench_optimizer() {
  return chain(clip_by_global_norm(1.0),
               adamw({.learning_rate = cosine_schedule({.peak = 5e-5, .warmup = 10, .total = 100}),
                      .weight_decay = 0.01,
                      .mask = {}}));
}

Loss bert_bench_loss(const BertBenchSetting& s, const BertForMaskedLm& model, const Trace& trace) {
  const Shape count{s.labels()};
  const Tensor ids = trace.batch("input_ids", DType::i32, {s.batch, s.seq});
  const Tensor hidden = bert_encode(model, {.input_ids = ids}, trace.context);
  const models::BertLoss loss = bert_loss(model, hidden,
                                          {.rows = trace.batch("label_rows", DType::i32, count),
                                           .labels = trace.batch("labels", DType::i32, count)});
  return loss.sum / loss.count;
}

Step bert_bench_step(const BertBenchSetting& s, const CompileOptions& compile) {
  ESPALIER_CHECK(s.batch > 0 && s.seq > 0, ErrorKind::user, "bench",
                 "--batch {} and --seq {} must be positive", s.batch, s.seq);
  return make_train_step(BertForMaskedLm(s.config()),
                         [&](const BertForMaskedLm& model, const Trace& trace) {
                           return bert_bench_loss(s, model, trace);
                         },
                         bert_bench_optimizer(), {.compile = compile});
}

BertBenchBatch::BertBenchBatch(const BertBenchSetting& setting, uint64_t seed)
    : vocab_(static_cast<int32_t>(setting.config().vocab_size)),
      seed_(seed),
      ids_(static_cast<size_t>(setting.batch * setting.seq)),
      rows_(static_cast<size_t>(setting.labels())),
      labels_(rows_.size()) {
  // Evenly spread, and different ones of each sequence.
  for (size_t i = 0; i < rows_.size(); ++i) {
    rows_[i] = static_cast<int32_t>(i * ids_.size() / rows_.size());
  }
}

void BertBenchBatch::feed(Step& step, int64_t i) {
  const auto draw = [&](std::vector<int32_t>& values, uint64_t stream) {
    const RngKey key = rng_key(seed_, static_cast<uint64_t>(i), stream);
    for (size_t at = 0; at < values.size(); ++at) {
      values[at] = static_cast<int32_t>(rng_bits(key, at) % static_cast<uint32_t>(vocab_));
    }
  };
  draw(ids_, 1);
  draw(labels_, 2);
  point(step);
}

void BertBenchBatch::point(Step& step) const {
  step.set_batch("input_ids", ids_.data());
  step.set_batch("label_rows", rows_.data());
  step.set_batch("labels", labels_.data());
}

std::vector<BertBenchResult> bench_bert(const BertBenchOptions& options,
                                        const std::vector<BertBenchSetting>& settings,
                                        const std::function<void(const BertBenchResult&)>& done) {
  cpu::PeakBeside peak(
      {.threads = options.threads, .seconds = options.peak_seconds, .memory = false});
  peak.measure();
  std::vector<BertBenchResult> results;
  for (const BertBenchSetting& setting : settings) {
    results.push_back(bench_one(options, setting, peak));
    if (done) done(results.back());
  }
  return results;
}

std::string bert_bench_json(const BertBenchResult& r) {
  const BertBenchSetting& s = r.setting;
  const StepTimes& t = r.times;
  const auto [least, most] = std::minmax_element(t.seconds.begin(), t.seconds.end());
  const nlohmann::ordered_json line{{"bench", "bert"},
                                    {"model", "bert"},
                                    {"dtype", std::string(long_name(s.dtype))},
                                    {"compile", s.compile ? 1 : 0},
                                    {"flash", s.flash ? 1 : 0},
                                    {"attention", s.flash ? "fused" : "eager"},
                                    {"dropout", s.dropout},
                                    {"layers", s.layers},
                                    {"hidden", s.hidden},
                                    {"heads", s.config().num_attention_heads},
                                    {"batch", s.batch},
                                    {"seq", s.seq},
                                    {"labels", s.labels()},
                                    {"remat", s.remat},
                                    {"sequences_per_second", per_second(r, t.step_seconds)},
                                    {"sequences_per_second_min", per_second(r, *most)},
                                    {"sequences_per_second_max", per_second(r, *least)},
                                    {"gflops", r.gflops},
                                    {"peak_gflops", r.peak_gflops},
                                    {"peak_of", r.peak_how},
                                    {"share_of_peak", r.share_of_peak},
                                    {"compile_seconds_cold", t.compile_seconds_cold},
                                    {"compile_seconds_cached", t.compile_seconds_cached},
                                    {"host_us_per_step", t.host_us_per_step},
                                    {"memory_predicted_bytes", t.memory_predicted_bytes},
                                    {"memory_peak_bytes", t.memory_peak_bytes},
                                    {"process_peak_bytes", t.process_peak_bytes},
                                    {"step_seconds", t.step_seconds},
                                    {"loss_first", t.loss_first},
                                    {"loss_last", t.loss_last}};
  return line.dump();
}

std::string bert_bench_line(const BertBenchResult& r) {
  const BertBenchSetting& s = r.setting;
  const StepTimes& t = r.times;
  const auto [least, most] = std::minmax_element(t.seconds.begin(), t.seconds.end());
  return fmt::format(
      "{} layers of {}, {}, batch {} x {}, dropout {}, attention {}, compile {}{}: {:.3f} s a step "
      "({:.3f} to {:.3f}), {:.1f} GFLOP/s, {:.1f} % of {:.1f} ({}); compile {:.2f} s cold, {:.2f} "
      "s cached; host {:.1f} us a step; memory {} predicted, {} measured, {} the whole process",
      s.layers, s.hidden, long_name(s.dtype), s.batch, s.seq, s.dropout,
      s.flash ? "fused" : "eager", s.compile ? 1 : 0,
      s.remat.empty() ? std::string() : fmt::format(", remat {}", fmt::join(s.remat, ",")),
      t.step_seconds, *least, *most, r.gflops, 100.0 * r.share_of_peak, r.peak_gflops, r.peak_how,
      t.compile_seconds_cold, t.compile_seconds_cached, t.host_us_per_step,
      human_bytes(t.memory_predicted_bytes), human_bytes(t.memory_peak_bytes),
      human_bytes(t.process_peak_bytes));
}

}  // namespace espalier::train
