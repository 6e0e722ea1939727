// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/bench_extract.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <optional>

#include "espalier/backend/cpu/peak/peak.h"
#include "espalier/base/error.h"
#include "espalier/base/rng.h"
#include "espalier/base/text.h"
#include "espalier/extract/job.h"
#include "espalier/extract/reader_model.h"
#include "espalier/io/json.h"
#include "espalier/models/qwen2_folder.h"
#include "espalier/tensor/dtype_names.h"
#include "espalier/train/bench_step.h"
#include "espalier/train/memory.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds since the process was started, to a hundredth (proc(5), field 22 of stat).
double process_age() {
  std::ifstream stat("/proc/self/stat"), uptime("/proc/uptime");
  std::string text;
  std::getline(stat, text);
  double up = 0.0;
  if (!(uptime >> up) || text.rfind(')') == std::string::npos) return 0.0;
  std::istringstream fields(text.substr(text.rfind(')') + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  return up - std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

models::Qwen2Config config_of(const std::string& size) {
  static const std::vector<std::string> kSizes{"0.5b", "7b"};
  ESPALIER_CHECK(std::count(kSizes.begin(), kSizes.end(), size) == 1, ErrorKind::user, "bench",
                 "--model-size {} is none of {}{}", size, fmt::join(kSizes, ", "),
                 nearest_hint(size, kSizes));
  return models::qwen2_config("qwen2-" + size);
}

/// A folder with the model that is measured.
class Model {
 public:
  explicit Model(const ExtractBenchOptions& o) : path_(o.model) {
    if (!path_.empty()) return;
    const models::Qwen2Config config = config_of(o.model_size);
    if (o.folder.empty()) temporary_.emplace();
    path_ = fs::path(o.folder.empty() ? temporary_->path() : o.folder) /
            fmt::format("qwen2-{}-{}-{}", o.model_size, name(o.weights), o.seed);
    if (fs::exists(path_ / "config.json")) return;
    const double start = now();
    fs::create_directories(path_.parent_path());
    models::init_qwen2(path_, config, o.seed, {.dtype = o.weights});
    train::release_free_memory();
    seconds_ = now() - start;
  }
  const fs::path& path() const { return path_; }
  double seconds() const { return seconds_; }  // spent making it

 private:
  std::optional<train::TemporaryFolder> temporary_;
  fs::path path_;
  double seconds_ = 0.0;
};

TokenRows random_tokens(int64_t rows, int64_t seq, int64_t vocab, uint64_t seed) {
  TokenRows batch(rows, seq);
  const RngKey key = rng_key(seed, 0, 1);
  for (size_t i = 0; i < batch.ids.size(); ++i) {
    batch.ids[i] = static_cast<int32_t>(rng_bits(key, i) % static_cast<uint32_t>(vocab));
    batch.positions[i] = static_cast<int32_t>(static_cast<int64_t>(i) % seq);
    batch.segments[i] = 0;
  }
  return batch;
}

ExtractBenchResult bench_forward(const ExtractBenchOptions& o, const Model& folder, int64_t batch,
                                 double born) {
  train::release_free_memory();
  train::reset_peak_resident();
  ExtractBenchResult result{.model = folder.path().filename().string(),
                            .dtype = o.compile.compute_dtype,
                            .batch = batch,
                            .seq = o.seq};
  const std::unique_ptr<ReaderModel> model = open_reader_model(folder.path(), o.compile);
  model->select({fmt::format("resid_post.{}", model->layers() - 1)});
  const TokenRows tokens = random_tokens(batch, o.seq, model->vocab_size(), o.seed);
  model->run(tokens);
  result.first_batch_seconds = now() - born;
  model->set_profiling(o.profile);
  for (int64_t i = 0; i < o.steps; ++i) {
    const double start = now();
    model->run(tokens);
    result.seconds.push_back(now() - start);
  }
  result.step_seconds = train::median(result.seconds);
  result.tokens_per_second_forward = static_cast<double>(batch * o.seq) / result.step_seconds;
  result.gflops = model->flops(batch, o.seq) / result.step_seconds * 1e-9;
  result.compiles = model->compiles();
  result.compile_seconds = model->compile_seconds();
  result.packed_bytes = model->packed_bytes();
  result.memory_peak_bytes = train::peak_resident_bytes();
  if (o.profile) result.profile = model->profile();
  return result;
}

/// A dataset of whole rows, and a tokenizer that the job opens and does not need.
void write_inputs(const fs::path& folder, const TokenRows& batch, int64_t batches) {
  std::ofstream vocabulary(folder / "vocab.txt");
  vocabulary << "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n";
  std::ofstream tokens(folder / "tokens.jsonl");
  for (int64_t row = 0; row < batches * batch.rows; ++row) {
    const auto first = batch.ids.begin() + row % batch.rows * batch.seq;
    tokens << fmt::format("{{\"tokens\": [{}]}}\n", fmt::join(first, first + batch.seq, ","));
  }
  vocabulary.flush();
  tokens.flush();
  ESPALIER_CHECK(vocabulary && tokens, ErrorKind::device, "bench", "cannot write into {}",
                 folder.string());
}

void bench_job(const ExtractBenchOptions& o, const Model& folder, ExtractBenchResult& result) {
  constexpr int64_t kBatchesOfShard = 2;
  const train::TemporaryFolder work;
  const int64_t tokens = result.batch * o.seq;
  {
    const auto model = open_reader_model(folder.path(), o.compile);
    write_inputs(work.path(), random_tokens(result.batch, o.seq, model->vocab_size(), o.seed),
                 o.extract_batches);
  }
  ExtractOptions e;
  e.model = folder.path().string();
  e.tokenizer = work.path() + "/vocab.txt";
  e.output = (fs::path(o.output.empty() ? work.path() : o.output) / "run").string();
  e.source.files = {work.path() + "/tokens.jsonl"};
  e.source.max_seq_length = o.seq;
  e.batch = {.rows = result.batch, .seq = o.seq};
  e.layers = o.layers;
  e.activation = o.activation;
  e.store_dtype = result.dtype;
  e.shard_tokens = kBatchesOfShard * tokens;
  e.compile = o.compile;
  ExtractEvents events;
  train::release_free_memory();
  train::reset_peak_resident();
  // Opening the model does not count, unless a small job wrote something before it first shows.
  double begin = now();
  bool shown = false;
  events.progress = [&](const ExtractProgress& p) {
    if (!shown && p.bytes == 0) begin = now();
    shown = true;
  };
  const ExtractReport report = run_extract(e, events);
  const double seconds = now() - begin;
  result.memory_extract_peak_bytes = train::peak_resident_bytes();
  result.tokens_per_second_extract = static_cast<double>(report.made_tokens) / seconds;
  result.bytes_written_per_second = static_cast<double>(report.bytes) / seconds;
  result.disk_bytes_per_second =
      cpu::measure_disk(fs::path(e.output).parent_path().string(), int64_t{256} << 20).write;
  fs::remove_all(e.output);
}

}  // namespace

std::vector<ExtractBenchResult> bench_extract(
    const ExtractBenchOptions& o, const std::function<void(const ExtractBenchResult&)>& done) {
  ESPALIER_CHECK(o.seq > 0 && o.steps > 0, ErrorKind::user, "bench",
                 "--seq {} and --steps {} must be positive", o.seq, o.steps);
  ESPALIER_CHECK(o.extract_batches >= 0, ErrorKind::user, "bench",
                 "--extract-batches {} must not be negative", o.extract_batches);
  for (int64_t batch : o.batches) {
    ESPALIER_CHECK(batch > 0, ErrorKind::user, "bench", "--batch {} must be positive", batch);
  }
  double born = now() - process_age();
  const Model model(o);
  born += model.seconds();
  std::vector<ExtractBenchResult> results;
  cpu::PeakBeside beside(
      {.threads = o.compile.threads, .seconds = o.peak_seconds, .memory = false});
  for (int64_t batch : o.batches) {
    // Not before the first pass, which counts from the start of the process.
    ExtractBenchResult result = bench_forward(o, model, batch, born);
    beside.measure();
    const cpu::ArithmeticPeak& peak = beside.of(result.dtype);
    result.peak_gflops = peak.peak() * 1e-9;
    result.peak_how = peak.how;
    result.share_of_peak = result.gflops / result.peak_gflops;
    if (o.extract_batches > 0) {
      bench_job(o, model, result);
      beside.measure();
    }
    if (done) done(result);
    results.push_back(std::move(result));
    born = now();
  }
  return results;
}

std::string extract_bench_json(const ExtractBenchResult& r) {
  const auto [least, most] = std::minmax_element(r.seconds.begin(), r.seconds.end());
  const auto rate = [&](double seconds) { return static_cast<double>(r.batch * r.seq) / seconds; };
  nlohmann::ordered_json line{{"bench", "extract"},
                              {"model", r.model},
                              {"dtype", std::string(long_name(r.dtype))},
                              {"batch", r.batch},
                              {"seq", r.seq},
                              {"tokens_per_second_forward", r.tokens_per_second_forward},
                              {"tokens_per_second_forward_min", rate(*most)},
                              {"tokens_per_second_forward_max", rate(*least)},
                              {"gflops", r.gflops},
                              {"peak_gflops", r.peak_gflops},
                              {"peak_of", r.peak_how},
                              {"share_of_peak", r.share_of_peak},
                              {"step_seconds", r.step_seconds},
                              {"first_batch_seconds", r.first_batch_seconds},
                              {"compile_seconds", r.compile_seconds},
                              {"compiles", r.compiles},
                              {"memory_peak_bytes", r.memory_peak_bytes},
                              {"packed_bytes", r.packed_bytes}};
  if (r.tokens_per_second_extract == 0.0) return line.dump();
  line["tokens_per_second_extract"] = r.tokens_per_second_extract;
  line["extract_over_forward"] = r.tokens_per_second_extract / r.tokens_per_second_forward;
  line["bytes_written_per_second"] = r.bytes_written_per_second;
  line["disk_bytes_per_second"] = r.disk_bytes_per_second;
  line["memory_extract_peak_bytes"] = r.memory_extract_peak_bytes;
  return line.dump();
}

std::string extract_bench_line(const ExtractBenchResult& r) {
  const auto [least, most] = std::minmax_element(r.seconds.begin(), r.seconds.end());
  std::string text = fmt::format(
      "{} {}, batch {} x {}: forward {:.0f} tokens/s, {:.3f} s a batch ({:.3f} to {:.3f}), {:.1f} "
      "GFLOP/s, {:.1f} % of {:.1f} ({}); first batch after {:.2f} s ({:.2f} s more than a steady "
      "one), {} compiled in {:.2f} s; memory {}, of it {} packed weights",
      r.model, long_name(r.dtype), r.batch, r.seq, r.tokens_per_second_forward, r.step_seconds,
      *least, *most, r.gflops, 100.0 * r.share_of_peak, r.peak_gflops, r.peak_how,
      r.first_batch_seconds, r.first_batch_seconds - r.step_seconds, r.compiles, r.compile_seconds,
      human_bytes(r.memory_peak_bytes), human_bytes(r.packed_bytes));
  if (r.tokens_per_second_extract == 0.0) return text;
  return text + fmt::format(
                    "; extraction {:.0f} tokens/s, {:.1f} % of the forward pass, {}/s written (the "
                    "disk takes {}/s), memory {}",
                    r.tokens_per_second_extract,
                    100.0 * r.tokens_per_second_extract / r.tokens_per_second_forward,
                    human_bytes(static_cast<int64_t>(r.bytes_written_per_second)),
                    human_bytes(static_cast<int64_t>(r.disk_bytes_per_second)),
                    human_bytes(r.memory_extract_peak_bytes));
}

}  // namespace espalier::extract
