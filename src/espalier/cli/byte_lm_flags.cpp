// SPDX-License-Identifier: Apache-2.0
#include "espalier/cli/byte_lm_flags.h"

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/tensor/dtype_names.h"
#include "espalier/train/cache_dir.h"
#include "espalier/train/text_steps.h"

namespace espalier::cli {

void ModelFlags::add_to(Command& app, train::ByteLmOptions& o) {
  const char* group = "Model";
  app.add_option("--model", model, "handcraft (basic ops) or library (layers)")->group(group);
  app.add_option("--num-layer,--layers", o.model.layers, "layers")->group(group);
  app.add_option("--d-model,--width", o.model.width, "width")->group(group);
  app.add_option("--heads,--num-head", o.model.heads, "attention heads")->group(group);
  app.add_option("--ffn", o.model.ffn, "width of the feed-forward part")->group(group);
  app.add_option("--seq-len", o.model.seq_len, "bytes of a sequence")->group(group);
  app.add_option("--dropout", o.model.dropout, "probability of dropping an element")->group(group);
  app.add_option("--init", init, "initial values: torch or jax")->group(group);
  compile.add_to(app, o.compile);
  app.add_option("--flash", o.compile.flash, "0: attention from basic ops, 1: flash attention")
      ->group("Compilation");
}

void ModelFlags::from(const train::ByteLmOptions& o) {
  model = o.variant == models::ByteLmVariant::library ? "library" : "handcraft";
  init = o.model.init == nn::InitScheme::torch ? "torch" : "jax";
  compile.from(o.compile);
}

void ModelFlags::take(train::ByteLmOptions& o) const {
  o.variant = models::parse_byte_lm_variant(model);
  const std::vector<std::string> inits{"torch", "jax"};
  ESPALIER_CHECK(init == "torch" || init == "jax", ErrorKind::user, "cli",
                 "--init {} is neither torch nor jax{}", init, nearest_hint(init, inits));
  o.model.init = init == "torch" ? nn::InitScheme::torch : nn::InitScheme::jax;
  compile.take(o.compile);
}

void add_run_flags(Command& app, train::RunOptions& o) {
  app.add_option("--steps", o.steps, "steps of the whole run");
  app.add_option("--batch-size,--batch", o.batch_size, "sequences of a step");
  app.add_option("--accumulate", o.accumulate,
                 "parts that a batch is cut into to save memory; changes no result");
  app.add_option("--seed", o.seed, "of initial values, data order and dropout");
  app.add_option("--holdout", o.holdout,
                 "part of the data kept for evaluation (0.05 with "
                 "--eval-every, else 0)");
  app.add_option("--max-seconds", o.max_seconds, "stop and save after this time; 0: no limit");
  const char* optimizer = "Optimizer";
  app.add_option("--optimizer", o.optimizer.name, "adam, adamw or sgd")->group(optimizer);
  app.add_option("--lr", o.optimizer.lr, "learning rate")->group(optimizer);
  app.add_option("--schedule,--decay", o.optimizer.schedule, "constant, linear or cosine")
      ->group(optimizer);
  app.add_option("--warmup", o.optimizer.warmup, "steps of linear warmup")->group(optimizer);
  app.add_option("--decay-steps", o.optimizer.total, "end of the schedule; 0: --steps")
      ->group(optimizer);
  app.add_option("--momentum", o.optimizer.momentum, "of sgd")->group(optimizer);
  app.add_option("--weight-decay", o.optimizer.weight_decay, "of adamw")->group(optimizer);
  app.add_option("--clip", o.optimizer.clip, "largest norm of the gradients; 0: off")
      ->group(optimizer);
  const char* files = "Checkpoints and logs";
  app.add_option("--save-dir", o.save_dir, "folder of the run")->group(files);
  app.add_option("--save-every", o.save_every, "steps between checkpoints; 0: at the end")
      ->group(files);
  app.add_option("--keep", o.keep, "checkpoints that are kept")->group(files);
  app.add_flag("--resume", o.resume, "continue the run in --save-dir")->group(files);
  app.add_option("--eval-every", o.eval_every,
                 "steps between evaluations, one more after the last; 0: none")
      ->group(files);
  app.add_option("--eval-batches", o.eval_batches, "batches of an evaluation")->group(files);
  app.add_option("--log-every", o.log_every, "steps between log lines")->group(files);
  app.add_flag("--profile", o.profile, "write a Chrome trace of one step")->group(files);
  app.add_flag("--check-nan", o.check_nan, "name the op that made a NaN (slower: copies the state)")
      ->group(files);
  add_machine_flags(app, o.compile);
  app.add_option("--peak-gflops", o.peak_gflops, "peak for shares; 0: measure it")
      ->group("Machine");
}

void CompileFlags::add_to(Command& app, CompileOptions& o) {
  const char* how = "Compilation";
  app.add_option("--dtype", dtype, "float32, bfloat16 or float16")->group(how);
  app.add_option("--compile", o.fuse, "0: op by op, 1: fused loops")->group(how);
  app.add_option("--remat", remat, "globs of scopes to recompute, separated by commas")->group(how);
  app.add_option("--disable-pass", o.disabled_passes, "passes to leave out")->group(how);
}

void CompileFlags::from(const CompileOptions& o) {
  dtype = long_name(o.compute_dtype);
  remat = fmt::format("{}", fmt::join(o.remat, ","));
}

void CompileFlags::take(CompileOptions& o) const {
  o.compute_dtype = train::parse_compute_dtype(dtype);
  o.remat = train::split_list(remat);
}

void add_machine_flags(Command& app, CompileOptions& o) {
  const char* group = "Machine";
  o.cache_dir = train::default_cache_dir();
  app.add_option("--threads", o.threads, "0: as many as there are processors")->group(group);
  app.add_option("--backend", o.backend, "cpu, or interp: every op in double")->group(group);
  app.add_option("--cache-dir", o.cache_dir, "folder of compiled loops; empty: none")->group(group);
}

}  // namespace espalier::cli
