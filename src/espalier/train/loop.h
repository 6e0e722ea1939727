// SPDX-License-Identifier: Apache-2.0
// The training loop: runs a compiled step again and again and calls back for everything else.
//
// A record of step k is handed over after step k+1 has been started, so that nothing waits for it;
// after the last step the rest follows.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "espalier/backend/executable.h"
#include "espalier/train/step.h"

namespace espalier::train {

struct LoopOptions {
  int64_t steps = 0;       // the run ends when this many are done, counted from its beginning
  int64_t log_every = 20;  // also the window of speeds
  int64_t eval_every = 0;  // and after the last step; 0: never
  int64_t save_every = 0;
  double max_seconds = 0.0;   // since the start of this loop; 0: no limit
  bool check_nan = false;     // keeps a copy of the state, to name the op that made a NaN
  int64_t profile_steps = 3;  // timed kernel by kernel, after a few steps of warming up
};

/// Numbers of one step. Steps are counted from 1.
struct StepRecord {
  int64_t step = 0;
  double loss = 0.0;
  double learning_rate = 0.0;
  double loss_scale = 0.0;        // 0 where there is none
  double seconds_per_step = 0.0;  // mean of the window
  double host_seconds = 0.0;      // of this step
  double elapsed = 0.0;           // since the start of the loop
};

/// A batch that has been set.
struct LoopBatch {
  Step* step = nullptr;                       // that it is set in; null: the step of the loop
  std::map<std::string, const void*> inputs;  // by graph input
};

struct LoopCallbacks {
  /// Sets the batch inputs for the step after `steps_done` others. Batches of several shapes have
  /// steps of their own over one state.
  std::function<LoopBatch(int64_t steps_done)> set_batch;
  std::function<void(const StepRecord&)> on_step;  // every step
  std::function<void(const StepRecord&)> on_log;   // every log_every steps and the last
  /// Evaluates with the parameters of now.
  std::function<void(int64_t steps_done)> evaluate;
  std::function<void(int64_t steps_done)> save;
  /// A signal that asks to stop, or 0. Asked before every step.
  std::function<int()> stop_signal;
};

struct LoopResult {
  int64_t steps_done = 0;
  double loss = 0.0;  // of the last step
  double seconds = 0.0;
  int signal = 0;  // that ended the loop early
  bool timed_out = false;
  std::vector<ProfileRow> profile;
  std::vector<ProfileEvent> events;  // of the last profiled step
};

/// Runs from where the step's state is to options.steps. Saves at the end, at a signal and at the
/// time limit. Throws `check` when the loss is no finite number: the step is named, and nothing is
/// saved.
LoopResult train_loop(Step& step, const LoopOptions& options, const LoopCallbacks& callbacks);

}  // namespace espalier::train
