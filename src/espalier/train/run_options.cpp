// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/run_options.h"

#include <algorithm>
#include <sstream>
#include <vector>

#include "espalier/base/text.h"

namespace espalier::train {
namespace {

Schedule make_schedule(const OptimizerChoice& choice, int64_t steps) {
  if (choice.schedule == "constant") return constant_schedule(choice.lr, choice.warmup);
  const DecayOptions decay{
      .peak = choice.lr, .warmup = choice.warmup, .total = choice.total > 0 ? choice.total : steps};
  return choice.schedule == "linear" ? linear_schedule(decay) : cosine_schedule(decay);
}

std::string joined(const std::vector<std::string>& list) {
  return fmt::format("{}", fmt::join(list, ","));
}

void take_list(const SavedSection& saved, const std::string& name, std::vector<std::string>& list) {
  std::string text = joined(list);
  saved.take(name, text);
  list = split_list(text);
}

}  // namespace

std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> parts;
  std::istringstream stream{std::string(text)};
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

void check_choice(std::string_view flag, const std::string& value,
                  const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), value) != known.end()) return;
  fail(ErrorKind::user, "train", "--{} {} is none of {}{}", flag, value, fmt::join(known, ", "),
       nearest_hint(value, known));
}

void validate_run(const RunOptions& o) {
  const auto positive = [](std::string_view flag, int64_t value) {
    ESPALIER_CHECK(value > 0, ErrorKind::user, "train", "--{} {} must be positive", flag, value);
  };
  const auto not_negative = [](std::string_view flag, double value) {
    ESPALIER_CHECK(value >= 0, ErrorKind::user, "train", "--{} {} must not be negative", flag,
                   value);
  };
  positive("batch-size", o.batch_size);
  positive("accumulate", o.accumulate);
  positive("steps", o.steps);
  positive("log-every", o.log_every);
  positive("keep", o.keep);
  positive("eval-batches", o.eval_batches);
  not_negative("save-every", static_cast<double>(o.save_every));
  not_negative("eval-every", static_cast<double>(o.eval_every));
  not_negative("threads", o.compile.threads);
  not_negative("warmup", static_cast<double>(o.optimizer.warmup));
  not_negative("lr", o.optimizer.lr);
  not_negative("clip", o.optimizer.clip);
  not_negative("weight-decay", o.optimizer.weight_decay);
  not_negative("decay-steps", static_cast<double>(o.optimizer.total));
  not_negative("max-seconds", o.max_seconds);
  check_choice("optimizer", o.optimizer.name, {"adam", "adamw", "sgd"});
  check_choice("schedule", o.optimizer.schedule, {"constant", "linear", "cosine"});
  const int64_t total = o.optimizer.total > 0 ? o.optimizer.total : o.steps;
  ESPALIER_CHECK(
      o.optimizer.schedule == "constant" ||
              o.optimizer.warmup<total, ErrorKind::user, "train",
                                 "--warmup {} must be less than {} {}, where the {} schedule ends",
                                 o.optimizer.warmup, o.optimizer.total> 0
          ? "--decay-steps"
          : "--steps",
      total, o.optimizer.schedule);
  ESPALIER_CHECK(o.batch_size % o.accumulate == 0, ErrorKind::user, "train",
                 "--accumulate {} does not divide --batch-size {}", o.accumulate, o.batch_size);
  ESPALIER_CHECK(!o.resume || !o.save_dir.empty(), ErrorKind::user, "train",
                 "--resume needs the folder of the run; add --save-dir DIR");
  ESPALIER_CHECK(!o.profile || !o.save_dir.empty(), ErrorKind::user, "train",
                 "--profile writes into the folder of the run; add --save-dir DIR");
}

void shorten_warmup(RunOptions& o) {
  const int64_t total = o.optimizer.total > 0 ? o.optimizer.total : o.steps;
  if (o.optimizer.warmup >= total) o.optimizer.warmup = total / 10;
}

Optimizer make_optimizer(const OptimizerChoice& choice, int64_t steps, const DecayMask& mask) {
  const Schedule schedule = make_schedule(choice, steps);
  Optimizer optimizer;
  if (choice.name == "sgd") {
    optimizer = sgd({.learning_rate = schedule, .momentum = choice.momentum});
  } else if (choice.name == "adamw") {
    optimizer =
        adamw({.learning_rate = schedule, .weight_decay = choice.weight_decay, .mask = mask});
  } else {
    optimizer = adam({.learning_rate = schedule});
  }
  return choice.clip > 0.0 ? chain(clip_by_global_norm(choice.clip), optimizer) : optimizer;
}

CheckpointSection run_section(const RunOptions& o) {
  return {{"batch_size", o.batch_size},
          {"accumulate", o.accumulate},
          {"dtype", std::string(long_name(o.compile.compute_dtype))},
          {"compile", o.compile.fuse},
          {"flash", o.compile.flash},
          {"remat", joined(o.compile.remat)},
          {"disabled_passes", joined(o.compile.disabled_passes)},
          {"optimizer", o.optimizer.name},
          {"lr", o.optimizer.lr},
          {"schedule", o.optimizer.schedule},
          {"warmup", o.optimizer.warmup},
          {"decay_steps", o.optimizer.total > 0 ? o.optimizer.total : o.steps},
          {"momentum", o.optimizer.momentum},
          {"weight_decay", o.optimizer.weight_decay},
          {"clip", o.optimizer.clip},
          {"steps", o.steps},
          {"save_every", o.save_every},
          {"keep", o.keep},
          {"eval_every", o.eval_every},
          {"eval_batches", o.eval_batches},
          {"log_every", o.log_every}};
}

void apply_run_section(const LoadedCheckpoint& loaded, RunOptions& o) {
  const SavedSection saved(loaded.checkpoint.options, loaded.folder);
  std::string dtype{long_name(o.compile.compute_dtype)};
  saved.take("batch_size", o.batch_size);
  saved.take("accumulate", o.accumulate);
  saved.take("dtype", dtype);
  saved.take("compile", o.compile.fuse);
  saved.take("flash", o.compile.flash);
  take_list(saved, "remat", o.compile.remat);
  take_list(saved, "disabled_passes", o.compile.disabled_passes);
  saved.take("optimizer", o.optimizer.name);
  saved.take("lr", o.optimizer.lr);
  saved.take("schedule", o.optimizer.schedule);
  saved.take("warmup", o.optimizer.warmup);
  saved.take("decay_steps", o.optimizer.total);
  saved.take("momentum", o.optimizer.momentum);
  saved.take("weight_decay", o.optimizer.weight_decay);
  saved.take("clip", o.optimizer.clip);
  saved.take("steps", o.steps);
  saved.take("save_every", o.save_every);
  saved.take("keep", o.keep);
  saved.take("eval_every", o.eval_every);
  saved.take("eval_batches", o.eval_batches);
  saved.take("log_every", o.log_every);
  o.compile.compute_dtype = parse_compute_dtype(dtype);
  o.seed = loaded.checkpoint.seed;
  const SavedSection data(loaded.checkpoint.data, loaded.folder);
  data.take("source", o.data);
  data.take("holdout", o.holdout);
}

std::string differing_options(const CheckpointSection& saved, const CheckpointSection& now) {
  CheckpointSection a = saved;
  CheckpointSection b = now;
  for (const char* name :
       {"steps", "save_every", "keep", "eval_every", "eval_batches", "log_every", "model"}) {
    a.erase(name);
    b.erase(name);
  }
  return differences(a, b);
}

std::string job_of(const CheckpointSection& config, const std::filesystem::path& folder) {
  // The byte LM's configuration does not name its model.
  std::string job = "byte-lm";
  SavedSection(config, folder).take("model_type", job);
  return job;
}

std::string job_of(const LoadedCheckpoint& loaded) {
  return job_of(loaded.checkpoint.config, loaded.folder);
}

void check_job(const LoadedCheckpoint& loaded, std::string_view job) {
  const std::string found = job_of(loaded);
  ESPALIER_CHECK(found == job, ErrorKind::user, "checkpoint",
                 "the model is of the kind {} where {} is needed, at {}", found, job,
                 loaded.folder.string());
}

int64_t SavedSection::size(const std::string& name) const {
  const auto found = section_.find(name);
  ESPALIER_CHECK(found != section_.end() && std::holds_alternative<int64_t>(found->second),
                 ErrorKind::data, "checkpoint",
                 "no whole number \"{}\" in the configuration, at {}", name, folder_.string());
  return std::get<int64_t>(found->second);
}

DType parse_compute_dtype(std::string_view text, std::string_view flag) {
  if (text == "float32" || text == "f32") return DType::f32;
  if (text == "bfloat16" || text == "bf16") return DType::bf16;
  if (text == "float16" || text == "f16") return DType::f16;
  const std::vector<std::string> known{"float32", "bfloat16", "float16"};
  fail(ErrorKind::user, "train", "{} {} is none of {}{}", flag, text, fmt::join(known, ", "),
       nearest_hint(text, known));
}

}  // namespace espalier::train
