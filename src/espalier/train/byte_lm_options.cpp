// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/byte_lm_options.h"

#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/tensor/dtype_names.h"

namespace espalier::train {
namespace {

void check_name(std::string_view flag, const std::string& value,
                const std::vector<std::string>& known) {
  for (const std::string& name : known) {
    if (name == value) return;
  }
  fail(ErrorKind::user, "train", "--{} {} is none of {}{}", flag, value, fmt::join(known, ", "),
       nearest_hint(value, known));
}

Schedule make_schedule(const OptimizerChoice& choice, int64_t steps) {
  if (choice.schedule == "constant") return constant_schedule(choice.lr, choice.warmup);
  const DecayOptions decay{
      .peak = choice.lr, .warmup = choice.warmup, .total = choice.total > 0 ? choice.total : steps};
  return choice.schedule == "linear" ? linear_schedule(decay) : cosine_schedule(decay);
}

int64_t read_size(const LoadedCheckpoint& loaded, const std::string& name) {
  const auto& config = loaded.checkpoint.config;
  const auto found = config.find(name);
  ESPALIER_CHECK(found != config.end() && std::holds_alternative<int64_t>(found->second),
                 ErrorKind::data, "checkpoint",
                 "no whole number \"{}\" in the configuration, at {}", name,
                 loaded.folder.string());
  return std::get<int64_t>(found->second);
}

}  // namespace

void validate(const ByteLmOptions& o) {
  const auto positive = [](std::string_view flag, int64_t value) {
    ESPALIER_CHECK(value > 0, ErrorKind::user, "train", "--{} {} must be positive", flag, value);
  };
  const auto not_negative = [](std::string_view flag, double value) {
    ESPALIER_CHECK(value >= 0, ErrorKind::user, "train", "--{} {} must not be negative", flag,
                   value);
  };
  positive("batch-size", o.batch_size);
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
  not_negative("max-seconds", o.max_seconds);
  check_name("optimizer", o.optimizer.name, {"adam", "adamw", "sgd"});
  check_name("schedule", o.optimizer.schedule, {"constant", "linear", "cosine"});
  ESPALIER_CHECK(!o.resume || !o.save_dir.empty(), ErrorKind::user, "train",
                 "--resume needs the folder of the run; add --save-dir DIR");
  ESPALIER_CHECK(!o.profile || !o.save_dir.empty(), ErrorKind::user, "train",
                 "--profile writes into the folder of the run; add --save-dir DIR");
}

Optimizer make_optimizer(const OptimizerChoice& choice, int64_t steps) {
  const Schedule schedule = make_schedule(choice, steps);
  Optimizer optimizer;
  if (choice.name == "sgd") {
    optimizer = sgd({.learning_rate = schedule, .momentum = choice.momentum});
  } else if (choice.name == "adamw") {
    // Biases, norms and embeddings are not decayed: only what matrix products multiply with.
    const DecayMask mask{.except = {}, .only = [](std::string_view path, const Shape& shape) {
                           return shape.rank() >= 2 && !path.starts_with("embedding") &&
                                  !path.starts_with("position");
                         }};
    optimizer =
        adamw({.learning_rate = schedule, .weight_decay = choice.weight_decay, .mask = mask});
  } else {
    optimizer = adam({.learning_rate = schedule});
  }
  return choice.clip > 0.0 ? chain(clip_by_global_norm(choice.clip), optimizer) : optimizer;
}

CheckpointSection config_section(const models::ByteLmConfig& m) {
  return {{"num_layer", m.layers}, {"d_model", m.width}, {"heads", m.heads},
          {"ffn", m.ffn},          {"vocab", m.vocab},   {"seq_len", m.seq_len}};
}

CheckpointSection options_section(const ByteLmOptions& o) {
  return {
      {"batch_size", o.batch_size},
      {"dtype", std::string(long_name(o.compile.compute_dtype))},
      {"dropout", o.model.dropout},
      {"init", std::string(o.model.init == nn::InitScheme::torch ? "torch" : "jax")},
      {"model", std::string(o.variant == models::ByteLmVariant::library ? "library" : "handcraft")},
      {"compile", o.compile.fuse},
      {"flash", o.compile.flash},
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

void apply_saved(const LoadedCheckpoint& loaded, ByteLmOptions& o) {
  const CheckpointSection& saved = loaded.checkpoint.options;
  const auto take = [&](const std::string& name, auto& value) {
    using T = std::remove_reference_t<decltype(value)>;
    const auto found = saved.find(name);
    if (found == saved.end()) return;
    ESPALIER_CHECK(std::holds_alternative<T>(found->second), ErrorKind::data, "checkpoint",
                   "option \"{}\" has another type than this version's, at {}", name,
                   loaded.folder.string());
    value = std::get<T>(found->second);
  };
  std::string dtype{long_name(o.compile.compute_dtype)}, init = "torch", variant = "library";
  o.model = read_config(loaded);
  take("batch_size", o.batch_size);
  take("dtype", dtype);
  take("dropout", o.model.dropout);
  take("init", init);
  take("model", variant);
  take("compile", o.compile.fuse);
  take("flash", o.compile.flash);
  take("optimizer", o.optimizer.name);
  take("lr", o.optimizer.lr);
  take("schedule", o.optimizer.schedule);
  take("warmup", o.optimizer.warmup);
  take("decay_steps", o.optimizer.total);
  take("momentum", o.optimizer.momentum);
  take("weight_decay", o.optimizer.weight_decay);
  take("clip", o.optimizer.clip);
  take("steps", o.steps);
  take("save_every", o.save_every);
  take("keep", o.keep);
  take("eval_every", o.eval_every);
  take("eval_batches", o.eval_batches);
  take("log_every", o.log_every);
  o.compile.compute_dtype = parse_compute_dtype(dtype);
  o.model.init = init == "jax" ? nn::InitScheme::jax : nn::InitScheme::torch;
  o.variant = models::parse_byte_lm_variant(variant);
  o.seed = loaded.checkpoint.seed;
  const CheckpointSection& data = loaded.checkpoint.data;
  if (const auto found = data.find("source"); found != data.end()) {
    if (const auto* source = std::get_if<std::string>(&found->second)) o.data = *source;
  }
  if (const auto found = data.find("holdout"); found != data.end()) {
    if (const auto* holdout = std::get_if<double>(&found->second)) o.holdout = *holdout;
  }
}

bool take_over_run(ByteLmOptions& options) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(options.save_dir, ignored)) return false;
  const auto loaded = load_newest(options.save_dir);
  if (loaded) apply_saved(*loaded, options);
  return loaded.has_value();
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

models::ByteLmConfig read_config(const LoadedCheckpoint& loaded) {
  models::ByteLmConfig m;
  m.layers = read_size(loaded, "num_layer");
  m.width = read_size(loaded, "d_model");
  m.heads = read_size(loaded, "heads");
  m.ffn = read_size(loaded, "ffn");
  m.vocab = read_size(loaded, "vocab");
  m.seq_len = read_size(loaded, "seq_len");
  return m;
}

DType parse_compute_dtype(std::string_view text) {
  if (text == "float32" || text == "f32") return DType::f32;
  if (text == "bfloat16" || text == "bf16") return DType::bf16;
  if (text == "float16" || text == "f16") return DType::f16;
  const std::vector<std::string> known{"float32", "bfloat16", "float16"};
  fail(ErrorKind::user, "train", "--dtype {} is none of {}{}", text, fmt::join(known, ", "),
       nearest_hint(text, known));
}

std::string flops_text(const models::ByteLmConfig& m) {
  const double all = models::byte_lm_train_flops(m);
  const double attention = 6.0 * static_cast<double>(m.layers * m.seq_len * m.seq_len * m.width);
  return fmt::format(
      "{:.4g} GFLOP per sequence = matmul {:.4g} (6 x weights x seq) + causal attention {:.3g} "
      "(12 x layers x seq^2 x width, half of it)",
      all * 1e-9, (all - attention) * 1e-9, attention * 1e-9);
}

}  // namespace espalier::train
