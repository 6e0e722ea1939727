// SPDX-License-Identifier: Apache-2.0
// espalier extract, espalier verify, espalier init
#include <memory>
#include <utility>

#include "espalier/base/text.h"
#include "espalier/cli/command.h"
#include "espalier/cli/signals.h"
#include "espalier/extract/job.h"
#include "espalier/extract/verify.h"
#include "espalier/io/json.h"
#include "espalier/models/qwen2_folder.h"
#include "espalier/train/cache_dir.h"
#include "espalier/train/run_options.h"

namespace espalier::cli {
namespace {

struct State {
  extract::ExtractOptions options;
  std::vector<std::string> dataset;
  std::string format = "auto", length_policy = "error", batching = "pack";
  std::string dtype = "float32", store_dtype;
  bool json = false;
};

void print(const extract::ExtractReport& r, bool json) {
  const double rate = static_cast<double>(r.made_tokens) / r.seconds;
  if (json) {
    nlohmann::ordered_json stages;
    for (const extract::StageShare& stage : r.stages.stages) stages[stage.name] = stage.seconds;
    fmt::print("{}\n", nlohmann::ordered_json{{"shards", r.shards},
                                              {"samples", r.samples},
                                              {"tokens", r.tokens},
                                              {"made_shards", r.made_shards},
                                              {"made_tokens", r.made_tokens},
                                              {"bytes", r.bytes},
                                              {"compiles", r.compiles},
                                              {"useful_share", r.useful_share},
                                              {"bad_lines", r.source.bad_lines},
                                              {"compile_seconds", r.compile_seconds},
                                              {"seconds", r.seconds},
                                              {"stage_seconds", stages},
                                              {"limit", r.stages.limit},
                                              {"tokens_per_second", rate},
                                              {"complete", r.complete}}
                           .dump());
    return;
  }
  fmt::print("{} of {} shards made here, {} tokens, {} written, {} shapes compiled, {}\n",
             r.made_shards, r.shards, r.made_tokens, human_bytes(r.bytes), r.compiles,
             human_duration(r.seconds));
  for (const extract::StageShare& stage : r.stages.stages) {
    fmt::print("  {:9} {:>9}  {:5.1f} %{}\n", stage.name, human_duration(stage.seconds),
               100.0 * stage.share, stage.name == r.stages.limit ? "  the limit" : "");
  }
  if (r.complete) fmt::print("the run is complete: {} samples\n", r.samples);
}

int run(State& state) {
  extract::ExtractOptions& o = state.options;
  o.source.files.assign(state.dataset.begin(), state.dataset.end());
  o.source.format = extract::parse_source_format(state.format);
  o.source.length_policy = extract::parse_length_policy(state.length_policy);
  o.batch.batching = extract::parse_batching(state.batching);
  o.compile.compute_dtype = train::parse_compute_dtype(state.dtype);
  o.store_dtype =
      train::parse_compute_dtype(state.store_dtype.empty() ? state.dtype : state.store_dtype);
  o.compile.cache_dir = train::default_cache_dir();
  extract::ExtractEvents events;
  events.stop = stop_signal;
  events.line = [](const std::string& line) { fmt::print(stderr, "{}\n", line); };
  events.progress = [shown = int64_t{-1}](const extract::ExtractProgress& p) mutable {
    if (p.shards_done == std::exchange(shown, p.shards_done)) return;
    const double rate = static_cast<double>(p.tokens_done) / p.seconds;
    fmt::print(stderr, "shard {}/{}  {} samples  {:.0f} tokens/s  {}\n", p.shards_done, p.shards,
               p.samples_done, rate, human_bytes(p.bytes));
  };
  print(run_extract(o, events), state.json);
  return 0;
}

void add_verify(Program& program) {
  CLI::App* app = program.app.add_subcommand("verify", "check every shard of an extraction");
  const auto folder = std::make_shared<std::string>();
  app->add_option("RUN", *folder, "folder of the run")->required();
  app->footer("Example:\n  espalier verify activations");
  app->callback([&program, folder] {
    program.action = [folder] {
      const extract::VerifyReport report = extract::verify_run(*folder);
      for (const std::string& line : report.wrong) fmt::print("{}\n", line);
      fmt::print("{} shards, {} samples, {} tokens, {}: {}\n", report.shards, report.samples,
                 report.tokens, human_bytes(report.bytes),
                 report.pass() ? "every sample once, every checksum right" : "NOT as it should be");
      return report.pass() ? 0 : 1;
    };
  });
}

void add_init(Program& program) {
  struct Init {
    std::string name, folder, dtype = "bfloat16";
    uint64_t seed = 0;
    models::Qwen2Config small;
  };
  CLI::App* app = program.app.add_subcommand(
      "init", "write a checkpoint with initial values as a Hugging Face folder");
  const auto init = std::make_shared<Init>();
  app->add_option("NAME", init->name, "qwen2-0.5b, qwen2-7b, or qwen2 with the sizes below")
      ->required();
  app->add_option("FOLDER", init->folder)->required();
  app->add_option("--seed", init->seed);
  app->add_option("--dtype", init->dtype, "float32, bfloat16 or float16");
  const char* sizes = "Sizes of qwen2";
  models::Qwen2Config& c = init->small;
  c = {.vocab_size = 151936,
       .hidden_size = 64,
       .num_hidden_layers = 4,
       .num_attention_heads = 4,
       .num_key_value_heads = 2,
       .intermediate_size = 192,
       .max_position_embeddings = 32768};
  app->add_option("--num-layer", c.num_hidden_layers)->group(sizes);
  app->add_option("--hidden", c.hidden_size)->group(sizes);
  app->add_option("--heads", c.num_attention_heads)->group(sizes);
  app->add_option("--kv-heads", c.num_key_value_heads)->group(sizes);
  app->add_option("--ffn", c.intermediate_size)->group(sizes);
  app->add_option("--vocab-size", c.vocab_size)->group(sizes);
  app->footer("Example:\n  espalier init qwen2-0.5b model --seed 1");
  app->callback([&program, init] {
    program.action = [init] {
      const models::Qwen2Config config =
          init->name == "qwen2" ? init->small : models::qwen2_config(init->name);
      io::SaveWeightsOptions save;
      save.dtype = train::parse_compute_dtype(init->dtype);
      models::init_qwen2(init->folder, config, init->seed, save);
      return 0;
    };
  });
}

}  // namespace

void add_extract(Program& program) {
  CLI::App* app =
      program.app.add_subcommand("extract", "read a model's activations into safetensors shards");
  const auto state = std::make_shared<State>();
  extract::ExtractOptions& o = state->options;
  app->add_option("--model,--model-path", o.model, "Hugging Face folder of Qwen2 or Qwen2.5")
      ->required();
  app->add_option("--tokenizer", o.tokenizer, "folder or file; without: the model's folder");
  app->add_option("--output,--output-dir", o.output, "folder of the run")->required();
  const char* data = "Data";
  app->add_option("--dataset,--dataset-path", state->dataset, "JSONL files or folders of tasks")
      ->required()
      ->group(data);
  app->add_option("--format", state->format, "auto, arc, text or tokens")->group(data);
  app->add_option("--max-seq-length", o.source.max_seq_length, "longest row")->group(data);
  app->add_option("--length-policy", state->length_policy,
                  "longer samples: error, skip, truncate-left, truncate-right, window")
      ->group(data);
  app->add_flag("--skip-bad-lines", o.source.skip_bad_lines, "count bad lines and go on")
      ->group(data);
  app->add_option("--max-tasks", o.source.max_tasks, "read no more lines or tasks")->group(data);
  app->add_option("--grid-encoder", o.source.grid_encoder, "how grids become text")->group("ARC");
  app->add_option("--prompt-version", o.source.prompt_version)->group("ARC");
  app->add_option("--prompt-file", o.source.prompt_file, "TOML file with the prompt's texts")
      ->group("ARC");
  app->add_option("--predictions-per-task", o.source.predictions_per_task, "variants for each test")
      ->group("ARC");
  app->add_option("--random-seed,--seed", o.source.random_seed, "of the variants")->group("ARC");
  const char* what = "What is read";
  app->add_option("--layers,--layers-to-extract", o.layers, "all, 10-23 or 0,3,7-9")->group(what);
  app->add_option("--activation,--activation-type", o.activation,
                  "residual, mlp, attn, or globs of hooks such as resid_mid.*")
      ->group(what);
  app->add_option("--store-dtype", state->store_dtype, "of the shards; without: --dtype")
      ->group(what);
  app->add_option("--shard-tokens", o.shard_tokens, "a shard ends with the sample that reaches it")
      ->group(what);
  const char* how = "Computation";
  app->add_option("--dtype", state->dtype, "float32, bfloat16 or float16")->group(how);
  app->add_option("--batching", state->batching, "pack, bucket or pad")->group(how);
  app->add_option("--batch-size", o.batch.rows, "rows of a batch")->group(how);
  app->add_option("--threads", o.compile.threads)->group(how);
  app->add_option("--lease-seconds", o.lease_seconds,
                  "a shard whose worker is silent for so long is taken over")
      ->group(how);
  app->add_flag("--dry-run", o.dry_run, "say what would be done");
  app->add_flag("--json", state->json, "print the report as one JSON object");
  app->footer(
      "Any number of processes may run the same command; killed ones are started again.\n"
      "Example:\n  espalier extract --model model --dataset tasks.jsonl --layers 10-23 "
      "--activation residual --max-seq-length 4096 --output activations");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
  add_verify(program);
  add_init(program);
}

}  // namespace espalier::cli
