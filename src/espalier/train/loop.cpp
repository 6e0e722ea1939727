// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/loop.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "espalier/base/error.h"
#include "espalier/train/find_nan.h"

namespace espalier::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Steps before the profiled ones: caches and pages are warm after these.
constexpr int64_t kWarmup = 4;

class Loop {
 public:
  Loop(Step& step, const LoopOptions& options, const LoopCallbacks& callbacks)
      : step_(step), options_(options), callbacks_(callbacks), done_(step.steps_done()) {
    for (const StateSlot& slot : step.slots()) has_loss_scale_ |= slot.name == "loss_scale";
  }

  LoopResult run() {
    window_start_ = start_ = Clock::now();
    const int64_t first = done_;
    while (done_ < options_.steps && !must_stop()) {
      const int64_t in_loop = done_ - first;
      const bool profiled = options_.profile_steps > 0 && in_loop >= profile_begin(first) &&
                            in_loop < profile_begin(first) + options_.profile_steps;
      one_step(profiled);
      after_step();
    }
    hand_over();
    result_.steps_done = done_;
    result_.seconds = seconds_since(start_);
    if (callbacks_.save && saved_ != done_ && done_ > first) callbacks_.save(done_);
    return result_;
  }

 private:
  /// Short runs are profiled at their end, so that the first, slow step is not in the table.
  int64_t profile_begin(int64_t first) const {
    const int64_t steps = options_.steps - first;
    return std::min(kWarmup, std::max<int64_t>(0, steps - options_.profile_steps));
  }

  bool must_stop() {
    if (callbacks_.stop_signal) result_.signal = callbacks_.stop_signal();
    result_.timed_out = options_.max_seconds > 0.0 && seconds_since(start_) > options_.max_seconds;
    return result_.signal != 0 || result_.timed_out;
  }

  void one_step(bool profiled) {
    const LoopBatch batch = callbacks_.set_batch(done_);
    Step& step = batch.step != nullptr ? *batch.step : step_;
    StateSnapshot before;
    if (options_.check_nan) before = snapshot(step);
    step.executable().set_profiling(profiled);
    step.run();
    if (profiled) {
      result_.profile = step.executable().profile();
      result_.events = step.executable().last_events();
    }
    hand_over();
    ++done_;
    StepRecord record;
    record.step = done_;
    record.loss = step.loss();
    record.learning_rate = step.scalar("learning_rate");
    if (has_loss_scale_) record.loss_scale = step.state("loss_scale").get(0);
    record.host_seconds = step.executable().host_seconds_last_run();
    record.elapsed = seconds_since(start_);
    if (!std::isfinite(record.loss)) stop_at_nan(step, record, before, batch.inputs);
    result_.loss = record.loss;
    pending_ = record;
  }

  void after_step() {
    StepRecord& record = *pending_;
    const auto in_window = static_cast<double>(++window_steps_);
    const double window = seconds_since(window_start_);
    // Just after a window has been closed, the mean of that one still says more.
    record.seconds_per_step = window_steps_ * 4 < options_.log_every && window_seconds_ > 0.0
                                  ? window_seconds_
                                  : window / in_window;
    if (done_ % options_.log_every == 0) {
      window_seconds_ = window / in_window;
      restart_window();
    }
    const bool evaluates = options_.eval_every > 0 && callbacks_.evaluate;
    if (evaluates && (done_ % options_.eval_every == 0 || done_ == options_.steps)) {
      hand_over();
      callbacks_.evaluate(done_);
      restart_window();
    }
    if (options_.save_every > 0 && callbacks_.save && done_ % options_.save_every == 0) {
      hand_over();
      callbacks_.save(done_);
      saved_ = done_;
      restart_window();
    }
  }

  void restart_window() {
    window_start_ = Clock::now();
    window_steps_ = 0;
  }

  void hand_over() {
    if (!pending_) return;
    const StepRecord record = *pending_;
    pending_.reset();
    if (callbacks_.on_step) callbacks_.on_step(record);
    const bool last = record.step == options_.steps;
    if (callbacks_.on_log && (record.step % options_.log_every == 0 || last)) {
      callbacks_.on_log(record);
    }
  }

  [[noreturn]] void stop_at_nan(Step& step, const StepRecord& record, const StateSnapshot& before,
                                const std::map<std::string, const void*>& batch) {
    std::string where = "--check-nan names the op that made it";
    if (options_.check_nan) {
      const std::string op = first_nan(step, before, batch);
      where = op.empty() ? "no op makes it when the step runs op by op"
                         : "the first op that made a NaN is " + op;
    }
    fail(ErrorKind::check, "train",
         "the loss is {} at step {}, learning rate {:g}; {}; earlier checkpoints are kept",
         record.loss, record.step, record.learning_rate, where);
  }

  Step& step_;
  const LoopOptions& options_;
  const LoopCallbacks& callbacks_;
  LoopResult result_;
  int64_t done_;
  int64_t saved_ = -1;
  bool has_loss_scale_ = false;
  std::optional<StepRecord> pending_;
  Clock::time_point start_, window_start_;
  int64_t window_steps_ = 0;
  double window_seconds_ = 0.0;
};

}  // namespace

LoopResult train_loop(Step& step, const LoopOptions& options, const LoopCallbacks& callbacks) {
  return Loop(step, options, callbacks).run();
}

}  // namespace espalier::train
