// SPDX-License-Identifier: Apache-2.0
// `train byte-lm`: data, compiled steps, loop, logs, checkpoints and report of one run.
//
// The folder of a run holds run.json (how it was started), step-00000123/ (checkpoints),
// metrics.csv, events.out.tfevents.* (TensorBoard), report.html and, with profiling, trace.json.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "espalier/train/byte_lm_options.h"
#include "espalier/train/loop.h"

namespace espalier::train {

/// One step in the units that people read.
struct Progress {
  StepRecord record;
  int64_t steps = 0;
  double bits_per_byte = 0.0;
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

struct JobResult {
  LoopResult loop;
  double eval_bits_per_byte = 0.0;   // of the last evaluation, 0 without
  std::filesystem::path checkpoint;  // the last one, empty without a folder
  std::filesystem::path report;
};

JobResult train_byte_lm(const ByteLmOptions& options, const JobEvents& events);

}  // namespace espalier::train
