// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/planner.h"

#include <optional>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/extract/bounded_queue.h"
#include "espalier/extract/crew.h"

namespace espalier::extract {
namespace {

/// Text that is handed from the reading to the planning thread at once, and how many of these.
constexpr size_t kChunkBytes = size_t{1} << 18;
constexpr size_t kChunks = 4;

size_t size_of_line(const SourceLine& line) {
  size_t bytes = 1;
  for (const Prompt& prompt : line.prompts) {
    bytes += prompt.text.size() + prompt.tokens.size() * sizeof(int32_t);
  }
  return bytes;
}

class Planner {
 public:
  Planner(const PlannerOptions& options, const PlanTotals& from, StageTimes& times,
          const TakeShard& take)
      : o_(options), times_(times), take_(take), totals_(from), chunks_(kChunks) {
    ESPALIER_CHECK(o_.shard_tokens > 0, ErrorKind::user, "extract",
                   "--shard-tokens {} must be positive", o_.shard_tokens);
  }

  std::optional<PlanTotals> run() {
    Crew reader([this] { chunks_.close(); });
    reader.start([this, from = totals_.position] { read(from); });
    bool wanted = true;
    while (wanted) {
      std::optional<Chunk> chunk = chunks_.pop();
      if (!chunk) break;
      for (SourceLine& line : *chunk) wanted = wanted && add(std::move(line));
    }
    reader.stop();
    reader.join();
    reader.rethrow();
    if (!wanted || !flush()) return std::nullopt;
    ESPALIER_CHECK(totals_.samples > 0, ErrorKind::data, "dataset",
                   "the dataset holds no sample that can be run: {} lines, {} of them bad; {}",
                   totals_.position.lines, totals_.position.bad_lines, describe(totals_.lengths));
    return std::move(totals_);
  }

 private:
  using Chunk = std::vector<SourceLine>;

  void read(const SourcePosition& from) {
    Chunk chunk;
    size_t bytes = 0;
    read_dataset(o_.source, o_.vocab_size, from, times_, [&](SourceLine line) {
      bytes += size_of_line(line);
      chunk.push_back(std::move(line));
      if (bytes < kChunkBytes) return true;
      bytes = 0;
      return chunks_.push(std::exchange(chunk, {}));
    });
    chunks_.push(std::move(chunk));
    chunks_.close();
  }

  bool add(SourceLine line) {
    {
      const StageTimer timer(times_, Stage::tokenize);
      const size_t before = window_.size();
      for (Prompt& prompt : line.prompts) maker_.make(std::move(prompt), totals_.lengths, window_);
      for (size_t i = before; i < window_.size(); ++i) {
        check_tokens(window_[i]);
        window_tokens_ += std::ssize(window_[i].tokens);
      }
    }
    totals_.position = std::move(line.after);
    return window_tokens_ < kWindowBatches * o_.batch.rows * o_.batch.seq || flush();
  }

  void check_tokens(const Sample& sample) const {
    for (int32_t id : sample.tokens) {
      ESPALIER_CHECK(id < o_.vocab_size, ErrorKind::data, "extract",
                     "sample {} has token {}, the model's vocabulary ends at {}", sample.id, id,
                     o_.vocab_size);
    }
  }

  /// Hands out the shards of the window.
  bool flush() {
    const StageTimer timer(times_, Stage::plan);
    std::vector<int64_t> lengths;
    for (const Sample& sample : window_) lengths.push_back(std::ssize(sample.tokens));
    ShardWork work = next_shard();
    int64_t tokens = 0;
    for (Batch& batch : plan_batches(lengths, o_.batch)) {
      int64_t more = 0;
      for (const Placement& p : batch.placements) more += lengths[static_cast<size_t>(p.sample)];
      if (!work.batches.empty() && tokens + more > o_.shard_tokens) {
        if (!emit(std::move(work), false)) return false;
        work = next_shard();
        tokens = 0;
      }
      tokens += more;
      for (Placement& p : batch.placements) {
        work.samples.push_back(std::move(window_[static_cast<size_t>(p.sample)]));
        p.sample = std::ssize(work.samples) - 1;
      }
      work.batches.push_back(std::move(batch));
    }
    window_.clear();
    window_tokens_ = 0;
    return work.batches.empty() || emit(std::move(work), true);
  }

  ShardWork next_shard() const {
    return {.index = totals_.shards, .first_sample = totals_.samples};
  }
  bool emit(ShardWork work, bool resumable) {
    totals_.add(work);
    return take_(std::move(work), totals_, resumable);
  }

  const PlannerOptions& o_;
  StageTimes& times_;
  const TakeShard& take_;
  PlanTotals totals_;
  std::vector<Sample> window_;
  int64_t window_tokens_ = 0;
  BoundedQueue<Chunk> chunks_;
  SampleMaker maker_{o_.source, o_.tokenizer, o_.survey};
};

}  // namespace

std::optional<PlanTotals> make_plan(const PlannerOptions& options, const PlanTotals& from,
                                    StageTimes& times, const TakeShard& take) {
  return Planner(options, from, times, take).run();
}

}  // namespace espalier::extract
