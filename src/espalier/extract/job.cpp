// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/job.h"

#include <unistd.h>

#include <chrono>

#include "espalier/backend/cpu/cpu_info.h"
#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/extract/metered_store.h"
#include "espalier/extract/pipeline.h"
#include "espalier/extract/reader_model.h"
#include "espalier/extract/run_file.h"
#include "espalier/extract/shard.h"

namespace espalier::extract {
namespace {

constexpr int64_t kEntryLimit = 4096;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Whole samples, each shard as soon as it has shard_tokens.
class MemoryPlan final : public RunPlan {
 public:
  void add(Sample sample, int64_t shard_tokens) {
    if (shards_.empty() || filled_ >= shard_tokens) {
      const auto index = static_cast<int64_t>(shards_.size());
      shards_.push_back({.index = index, .first_sample = samples_, .samples = {}, .batches = {}});
      filled_ = 0;
    }
    ++samples_;
    filled_ += static_cast<int64_t>(sample.tokens.size());
    shards_.back().samples.push_back(std::move(sample));
  }
  std::vector<ShardWork>& shards() { return shards_; }
  int64_t known() override { return static_cast<int64_t>(shards_.size()); }
  std::optional<int64_t> total() override { return known(); }
  ShardWork load(int64_t index) override { return shards_[static_cast<size_t>(index)]; }

 private:
  std::vector<ShardWork> shards_;
  int64_t samples_ = 0, filled_ = 0;
};

std::string worker_name() {
  char host[256] = "host";
  ::gethostname(host, sizeof(host) - 1);
  return fmt::format("{}:{}", host, ::getpid());
}

class Job {
 public:
  Job(const ExtractOptions& options, const ExtractEvents& events)
      : o_(options), events_(events), start_(now()) {
    o_.batch.seq = o_.source.max_seq_length;
  }

  ExtractReport run() {
    model_ = open_reader_model(o_.model, o_.compile);
    model_->select(hook_globs(o_.layers, o_.activation, model_->layers()));
    report_.hooks = model_->hooks();
    ESPALIER_CHECK(o_.source.max_seq_length <= model_->longest(), ErrorKind::user, "extract",
                   "--max-seq-length {}: the model's positions end at {}", o_.source.max_seq_length,
                   model_->longest());
    ESPALIER_CHECK(o_.shard_tokens > 0, ErrorKind::user, "extract",
                   "--shard-tokens {} must be positive", o_.shard_tokens);
    read();
    say_plan();
    if (o_.dry_run) return report_;
    store_ = std::make_unique<MeteredStore>(open_store(o_.output), times_);
    claim_run(*store_, describe_run(o_, *model_));
    work();
    report_.made_shards = counts_.shards;
    report_.made_tokens = counts_.tokens;
    report_.bytes = store_->bytes();
    report_.compiles = model_->compiles();
    report_.compile_seconds = model_->compile_seconds();
    report_.seconds = now() - start_;
    report_.stages = report_stages(times_, report_.seconds, 1, kWriters);
    return report_;
  }

 private:
  void say(const std::string& line) const {
    if (events_.line) events_.line(line);
  }
  bool stopped() const { return events_.stop && events_.stop() != 0; }
  int threads() const {
    return o_.compile.threads > 0 ? o_.compile.threads : cpu::cpu_info().cores;
  }

  void read() {
    const text::Tokenizer tokenizer =
        text::Tokenizer::open(o_.tokenizer.empty() ? o_.model : o_.tokenizer);
    read_samples(o_.source, tokenizer, report_.source, [&](Sample sample) {
      for (int32_t id : sample.tokens) {
        ESPALIER_CHECK(id < model_->vocab_size(), ErrorKind::data, "extract",
                       "sample {} has token {}, the model's vocabulary ends at {}", sample.id, id,
                       model_->vocab_size());
      }
      plan_.add(std::move(sample), o_.shard_tokens);
    });
    ESPALIER_CHECK(plan_.known() > 0, ErrorKind::data, "extract", "the dataset holds no sample");
    report_.shards = plan_.known();
    int64_t computed = 0;
    for (ShardWork& shard : plan_.shards()) {
      std::vector<int64_t> lengths;
      for (const Sample& sample : shard.samples) {
        lengths.push_back(static_cast<int64_t>(sample.tokens.size()));
      }
      shard.batches = plan_batches(lengths, o_.batch);
      report_.samples += static_cast<int64_t>(shard.samples.size());
      report_.tokens += shard.tokens();
      for (const Batch& batch : shard.batches) {
        computed += batch.rows * batch.seq;
        report_.flops += model_->flops(batch.rows, batch.seq);
      }
    }
    report_.useful_share = static_cast<double>(report_.tokens) / static_cast<double>(computed);
  }

  void say_plan() const {
    const SourceReport& source = report_.source;
    say(fmt::format("{} lines: {}", source.lines, describe(source.lengths)));
    if (source.bad_lines > 0) {
      say(fmt::format("{} bad lines left out, the first: {}", source.bad_lines,
                      source.first_bad_line));
    }
    const int64_t bytes = report_.tokens * model_->width() * size_of(o_.store_dtype) *
                          static_cast<int64_t>(report_.hooks.size());
    say(
        fmt::format("{} activations of width {} in {} shards, about {}; {:.1f} % of the computed "
                    "tokens are useful ({}), {:.3g} TFLOP",
                    report_.hooks.size(), model_->width(), report_.shards, human_bytes(bytes),
                    100.0 * report_.useful_share, name(o_.batch.batching), report_.flops / 1e12));
  }

  void work() {
    LeaseKeeper keeper(*store_, worker_name(), {.expire_seconds = o_.lease_seconds, .clock = {}});
    ShardBoard board(*store_, keeper, {});
    const double begin = now();
    const auto progress = [&] {
      if (events_.progress) {
        events_.progress({.shards = report_.shards,
                          .shards_done = board.done_count(),
                          .samples_done = counts_.samples,
                          .tokens_done = counts_.tokens,
                          .bytes = store_->bytes(),
                          .compiles = counts_.compiles,
                          .seconds = now() - begin});
      }
    };
    const auto watch = [&] {
      progress();
      return !stopped();
    };
    const bool complete = run_pipeline({.store = *store_,
                                        .keeper = keeper,
                                        .board = board,
                                        .plan = plan_,
                                        .models = {model_.get()},
                                        .store_dtype = o_.store_dtype,
                                        .threads = threads()},
                                       times_, counts_, watch);
    progress();
    if (complete) finish();
  }

  void finish() {
    std::string all;
    for (int64_t i = 0; i < report_.shards; ++i) {
      all += store_->get(manifest_key(i), kEntryLimit).value();
    }
    store_->put("manifest.jsonl", all);
    report_.complete = true;
  }

  ExtractOptions o_;
  const ExtractEvents& events_;
  double start_;
  std::unique_ptr<ReaderModel> model_;
  StageTimes times_;
  std::unique_ptr<MeteredStore> store_;
  MemoryPlan plan_;
  PipelineCounts counts_;
  ExtractReport report_;
};

}  // namespace

ExtractReport run_extract(const ExtractOptions& options, const ExtractEvents& events) {
  return Job(options, events).run();
}

}  // namespace espalier::extract
