// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/byte_lm_job.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <numbers>
#include <optional>
#include <vector>

#include "espalier/backend/cpu/peak/peak.h"
#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/base/version.h"
#include "espalier/io/atomic.h"
#include "espalier/tensor/dtype_names.h"
#include "espalier/train/byte_lm_report.h"
#include "espalier/train/byte_lm_steps.h"
#include "espalier/train/data.h"
#include "espalier/train/memory.h"
#include "espalier/train/metrics.h"

namespace espalier::train {
namespace {

namespace fs = std::filesystem;

const io::FileContext kFolderContext{.stage = "train",
                                     .next_step = "give a folder you can write to as --save-dir"};

class Job {
 public:
  Job(const ByteLmOptions& options, const JobEvents& events)
      : options_(options),
        events_(events),
        data_(ByteData::open(options.data)),
        parts_(split(data_, options.holdout_or_default(), options.model.seq_len)),
        sequences_(parts_.train, options.model.seq_len, options.seed),
        batch_(static_cast<size_t>(options.batch_size * options.model.seq_len)) {}

  JobResult run() {
    open_folder();
    describe();
    const double flops = models::byte_lm_train_flops(options_.model);
    peak_ = peak_flops();
    say("{}; peak {:.1f} GFLOP/s {}", flops_text(options_.model), peak_ * 1e-9,
        long_name(options_.compile.compute_dtype));
    flops_per_step_ = flops * static_cast<double>(options_.batch_size);
    start_step();
    if (options_.eval_every > 0) start_evaluation();
    start_log();
    const LoopResult loop = train_loop(*step_, loop_options(), callbacks());
    result_.loop = loop;
    say_the_end();
    if (!options_.save_dir.empty()) write_results();
    return result_;
  }

 private:
  template <typename... Args>
  void say(fmt::format_string<Args...> text, Args&&... args) const {
    if (events_.say) events_.say(fmt::format(text, std::forward<Args>(args)...));
  }

  // --- folder and checkpoints ---

  void open_folder() {
    if (options_.save_dir.empty()) return;
    const fs::path dir = options_.save_dir;
    io::create_folders(dir, kFolderContext);
    lock_.emplace(dir, kFolderContext);
    io::remove_leftovers(dir);
    loaded_ = load_newest(dir);
    ESPALIER_CHECK(!loaded_ || options_.resume, ErrorKind::user, "train",
                   "the folder holds a run at step {}, at {}; continue it with --resume, or choose "
                   "another --save-dir",
                   loaded_->checkpoint.step, dir.string());
    if (!loaded_ && options_.resume) {
      ESPALIER_CHECK(fs::exists(dir / "run.json"), ErrorKind::user, "resume",
                     "no checkpoint in {}; leave out --resume to start a run there", dir.string());
      say("the run in {} ended before its first checkpoint: it starts again", dir.string());
    }
    if (loaded_) check_resume();
    write_run_file();
  }

  void check_resume() {
    if (!loaded_->warnings.empty()) say("{}", loaded_->warnings);
    const Checkpoint& saved = loaded_->checkpoint;
    const std::string config = differences(saved.config, config_section(options_.model));
    ESPALIER_CHECK(config.empty(), ErrorKind::user, "resume",
                   "the architecture is not that of the checkpoint: {}, at {}", config,
                   loaded_->folder.string());
    ESPALIER_CHECK(saved.seed == options_.seed, ErrorKind::user, "resume",
                   "seed is {} in the checkpoint and {} now, at {}", saved.seed, options_.seed,
                   loaded_->folder.string());
    CheckpointSection was = saved.data;
    CheckpointSection is = data_section(0);
    for (const char* name : {"sequences", "source"}) {
      was.erase(name);
      is.erase(name);
    }
    const std::string data = differences(was, is);
    ESPALIER_CHECK(data.empty(), ErrorKind::user, "resume",
                   "the data is not that of the checkpoint: {}, at {}; give the same --data and "
                   "--holdout",
                   data, options_.data);
    const std::string changed = differing_options(saved.options, options_section(options_));
    if (!changed.empty()) say("note: from here on, {}", changed);
    ESPALIER_CHECK(saved.step <= options_.steps, ErrorKind::user, "resume",
                   "the checkpoint is at step {}, beyond --steps {}", saved.step, options_.steps);
    for (const fs::path& aside : set_aside_after(options_.save_dir, saved.step)) {
      say("set aside {}", aside.string());
    }
  }

  CheckpointSection data_section(int64_t sequences) const {
    return {{"source", data_.source()},
            {"bytes", static_cast<int64_t>(data_.bytes().size())},
            {"fingerprint", static_cast<int64_t>(data_.fingerprint())},
            {"holdout", options_.holdout_or_default()},
            {"sequences", sequences}};
  }

  void write_run_file() const {
    nlohmann::ordered_json run{
        {"version", std::string(version())}, {"job", "byte-lm"}, {"seed", options_.seed}};
    const auto add = [&](const char* title, const CheckpointSection& section) {
      for (const auto& [name, value] : section) {
        std::visit([&](const auto& v) { run[title][name] = v; }, value);
      }
    };
    add("config", config_section(options_.model));
    add("options", options_section(options_));
    add("data", data_section(0));
    io::write_file_atomically(fs::path(options_.save_dir) / "run.json", run.dump(2) + "\n",
                              kFolderContext);
  }

  void save(int64_t steps_done) {
    if (options_.save_dir.empty()) return;
    Checkpoint checkpoint;
    checkpoint.step = steps_done;
    checkpoint.seed = options_.seed;
    checkpoint.config = config_section(options_.model);
    checkpoint.options = options_section(options_);
    checkpoint.data = data_section(first_sequence(steps_done));
    checkpoint.parameters = step_->parameters();
    checkpoint.state = step_->other_state();
    result_.checkpoint = save_checkpoint(options_.save_dir, checkpoint);
    keep_last(options_.save_dir, options_.keep);
    say("saved {}", result_.checkpoint.string());
  }

  // --- what runs ---

  void describe() const {
    const models::ByteLmConfig& m = options_.model;
    say("byte-lm: {} layers, width {}, heads {}, ffn {}, seq {}, {:.2f} M parameters; {}, batch {}",
        m.layers, m.width, m.heads, m.ffn, m.seq_len,
        static_cast<double>(nn::param_count(models::ByteLm(m))) * 1e-6,
        long_name(options_.compile.compute_dtype), options_.batch_size);
    say("data: {}, {}, {} sequences an epoch{}", data_.source(),
        human_bytes(static_cast<int64_t>(data_.bytes().size())), sequences_.sequences_per_epoch(),
        parts_.held_out.empty()
            ? std::string()
            : fmt::format(", {} held out",
                          human_bytes(static_cast<int64_t>(parts_.held_out.size()))));
  }

  double peak_flops() const {
    if (options_.peak_gflops > 0.0) return options_.peak_gflops * 1e9;
    const cpu::PeakReport peak =
        cpu::measure_peak({.threads = options_.compile.threads, .seconds = 0.05, .memory = false});
    return peak.of(options_.compile.compute_dtype).peak();
  }

  void start_step() {
    step_.emplace(byte_lm_train_step(options_));
    step_->compile();
    const CompileStats& stats = step_->executable().stats();
    say("compiled in {}: {} loops, {} distinct, {} from the cache; {} of memory",
        human_duration(stats.seconds), stats.loops, stats.distinct_loops, stats.loops_from_cache,
        human_bytes(stats.predicted_bytes));
    if (loaded_) {
      restore(*step_, *loaded_);
      steps_at_start_ = loaded_->checkpoint.step;
      const auto& data = loaded_->checkpoint.data;
      const auto found = data.find("sequences");
      ESPALIER_CHECK(found != data.end() && std::holds_alternative<int64_t>(found->second),
                     ErrorKind::data, "checkpoint", "no position in the data, at {}",
                     loaded_->folder.string());
      sequences_at_start_ = std::get<int64_t>(found->second);
      say("resuming at step {} from {}", steps_at_start_, loaded_->folder.string());
      loaded_.reset();
    } else {
      step_->initialize(options_.seed);
    }
  }

  void start_evaluation() {
    ESPALIER_CHECK(!parts_.held_out.empty(), ErrorKind::user, "train",
                   "--eval-every {} needs held-out data; --holdout is 0", options_.eval_every);
    CompileOptions compile = options_.compile;
    compile.remat.clear();
    evaluator_ = std::make_unique<ByteLmEvaluator>(options_.model, options_.variant,
                                                   options_.batch_size, compile);
  }

  void evaluate(int64_t steps_done) {
    evaluator_->step().copy_parameters(*step_);
    result_.eval_bits_per_byte =
        evaluator_->bits_per_byte(parts_.held_out, options_.eval_batches * options_.batch_size);
    if (log_) log_->log(steps_done, {{"eval_bits_per_byte", result_.eval_bits_per_byte}});
    say("step {}: {:.4f} bits/byte on held-out text", steps_done, result_.eval_bits_per_byte);
  }

  void start_log() {
    if (options_.save_dir.empty()) return;
    MetricsOptions metrics{.folder = options_.save_dir, .columns = metric_columns()};
    if (steps_at_start_ > 0) metrics.resume_step = steps_at_start_;
    log_.emplace(std::move(metrics));
  }

  int64_t first_sequence(int64_t steps_done) const {
    return sequences_at_start_ + (steps_done - steps_at_start_) * options_.batch_size;
  }

  std::map<std::string, const void*> set_batch(int64_t steps_done) {
    const int64_t first = first_sequence(steps_done);
    sequences_.fill(first, options_.batch_size, batch_);
    sequences_.prefetch(first + options_.batch_size, options_.batch_size);
    step_->set_batch("bytes", batch_.data());
    return {{"batch.bytes", batch_.data()}};
  }

  Progress progress(const StepRecord& record) const {
    Progress p{.record = record, .steps = options_.steps};
    p.bits_per_byte = record.loss / std::numbers::ln2;
    p.sequences_per_second = static_cast<double>(options_.batch_size) / record.seconds_per_step;
    p.share_of_peak = peak_ > 0.0 ? flops_per_step_ / record.seconds_per_step / peak_ : 0.0;
    p.seconds_left = static_cast<double>(options_.steps - record.step) * record.seconds_per_step;
    if (options_.max_seconds > 0.0) {
      p.seconds_left =
          std::min(p.seconds_left, std::max(0.0, options_.max_seconds - record.elapsed));
    }
    return p;
  }

  void log(const Progress& p) {
    if (log_) {
      log_->log(p.record.step, {{"loss", p.record.loss},
                                {"bits_per_byte", p.bits_per_byte},
                                {"learning_rate", p.record.learning_rate},
                                {"loss_scale", p.record.loss_scale},
                                {"sequences_per_second", p.sequences_per_second},
                                {"share_of_peak", p.share_of_peak},
                                {"host_us", p.record.host_seconds * 1e6},
                                {"resident_bytes", static_cast<double>(resident_bytes())}});
    }
    if (events_.on_log) events_.on_log(p);
  }

  LoopOptions loop_options() const {
    return {.steps = options_.steps,
            .log_every = options_.log_every,
            .eval_every = options_.eval_every,
            .save_every = options_.save_every,
            .max_seconds = options_.max_seconds,
            .check_nan = options_.check_nan,
            .profile_steps = options_.save_dir.empty() ? 0 : 3};
  }

  LoopCallbacks callbacks() {
    LoopCallbacks callbacks;
    callbacks.set_batch = [this](int64_t steps_done) { return set_batch(steps_done); };
    callbacks.on_step = [this](const StepRecord& record) {
      if (events_.on_step) events_.on_step(progress(record));
    };
    callbacks.on_log = [this](const StepRecord& record) { log(progress(record)); };
    if (evaluator_) callbacks.evaluate = [this](int64_t steps_done) { evaluate(steps_done); };
    callbacks.save = [this](int64_t steps_done) { save(steps_done); };
    callbacks.stop_signal = events_.stop_signal;
    return callbacks;
  }

  void say_the_end() const {
    const LoopResult& loop = result_.loop;
    if (loop.signal != 0) {
      say("stopped by signal {} after step {}{}", loop.signal, loop.steps_done,
          options_.save_dir.empty() ? "" : "; continue with --resume");
    } else if (loop.timed_out) {
      say("stopped by --max-seconds after step {}", loop.steps_done);
    }
  }

  void write_results() {
    const fs::path dir = options_.save_dir;
    if (options_.profile) write_trace(dir / "trace.json", result_.loop);
    if (result_.checkpoint.empty()) {
      const auto checkpoints = list_checkpoints(dir);
      if (!checkpoints.empty()) result_.checkpoint = checkpoints.front();
    }
    result_.report = dir / "report.html";
    write_byte_lm_report(result_.report, {.options = options_,
                                          .loop = result_.loop,
                                          .stats = step_->executable().stats(),
                                          .metrics = read_metrics(log_->csv_path()),
                                          .eval_bits_per_byte = result_.eval_bits_per_byte,
                                          .peak_flops = peak_,
                                          .flops_per_step = flops_per_step_});
    say("report: {}", result_.report.string());
  }

  const ByteLmOptions& options_;
  const JobEvents& events_;
  ByteData data_;
  DataSplit parts_;
  ByteSequences sequences_;
  std::vector<uint8_t> batch_;
  std::optional<io::FolderLock> lock_;
  std::optional<LoadedCheckpoint> loaded_;
  std::optional<Step> step_;
  std::unique_ptr<ByteLmEvaluator> evaluator_;
  std::optional<MetricsLogger> log_;
  double peak_ = 0.0, flops_per_step_ = 0.0;
  int64_t steps_at_start_ = 0, sequences_at_start_ = 0;
  JobResult result_;
};

}  // namespace

std::string progress_line(const Progress& p) {
  return fmt::format(
      "step {}/{}  loss {:.4f}  {:.3f} bits/byte  {:.2f} seq/s  {:.1f} % of peak  "
      "ETA {}",
      p.record.step, p.steps, p.record.loss, p.bits_per_byte, p.sequences_per_second,
      100.0 * p.share_of_peak, human_duration(p.seconds_left));
}

JobResult train_byte_lm(const ByteLmOptions& options, const JobEvents& events) {
  validate(options);
  return Job(options, events).run();
}

}  // namespace espalier::train
