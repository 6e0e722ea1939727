// SPDX-License-Identifier: Apache-2.0
// espalier bench extract
#include "espalier/extract/bench_extract.h"

#include <cstdio>
#include <memory>

#include "espalier/cli/command.h"
#include "espalier/train/bench_step.h"
#include "espalier/train/cache_dir.h"
#include "espalier/train/profile.h"
#include "espalier/train/run_options.h"

namespace espalier::cli {
namespace {

struct State {
  extract::ExtractBenchOptions options;
  std::string dtype = "bfloat16", weights = "bfloat16";
  size_t profile_lines = 0;
  bool json = false;
};

int run(State& s) {
  extract::ExtractBenchOptions& o = s.options;
  o.compile.compute_dtype = train::parse_compute_dtype(s.dtype);
  o.weights = train::parse_compute_dtype(s.weights, "--weights");
  o.compile.cache_dir = train::default_cache_dir();
  o.profile = s.profile_lines > 0;
  bench_extract(o, [&](const extract::ExtractBenchResult& result) {
    fmt::print("{}\n", s.json ? extract_bench_json(result) : extract_bench_line(result));
    if (o.profile) fmt::print("{}", train::profile_text(result.profile, s.profile_lines));
    std::fflush(stdout);
  });
  return 0;
}

}  // namespace

void add_bench_extract(Program& program, Command& bench) {
  Command* app = bench.add_subcommand("extract", "reading activations of Qwen2");
  const auto s = std::make_shared<State>();
  extract::ExtractBenchOptions& o = s->options;
  app->add_option("--model", o.model, "Hugging Face folder; without: random values");
  app->add_option("--model-size", o.model_size, "of random values: 0.5b or 7b");
  app->add_option("--model-cache", o.folder, "folder in which the random values are kept");
  app->add_option("--weights", s->weights, "type of the random values");
  app->add_option("--batch,--batch-size", o.batches, "rows of a batch; several: a result each")
      ->delimiter(',');
  app->add_option("--seq,--seq-len", o.seq, "tokens of a row");
  app->add_option("--dtype", s->dtype, "float32, bfloat16 or float16");
  app->add_option("--steps", o.steps, "timed passes; the median counts");
  app->add_option("--layers", o.layers, "of the extraction: all, 10-23 or 0,3,7-9");
  app->add_option("--activation", o.activation, "of the extraction, as in espalier extract");
  app->add_option("--extract-batches", o.extract_batches,
                  "batches of the whole extraction; 0: only the forward pass");
  app->add_option("--output", o.output, "folder in which shards are written and removed again");
  app->add_option("--threads", o.compile.threads, "0: as many as there are processors");
  app->add_option("--seed", o.seed, "of values and tokens");
  app->add_option("--profile", s->profile_lines, "print so many of the slowest kernels");
  app->add_flag("--json", s->json, "one JSON object a line");
  app->footer(
      "Work: 2 FLOP per weight of the layers and token, causal attention half, no head.\n"
      "Examples:\n"
      "  espalier bench extract --dtype float32 --model-cache /tmp/models\n"
      "  espalier bench extract --batch 4,8,16 --json");
  app->callback([&program, s] { program.action = [s] { return run(*s); }; });
}

}  // namespace espalier::cli
