// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/job.h"

#include <unistd.h>

#include <chrono>
#include <thread>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/extract/lease.h"
#include "espalier/extract/reader_model.h"
#include "espalier/extract/run_file.h"
#include "espalier/extract/shard.h"

namespace espalier::extract {
namespace {

constexpr int64_t kEntryLimit = 4096;
/// How often a worker says that it lives, and looks at shards that others have.
constexpr double kBeats = 6.0;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Samples [first, last) of the run.
struct Range {
  int64_t first, last, tokens;
};

/// Whole samples, each range as soon as it has shard_tokens.
std::vector<Range> cut_shards(const std::vector<Sample>& samples, int64_t shard_tokens) {
  std::vector<Range> ranges;
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    if (ranges.empty() || ranges.back().tokens >= shard_tokens) ranges.push_back({at, at, 0});
    ranges.back().last = at + 1;
    ranges.back().tokens += static_cast<int64_t>(samples[i].tokens.size());
  }
  return ranges;
}

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
    store_ = open_store(o_.output);
    claim_run(*store_, describe_run(o_, *model_));
    work();
    report_.compiles = model_->compiles();
    report_.compile_seconds = model_->compile_seconds();
    report_.seconds = now() - start_;
    return report_;
  }

 private:
  void say(const std::string& line) const {
    if (events_.line) events_.line(line);
  }
  bool stopped() const { return events_.stop && events_.stop() != 0; }

  void read() {
    const text::Tokenizer tokenizer =
        text::Tokenizer::open(o_.tokenizer.empty() ? o_.model : o_.tokenizer);
    read_samples(o_.source, tokenizer, report_.source, [&](Sample sample) {
      for (int32_t id : sample.tokens) {
        ESPALIER_CHECK(id < model_->vocab_size(), ErrorKind::data, "extract",
                       "sample {} has token {}, the model's vocabulary ends at {}", sample.id, id,
                       model_->vocab_size());
      }
      samples_.push_back(std::move(sample));
    });
    ESPALIER_CHECK(!samples_.empty(), ErrorKind::data, "extract", "the dataset holds no sample");
    ranges_ = cut_shards(samples_, o_.shard_tokens);
    report_.shards = static_cast<int64_t>(ranges_.size());
    report_.samples = static_cast<int64_t>(samples_.size());
    for (const Range& range : ranges_) {
      report_.tokens += range.tokens;
      for (const Batch& batch : batches_of(range)) {
        computed_ += batch.rows * batch.seq;
        report_.flops += model_->flops(batch.rows, batch.seq);
      }
    }
    report_.useful_share = static_cast<double>(report_.tokens) / static_cast<double>(computed_);
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

  std::span<const Sample> samples_of(const Range& range) const {
    return std::span(samples_).subspan(static_cast<size_t>(range.first),
                                       static_cast<size_t>(range.last - range.first));
  }
  std::vector<Batch> batches_of(const Range& range) const {
    std::vector<int64_t> lengths;
    for (const Sample& sample : samples_of(range)) {
      lengths.push_back(static_cast<int64_t>(sample.tokens.size()));
    }
    return plan_batches(lengths, o_.batch);
  }

  /// Goes over the shards until all are done, by this process or others.
  void work() {
    Leases leases(*store_, worker_name(), {.expire_seconds = o_.lease_seconds, .clock = {}});
    std::vector<bool> done(ranges_.size());
    while (!stopped()) {
      bool moved = false;
      int64_t missing = 0;
      for (size_t i = 0; i < ranges_.size() && !stopped(); ++i) {
        const auto index = static_cast<int64_t>(i);
        if (done[i]) continue;
        done[i] = store_->get(manifest_key(index), kEntryLimit).has_value();
        if (!done[i]) {
          std::optional<Lease> lease = leases.claim(fmt::format("{:08}", index));
          if (lease) {
            done[i] = make_shard(index, ranges_[i], leases, *lease);
            if (done[i]) leases.release(*lease);
          }
        }
        moved = moved || done[i];
        missing += !done[i];
        if (done[i]) show(done);
      }
      if (missing == 0) {
        if (!stopped()) finish();
        return;
      }
      if (!moved) std::this_thread::sleep_for(std::chrono::duration<double>(wait()));
    }
  }
  double wait() const { return std::min(1.0, o_.lease_seconds / kBeats); }

  /// False when it was left unfinished: a signal, or the shard was taken over.
  bool make_shard(int64_t index, const Range& range, Leases& leases, Lease& lease) {
    const std::span<const Sample> samples = samples_of(range);
    Shard shard(index, range.first, samples, report_.hooks, model_->width(), o_.store_dtype);
    double beat = now();
    for (const Batch& batch : batches_of(range)) {
      if (stopped()) {
        leases.release(lease);
        return false;
      }
      const double begin = now();
      compute(batch, samples, shard);
      report_.compute_seconds += now() - begin;
      if (now() - beat > o_.lease_seconds / kBeats) {
        if (!leases.renew(lease)) return false;
        beat = now();
      }
    }
    const double begin = now();
    shard.commit(*store_);
    report_.write_seconds += now() - begin;
    ++report_.made_shards;
    report_.made_tokens += range.tokens;
    made_samples_ += range.last - range.first;
    report_.bytes += range.tokens * model_->width() * size_of(o_.store_dtype) *
                     static_cast<int64_t>(report_.hooks.size());
    return true;
  }

  void compute(const Batch& batch, std::span<const Sample> samples, Shard& shard) {
    TokenRows rows(batch.rows, batch.seq);
    for (const Placement& p : batch.placements) {
      const Sample& sample = samples[static_cast<size_t>(p.sample)];
      for (size_t i = 0; i < sample.tokens.size(); ++i) {
        const size_t at = static_cast<size_t>(p.row * batch.seq + p.column) + i;
        rows.ids[at] = sample.tokens[i];
        rows.positions[at] = static_cast<int32_t>(i);
        rows.segments[at] = static_cast<int32_t>(p.sample);
      }
    }
    model_->run(rows);
    for (size_t hook = 0; hook < report_.hooks.size(); ++hook) {
      const float* values = model_->activation(hook);
      for (const Placement& p : batch.placements) {
        shard.put(hook, p.sample, values + (p.row * batch.seq + p.column) * model_->width());
      }
    }
  }

  void show(const std::vector<bool>& done) const {
    if (!events_.progress) return;
    events_.progress({.shards = report_.shards,
                      .shards_done = std::count(done.begin(), done.end(), true),
                      .samples = report_.samples,
                      .samples_done = made_samples_,
                      .tokens = report_.tokens,
                      .tokens_done = report_.made_tokens,
                      .bytes = report_.bytes,
                      .seconds = now() - start_});
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
  std::unique_ptr<Store> store_;
  std::vector<Sample> samples_;
  std::vector<Range> ranges_;
  int64_t computed_ = 0, made_samples_ = 0;
  ExtractReport report_;
};

}  // namespace

ExtractReport run_extract(const ExtractOptions& options, const ExtractEvents& events) {
  return Job(options, events).run();
}

}  // namespace espalier::extract
