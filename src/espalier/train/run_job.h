// SPDX-License-Identifier: Apache-2.0
// A training run from its first line of text to its report: folder, checkpoints, loop, logs. What a
// kind of model adds to that is a RunTask.
//
// The folder of a run holds run.json (how it was started), step-00000123/ (checkpoints),
// metrics.csv, events.out.tfevents.* (TensorBoard), report.html and, with profiling, trace.json.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/train/chart.h"
#include "espalier/train/loop.h"
#include "espalier/train/metrics.h"
#include "espalier/train/run_options.h"

namespace espalier::train {

/// One step in the units that people read.
struct Progress {
  StepRecord record;
  int64_t steps = 0;
  std::string quality;  // the loss in the model's own units: "3.035 bits/byte"
  double sequences_per_second = 0.0;
  double share_of_peak = 0.0;  // 0 when the peak is unknown
  double seconds_left = 0.0;
};

/// "step 120/5000  loss 2.1034  3.035 bits/byte  81.2 seq/s  76.3 % of peak  ETA 4 min 10 s"
std::string progress_line(const Progress& progress);

/// What the caller shows and asks; each may be empty.
struct JobEvents {
  std::function<void(std::string_view)> say;     // a line of text
  std::function<void(const Progress&)> on_step;  // every step
  std::function<void(const Progress&)> on_log;   // every log_every steps
  std::function<int()> stop_signal;              // see LoopCallbacks
};

/// Numbers under their columns of metrics.csv.
using NamedNumbers = std::vector<std::pair<std::string, double>>;

struct Evaluation {
  NamedNumbers numbers;
  std::string text;  // "2.1 bits/byte on held-out text"
};

/// What a run of one kind of model adds. Sequences are counted from the beginning of the run,
/// through all epochs.
class RunTask {
 public:
  RunTask() = default;
  RunTask(const RunTask&) = delete;
  RunTask& operator=(const RunTask&) = delete;
  virtual ~RunTask() = default;

  /// "byte-lm", as in `espalier train byte-lm`; and for the report's title.
  virtual std::string job() const = 0;
  virtual std::string title() const = 0;
  /// Sections of a checkpoint, see checkpoint.h. `next` is the first sequence not yet trained on;
  /// position() names its entry in data().
  virtual CheckpointSection config() const = 0;
  virtual CheckpointSection options() const = 0;
  virtual CheckpointSection data(int64_t next) const = 0;
  virtual std::string position() const = 0;
  /// Flags that choose the data, for messages.
  virtual std::string data_flags() const = 0;
  /// Text files that every checkpoint holds beside its tensors, by name.
  virtual std::map<std::string, std::string> files() const { return {}; }

  /// Lines about model and data.
  virtual std::vector<std::string> describe() const = 0;
  virtual double flops_per_step() const = 0;
  virtual std::string flops_text() const = 0;

  /// The compiled step of the usual batches; its state is the run's.
  virtual Step& start() = 0;
  /// Gives a run that begins its first values.
  virtual void initialize(Step& step, uint64_t seed) { step.initialize(seed); }
  virtual LoopBatch batch(int64_t first) = 0;
  /// How many steps have been compiled.
  virtual int64_t compilations() const { return 1; }

  /// Prepares evaluation; throws `user` where nothing is held out.
  virtual void start_evaluation() = 0;
  virtual Evaluation evaluate() = 0;

  /// Own columns of metrics.csv for a step and for an evaluation, and their values for a step.
  virtual std::vector<std::string> columns() const = 0;
  virtual NamedNumbers numbers(const StepRecord& record) const = 0;
  virtual std::string quality(double loss) const = 0;
  virtual Chart loss_chart(const MetricsTable& metrics) const = 0;
};

struct JobResult {
  LoopResult loop;
  Evaluation evaluation;             // the last one
  std::filesystem::path checkpoint;  // the last one, empty without a folder
  std::filesystem::path report;
};

/// Runs the task to options.steps, from its newest checkpoint with options.resume.
JobResult run_job(RunTask& task, const RunOptions& options, const JobEvents& events);

}  // namespace espalier::train
