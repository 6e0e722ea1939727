// SPDX-License-Identifier: Apache-2.0
// espalier extract
#include <fmt/ranges.h>

#include <memory>

#include "espalier/base/text.h"
#include "espalier/cli/command.h"
#include "espalier/cli/extract_screen.h"
#include "espalier/cli/signals.h"
#include "espalier/extract/estimate.h"
#include "espalier/extract/job.h"
#include "espalier/extract/worker_place.h"
#include "espalier/io/json.h"
#include "espalier/train/cache_dir.h"
#include "espalier/train/memory.h"
#include "espalier/train/run_options.h"

namespace espalier::cli {
namespace {

using Json = nlohmann::ordered_json;

struct State {
  extract::ExtractOptions options;
  std::vector<std::string> dataset, layers{"all"}, activations{"residual"};
  std::string format = "auto", length_policy = "error", batching = "pack", compress = "none";
  std::string dtype = "float32", store_dtype = "bfloat16";
  std::string rank = "auto", workers = "auto";
  bool dry_run = false, json = false;
};

Json lengths_json(const extract::LengthCounts& l) {
  return {{"whole", l.whole},       {"empty", l.empty},
          {"skipped", l.skipped},   {"truncated", l.truncated},
          {"windowed", l.windowed}, {"windows", l.windows},
          {"tokens", l.tokens},     {"dropped_tokens", l.dropped_tokens}};
}

Json plan_json(const extract::PlanTotals& plan) {
  return {{"shards", plan.shards},
          {"samples", plan.samples},
          {"tokens", plan.tokens},
          {"computed_tokens", plan.computed_tokens},
          {"lines", plan.position.lines},
          {"bad_lines", plan.position.bad_lines},
          {"lengths", lengths_json(plan.lengths)}};
}

/// By the name of each length policy.
Json survey_json(const extract::LengthSurvey& survey) {
  Json policies = Json::object();
  for (const auto& [policy, counts] : survey.counts) {
    policies[std::string(name(policy))] = lengths_json(counts);
  }
  return {{"longest", survey.longest}, {"too_long", survey.too_long}, {"policies", policies}};
}

/// What each length policy would do, for people.
void print_survey(const extract::LengthSurvey& survey) {
  fmt::print("the longest sample has {} tokens, a row {}", survey.longest, survey.most);
  if (survey.too_long == 0) {
    fmt::print(": whole under every length policy\n");
    return;
  }
  fmt::print("; by length policy:\n");
  for (const auto& [policy, counts] : survey.counts) {
    const bool stops = policy == extract::LengthPolicy::error;
    fmt::print(
        "  {:15} {}\n", name(policy),
        stops ? fmt::format("stops at {}: {} are too long", survey.first_too_long, survey.too_long)
              : describe(counts));
  }
}

/// The run as planned, for people.
void print_plan(const extract::PlanTotals& plan, const std::vector<std::string>& hooks,
                int64_t width, double useful_share) {
  fmt::print("{} lines, {}\n", plan.position.lines, describe(plan.lengths));
  if (plan.position.bad_lines > 0) {
    fmt::print("{} bad lines left out, the first: {}\n", plan.position.bad_lines,
               plan.position.first_bad_line);
  }
  fmt::print("{} activations of width {} ({}{}), {:.1f} % of the computed tokens are useful\n",
             hooks.size(), width, hooks.front(),
             hooks.size() > 1 ? " to " + hooks.back() : std::string(), 100.0 * useful_share);
}

int print(const extract::ExtractReport& r, bool json) {
  const double rate = static_cast<double>(r.made_tokens) / std::max(r.seconds, 1e-9);
  if (json) {
    Json stages;
    for (const extract::StageShare& stage : r.stages.stages) stages[stage.name] = stage.seconds;
    Json out = plan_json(r.plan);
    out.update({{"planned", r.planned},
                {"useful_share", r.useful_share},
                {"shard_tokens", r.shard_tokens},
                {"made_shards", r.made_shards},
                {"made_samples", r.made_samples},
                {"made_tokens", r.made_tokens},
                {"bytes", r.bytes},
                {"compiles", r.compiles},
                {"compile_seconds", r.compile_seconds},
                {"seconds", r.seconds},
                {"tokens_per_second", rate},
                {"memory_peak_bytes", train::peak_resident_bytes()},
                {"stage_seconds", stages},
                {"limit", r.stages.limit},
                {"complete", r.complete}});
    fmt::print("{}\n", out.dump());
    return 0;
  }
  if (r.planned) print_plan(r.plan, r.hooks, r.width, r.useful_share);
  fmt::print("{} shards made here: {} samples, {} tokens, {} in {}; {} shapes compiled\n",
             r.made_shards, r.made_samples, r.made_tokens, human_bytes(r.bytes),
             human_duration(r.seconds), r.compiles);
  for (const extract::StageShare& stage : r.stages.stages) {
    fmt::print("  {:9}{:>9}  {:5.1f} %{}\n", stage.name, human_duration(stage.seconds),
               100.0 * stage.share, stage.name == r.stages.limit ? "  the limit" : "");
  }
  if (r.complete) {
    fmt::print("the run is complete: {} shards, {} samples\n", r.plan.shards, r.plan.samples);
  } else {
    fmt::print("the run is not complete; the same command goes on\n");
  }
  return 0;
}

int print(const extract::Estimate& e, const extract::ExtractOptions& o, bool json) {
  if (json) {
    Json out = plan_json(e.plan);
    out.update({{"useful_share", e.useful_share},
                {"shard_tokens", e.shard_tokens},
                {"length_policies", survey_json(e.lengths)},
                {"flops", e.flops},
                {"bytes", e.bytes},
                {"free_bytes", e.free_bytes},
                {"workers", std::max(o.place.workers, o.local_workers)},
                {"predicted_seconds", e.seconds},
                {"start_seconds", e.start_seconds},
                {"tokens_per_second", e.tokens_per_second},
                {"measured_shards", e.measured_shards},
                {"measured_seconds", e.measured_seconds}});
    fmt::print("{}\n", out.dump());
    if (e.refused) e.lengths.refuse();
    return 0;
  }
  print_survey(e.lengths);
  if (e.refused) e.lengths.refuse();
  print_plan(e.plan, e.hooks, e.width, e.useful_share);
  fmt::print("{} shards of at most {} tokens, {} in all, {:.3g} TFLOP\n", e.plan.shards,
             e.shard_tokens, human_bytes(e.bytes), e.flops / 1e12);
  if (e.seconds > 0.0) {
    fmt::print("about {} with {}: {:.0f} tokens/s in each process, measured on {} shards in {}{}\n",
               human_duration(e.seconds),
               o.place.workers > 1   ? fmt::format("{} workers", o.place.workers)
               : o.local_workers > 1 ? fmt::format("{} workers here", o.local_workers)
                                     : std::string("one worker"),
               e.tokens_per_second, e.measured_shards, human_duration(e.measured_seconds),
               e.network ? "; the network is not in it" : "");
  }
  if (e.free_bytes >= 0 && e.free_bytes < e.bytes) {
    fmt::print("warning: {} has {} free, {} less than the run needs\n", o.output,
               human_bytes(e.free_bytes), human_bytes(e.bytes - e.free_bytes));
  }
  return 0;
}

int run(State& state) {
  extract::ExtractOptions& o = state.options;
  o.source.files.assign(state.dataset.begin(), state.dataset.end());
  o.source.format = extract::parse_source_format(state.format);
  o.source.length_policy = extract::parse_length_policy(state.length_policy);
  o.batch.batching = extract::parse_batching(state.batching);
  o.shard.compression = extract::parse_compression(state.compress);
  o.layers = fmt::format("{}", fmt::join(state.layers, ","));
  o.activation = fmt::format("{}", fmt::join(state.activations, ","));
  o.compile.compute_dtype = train::parse_compute_dtype(state.dtype);
  o.store_dtype = train::parse_compute_dtype(state.store_dtype, "--store-dtype");
  o.compile.cache_dir = train::default_cache_dir();
  const extract::WorkerChoice choice =
      extract::choose_workers(state.rank, state.workers, extract::system_environment());
  o.place = choice.place;
  o.local_workers = choice.local;
  ExtractScreen screen(state.json);
  if (state.dry_run) return print(estimate_extract(o, screen.events()), o, state.json);
  return print(run_extract(o, screen.events()), state.json);
}

void add_data_flags(Command* app, State& state) {
  extract::SourceOptions& s = state.options.source;
  const char* data = "Data";
  app->add_option("--dataset,--dataset-path", state.dataset,
                  "JSONL files, folders of them or of tasks, s3:// or gs://")
      ->required()
      ->group(data);
  app->add_option("--format", state.format, "auto, arc, text or tokens")->group(data);
  app->add_option("--tokenizer", state.options.tokenizer,
                  "folder or file; without: the model's folder")
      ->group(data);
  app->add_option("--max-seq-length", s.max_seq_length,
                  "longest sample, and row of a batch; without: 4,096, or the model's positions")
      ->group(data);
  app->add_option("--length-policy", state.length_policy,
                  "longer samples: error, skip, truncate-left, truncate-right, window")
      ->group(data);
  app->add_flag("--skip-bad-lines", s.skip_bad_lines, "count bad lines and go on")->group(data);
  app->add_option("--max-tasks", s.max_tasks, "read no more lines or tasks")->group(data);
  const char* arc = "ARC tasks";
  app->add_option("--grid-encoder", s.grid_encoder, "how grids become text")->group(arc);
  app->add_option("--prompt-version", s.prompt_version,
                  "output-from-examples-v0 or output-from-examples-v1")
      ->group(arc);
  app->add_option("--prompt-file", s.prompt_file, "TOML file with the prompt's texts")->group(arc);
  app->add_option("--predictions-per-task", s.predictions_per_task, "variants for each test")
      ->group(arc);
  app->add_option("--random-seed,--seed", s.random_seed, "of the variants")->group(arc);
}

void add_output_flags(Command* app, State& state) {
  extract::ExtractOptions& o = state.options;
  const char* what = "What is read and stored";
  app->add_option("--layers,--layers-to-extract", state.layers,
                  "all, 10-23, 0,3,7-9 or several of these")
      ->group(what);
  app->add_option("--activation,--activation-type", state.activations,
                  "residual, mlp, attn, or globs of hooks such as resid_mid.*")
      ->group(what);
  app->add_option("--store-dtype", state.store_dtype, "of the shards")->group(what);
  app->add_option("--compress", state.compress, "none or zstd")->group(what);
  app->add_option("--shard-tokens", o.shard_tokens,
                  fmt::format("most tokens of a shard; without: as many as make {}",
                              human_bytes(extract::kShardBytes)))
      ->group(what);
  app->add_flag("--keep-not-finite", o.shard.keep_not_finite,
                "store NaN and infinity instead of stopping");
}

}  // namespace

void add_extract(Program& program) {
  Command* app =
      program.app.add_subcommand("extract", "read a model's activations into safetensors shards");
  const auto state = std::make_shared<State>();
  extract::ExtractOptions& o = state->options;
  app->add_option("--model,--model-path", o.model, "Hugging Face folder")->required();
  app->add_option("--output,--output-dir", o.output, "folder, s3://bucket/prefix or gs://...")
      ->required();
  add_data_flags(app, *state);
  add_output_flags(app, *state);
  const char* how = "Computation";
  app->add_option("--dtype", state->dtype, "float32, bfloat16 or float16")->group(how);
  app->add_option("--batching", state->batching, "pack, bucket or pad")->group(how);
  app->add_option("--batch-size", o.batch.rows, "rows of a batch")->group(how);
  app->add_option("--threads", o.compile.threads, "of all workers in this process")->group(how);
  app->add_option("--workers", state->workers,
                  "how many share the run: auto asks Slurm, Kubernetes, MPI or the TPU machine; a "
                  "number without a rank from there or --rank runs that many in this process")
      ->group(how);
  app->add_option("--pack-cache", o.pack_cache,
                  "folder in which weights laid out for this processor are kept and shared")
      ->group(how);
  app->add_option("--rank", state->rank, "which of them this process is, from 0; or auto")
      ->group(how);
  app->add_option("--lease-seconds", o.lease_seconds,
                  "a shard whose worker is silent for so long is taken over")
      ->group(how);
  app->add_flag("--dry-run", state->dry_run,
                "count samples, shards and bytes, measure a few shards, predict the time");
  app->add_flag("--json", state->json, "print the report as one JSON object, and nothing else");
  app->footer(
      "Any number of processes may run the same command; killed ones are started again.\n"
      "Example:\n  espalier extract --model model --dataset tasks.jsonl --layers 10-23 "
      "--activation residual --max-seq-length 4096 --output activations");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
}

}  // namespace espalier::cli
