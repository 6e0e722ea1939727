// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/setup.h"

#include <unistd.h>

#include <algorithm>

#include "espalier/backend/cpu/cpu_info.h"
#include "espalier/base/error.h"
#include "espalier/extract/run_file.h"
#include "espalier/text/byte_tokenizer.h"

namespace espalier::extract {
namespace {

text::Tokenizer open_tokenizer(const ExtractOptions& o, const ReaderModel& model) {
  if (o.tokenizer.empty() && model.reads_bytes()) return text::byte_tokenizer();
  return text::Tokenizer::open(tokenizer_files(o));
}

/// Each has weights of its own.
constexpr int64_t kMostLocalWorkers = 1024;

/// What is wrong whatever the model and the dataset are.
void check_options(const ExtractOptions& o) {
  check_store_url(o.output);
  ESPALIER_CHECK(o.local_workers > 0 && o.local_workers <= kMostLocalWorkers, ErrorKind::user,
                 "extract", "--workers {}: one process runs 1 to {}", o.local_workers,
                 kMostLocalWorkers);
  ESPALIER_CHECK(o.compile.threads >= 0, ErrorKind::user, "extract",
                 "--threads {} must not be negative", o.compile.threads);
  ESPALIER_CHECK(o.shard_tokens >= 0, ErrorKind::user, "extract",
                 "--shard-tokens {} must be positive", o.shard_tokens);
}

}  // namespace

std::string worker_name() {
  char host[256] = "host";
  ::gethostname(host, sizeof(host) - 1);
  return fmt::format("{}:{}", host, ::getpid());
}

Setup open_setup(const ExtractOptions& options) {
  ExtractOptions o = options;
  check_options(o);
  std::unique_ptr<ScratchFolder> fetched = fetch_datasets(o.source.files);
  check_source(o.source);
  const int threads = o.compile.threads > 0 ? o.compile.threads : cpu::cpu_info().cores;
  o.compile.threads = std::max(1, threads / static_cast<int>(o.local_workers));
  std::vector<std::unique_ptr<ReaderModel>> models;
  for (int64_t i = 0; i < o.local_workers; ++i) {
    models.push_back(open_reader_model(o.model, o.compile, o.pack_cache));
    ReaderModel& model = *models.back();
    model.select(hook_globs(o.layers, o.activation, model.layers()));
  }
  text::Tokenizer tokenizer = open_tokenizer(o, *models.front());
  Setup setup{.fetched = std::move(fetched),
              .options = {},
              .models = std::move(models),
              .tokenizer = std::move(tokenizer)};
  const ReaderModel& model = setup.model();
  if (o.source.max_seq_length == 0) {
    o.source.max_seq_length = std::min(kMaxSeqLength, model.longest());
  }
  o.batch.seq = o.source.max_seq_length;
  ESPALIER_CHECK(o.source.max_seq_length <= model.longest(), ErrorKind::user, "extract",
                 "--max-seq-length {}: the model's positions end at {}", o.source.max_seq_length,
                 model.longest());
  ESPALIER_CHECK(o.batch.rows > 0 && o.batch.seq > 0, ErrorKind::user, "extract",
                 "--batch-size {} and --max-seq-length {} must be positive", o.batch.rows,
                 o.batch.seq);
  setup.options = o;
  if (o.shard_tokens == 0) {
    setup.options.shard_tokens = std::max<int64_t>(1, kShardBytes / setup.token_bytes());
  }
  return setup;
}

int64_t Setup::token_bytes() const {
  return std::ssize(model().hooks()) * model().width() * size_of(options.store_dtype);
}

double Setup::flops(const PlanTotals& totals) const {
  double sum = 0.0;
  for (const auto& [shape, count] : totals.batches) {
    sum += static_cast<double>(count) * model().flops(shape.first, shape.second);
  }
  return sum;
}

PlannerOptions Setup::planner() const {
  return {.source = options.source,
          .tokenizer = tokenizer,
          .vocab_size = model().vocab_size(),
          .batch = options.batch,
          .shard_tokens = options.shard_tokens};
}

PipelineParts Setup::pipeline(Store& store, LeaseKeeper& keeper, ShardBoard& board,
                              RunPlan& plan) const {
  PipelineParts parts{.store = store, .keeper = keeper, .board = board, .plan = plan};
  for (const auto& model : models) parts.models.push_back(model.get());
  parts.store_dtype = options.store_dtype;
  parts.shard = options.shard;
  parts.threads = options.compile.threads;
  return parts;
}

}  // namespace espalier::extract
