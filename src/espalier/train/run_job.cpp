// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/run_job.h"

#include <algorithm>
#include <optional>

#include "espalier/backend/cpu/peak/peak.h"
#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/base/version.h"
#include "espalier/io/atomic.h"
#include "espalier/io/json.h"
#include "espalier/train/checkpoint_state.h"
#include "espalier/train/memory.h"
#include "espalier/train/run_report.h"
#include "espalier/train/run_state.h"

namespace espalier::train {
namespace {

namespace fs = std::filesystem;

const io::FileContext kFolderContext{.stage = "train",
                                     .next_step = "give a folder you can write to as --save-dir"};

class Job {
 public:
  Job(RunTask& task, const RunOptions& options, const JobEvents& events)
      : task_(task), options_(options), events_(events) {}

  JobResult run() {
    open_folder();
    for (const std::string& line : task_.describe()) say("{}", line);
    peak_ = peak_flops();
    say("{}; peak {:.1f} GFLOP/s {}", task_.flops_text(), peak_ * 1e-9,
        long_name(options_.compile.compute_dtype));
    start_step();
    if (options_.eval_every > 0) task_.start_evaluation();
    start_log();
    result_.loop = train_loop(*step_, loop_options(), callbacks());
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
      const auto begun = read_run_file(dir);
      ESPALIER_CHECK(begun.has_value(), ErrorKind::user, "resume",
                     "no checkpoint in {}; leave out --resume to start a run there", dir.string());
      say("the run in {} ended before its first checkpoint: it starts again", dir.string());
      check_resume(*begun);
    }
    if (loaded_) {
      if (!loaded_->warnings.empty()) say("{}", loaded_->warnings);
      check_resume(*loaded_);
    }
    write_run_file();
  }

  void check_resume(const LoadedCheckpoint& loaded) {
    const Checkpoint& saved = loaded.checkpoint;
    const std::string config = differences(saved.config, task_.config());
    ESPALIER_CHECK(config.empty(), ErrorKind::user, "resume",
                   "the architecture is not that of the checkpoint: {}, at {}", config,
                   loaded.folder.string());
    ESPALIER_CHECK(saved.seed == options_.seed, ErrorKind::user, "resume",
                   "seed is {} in the checkpoint and {} now, at {}", saved.seed, options_.seed,
                   loaded.folder.string());
    CheckpointSection was = saved.data;
    CheckpointSection is = task_.data(0);
    for (const std::string& name : {task_.position(), std::string("source")}) {
      was.erase(name);
      is.erase(name);
    }
    const std::string data = differences(was, is);
    ESPALIER_CHECK(data.empty(), ErrorKind::user, "resume",
                   "the data is not that of the checkpoint: {}, at {}; give the same {}", data,
                   options_.data, task_.data_flags());
    const std::string changed = differing_options(saved.options, task_.options());
    if (!changed.empty()) say("note: from here on, {}", changed);
    ESPALIER_CHECK(saved.step <= options_.steps, ErrorKind::user, "resume",
                   "the checkpoint is at step {}, beyond --steps {}", saved.step, options_.steps);
    for (const fs::path& aside : set_aside_after(options_.save_dir, saved.step)) {
      say("set aside {}", aside.string());
    }
  }

  void write_run_file() const {
    const RunFile run{.version = std::string(version()),
                      .job = task_.job(),
                      .seed = options_.seed,
                      .config = task_.config(),
                      .options = task_.options(),
                      .data = task_.data(0)};
    io::write_file_atomically(fs::path(options_.save_dir) / kRunFile, print_run_file(run),
                              kFolderContext);
  }

  void save(int64_t steps_done) {
    if (options_.save_dir.empty()) return;
    Checkpoint checkpoint;
    checkpoint.step = steps_done;
    checkpoint.seed = options_.seed;
    checkpoint.config = task_.config();
    checkpoint.options = task_.options();
    checkpoint.data = task_.data(first_sequence(steps_done));
    checkpoint.parameters = step_->parameters();
    checkpoint.state = step_->other_state();
    checkpoint.files = task_.files();
    result_.checkpoint = save_checkpoint(options_.save_dir, checkpoint);
    keep_last(options_.save_dir, options_.keep);
    say("saved {}", result_.checkpoint.string());
  }

  // --- what runs ---

  double peak_flops() const {
    if (options_.peak_gflops > 0.0) return options_.peak_gflops * 1e9;
    const cpu::PeakReport peak =
        cpu::measure_peak({.threads = options_.compile.threads, .seconds = 0.05, .memory = false});
    return peak.of(options_.compile.compute_dtype).peak();
  }

  void start_step() {
    step_ = &task_.start();
    stats_ = step_->executable().stats();
    say("compiled in {}: {} loops, {} distinct, {} from the cache; {} of memory",
        human_duration(stats_.seconds), stats_.loops, stats_.distinct_loops,
        stats_.loops_from_cache, human_bytes(stats_.predicted_bytes));
    if (!loaded_) {
      task_.initialize(*step_, options_.seed);
      return;
    }
    restore(*step_, *loaded_);
    steps_at_start_ = loaded_->checkpoint.step;
    const auto& data = loaded_->checkpoint.data;
    const auto found = data.find(task_.position());
    ESPALIER_CHECK(found != data.end() && std::holds_alternative<int64_t>(found->second),
                   ErrorKind::data, "checkpoint", "no position in the data, at {}",
                   loaded_->folder.string());
    sequences_at_start_ = std::get<int64_t>(found->second);
    say("resuming at step {} from {}", steps_at_start_, loaded_->folder.string());
    loaded_.reset();
  }

  void evaluate(int64_t steps_done) {
    result_.evaluation = task_.evaluate();
    if (log_) {
      std::vector<MetricValue> row;
      for (const auto& [name, value] : result_.evaluation.numbers) row.emplace_back(name, value);
      log_->log(steps_done, row);
    }
    say("step {}: {}", steps_done, result_.evaluation.text);
  }

  void start_log() {
    if (options_.save_dir.empty()) return;
    MetricsOptions metrics{.folder = options_.save_dir, .columns = metric_columns(task_)};
    if (steps_at_start_ > 0) metrics.resume_step = steps_at_start_;
    log_.emplace(std::move(metrics));
  }

  int64_t first_sequence(int64_t steps_done) const {
    return sequences_at_start_ + (steps_done - steps_at_start_) * options_.batch_size;
  }

  Progress progress(const StepRecord& record) const {
    Progress p{.record = record, .steps = options_.steps, .quality = task_.quality(record.loss)};
    p.sequences_per_second = static_cast<double>(options_.batch_size) / record.seconds_per_step;
    p.share_of_peak = peak_ > 0.0 ? task_.flops_per_step() / record.seconds_per_step / peak_ : 0.0;
    p.seconds_left = static_cast<double>(options_.steps - record.step) * record.seconds_per_step;
    if (options_.max_seconds > 0.0) {
      p.seconds_left =
          std::min(p.seconds_left, std::max(0.0, options_.max_seconds - record.elapsed));
    }
    return p;
  }

  void log(const Progress& p) {
    if (log_) {
      std::vector<MetricValue> row{{"loss", p.record.loss},
                                   {"learning_rate", p.record.learning_rate},
                                   {"loss_scale", p.record.loss_scale},
                                   {"sequences_per_second", p.sequences_per_second},
                                   {"share_of_peak", p.share_of_peak},
                                   {"host_us", p.record.host_seconds * 1e6},
                                   {"resident_bytes", static_cast<double>(resident_bytes())},
                                   {"compilations", static_cast<double>(task_.compilations())}};
      const NamedNumbers own = task_.numbers(p.record);
      for (const auto& [name, value] : own) row.emplace_back(name, value);
      log_->log(p.record.step, row);
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
    callbacks.set_batch = [this](int64_t steps_done) {
      return task_.batch(first_sequence(steps_done));
    };
    callbacks.on_step = [this](const StepRecord& record) {
      if (events_.on_step) events_.on_step(progress(record));
    };
    callbacks.on_log = [this](const StepRecord& record) { log(progress(record)); };
    callbacks.evaluate = [this](int64_t steps_done) { evaluate(steps_done); };
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
    write_run_report(result_.report, {.task = task_,
                                      .options = options_,
                                      .loop = result_.loop,
                                      .stats = stats_,
                                      .metrics = read_metrics(log_->csv_path()),
                                      .evaluation = result_.evaluation,
                                      .peak_flops = peak_});
    say("report: {}", result_.report.string());
  }

  RunTask& task_;
  const RunOptions& options_;
  const JobEvents& events_;
  std::optional<io::FolderLock> lock_;
  std::optional<LoadedCheckpoint> loaded_;
  Step* step_ = nullptr;
  CompileStats stats_;
  std::optional<MetricsLogger> log_;
  double peak_ = 0.0;
  int64_t steps_at_start_ = 0, sequences_at_start_ = 0;
  JobResult result_;
};

}  // namespace

std::string progress_line(const Progress& p) {
  return fmt::format("step {}/{}  loss {:.4f}  {}  {:.2f} seq/s  {:.1f} % of peak  ETA {}",
                     p.record.step, p.steps, p.record.loss, p.quality, p.sequences_per_second,
                     100.0 * p.share_of_peak, human_duration(p.seconds_left));
}

JobResult run_job(RunTask& task, const RunOptions& options, const JobEvents& events) {
  return Job(task, options, events).run();
}

}  // namespace espalier::train
