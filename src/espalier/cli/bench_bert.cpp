// SPDX-License-Identifier: Apache-2.0
// espalier bench bert
#include "espalier/train/bench_bert.h"

#include <cstdio>
#include <memory>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/cli/command.h"
#include "espalier/train/byte_lm_options.h"
#include "espalier/train/profile.h"

namespace espalier::cli {
namespace {

struct State {
  train::BertBenchOptions options;
  train::BertBenchSetting setting;
  std::string dtype = "float32", attention = "fused", html;
  bool growth = false, json = false;
  size_t profile_lines = 0;
};

int run(State& s) {
  s.setting.dtype = train::parse_compute_dtype(s.dtype);
  const std::vector<std::string> known{"fused", "eager"};
  ESPALIER_CHECK(s.attention == "fused" || s.attention == "eager", ErrorKind::user, "bench",
                 "--attention {} is neither fused nor eager{}", s.attention,
                 nearest_hint(s.attention, known));
  ESPALIER_CHECK(s.html.empty() || s.growth, ErrorKind::user, "bench",
                 "--html draws the curves of --growth");
  s.setting.flash = s.attention == "fused";
  s.options.step.profile = s.profile_lines > 0;
  const auto settings = s.growth ? train::growth_settings(s.setting)
                                 : std::vector<train::BertBenchSetting>{s.setting};
  const auto results =
      train::bench_bert(s.options, settings, [&](const train::BertBenchResult& result) {
        fmt::print("{}\n",
                   s.json ? train::bert_bench_json(result) : train::bert_bench_line(result));
        if (s.profile_lines > 0) {
          fmt::print("{}", train::profile_text(result.times.profile, s.profile_lines));
        }
        std::fflush(stdout);
      });
  if (!s.html.empty()) train::write_report(s.html, train::growth_report(results));
  return 0;
}

}  // namespace

void add_bench_bert(Program& program, Command& bench) {
  Command* app = bench.add_subcommand("bert", "training steps of BERT's masked-language model");
  const auto s = std::make_shared<State>();
  train::BertBenchSetting& b = s->setting;
  app->add_option("--layers,--num-layer", b.layers, "layers");
  app->add_option("--hidden", b.hidden, "hidden size");
  app->add_option("--heads", b.heads, "attention heads; 0: one for each 64 of the hidden size");
  app->add_option("--ffn", b.intermediate, "feed-forward size; 0: four times the hidden size");
  app->add_option("--batch,--batch-size", b.batch, "sequences of a step");
  app->add_option("--seq,--seq-len", b.seq, "positions of a sequence");
  app->add_option("--dropout", b.dropout, "of activations and of attention's probabilities");
  app->add_option("--attention", s->attention, "fused, or eager: from basic ops");
  app->add_option("--compile", b.compile, "0: op by op, 1: fused loops");
  app->add_option("--dtype", s->dtype, "float32, bfloat16 or float16");
  app->add_option("--remat", b.remat, "glob of scopes computed again backward; again for more")
      ->allow_extra_args(false);
  app->add_option("--steps", s->options.step.steps, "timed steps; the median counts");
  app->add_option("--warmup", s->options.step.warmup, "steps before them");
  app->add_option("--threads", s->options.threads, "0: as many as there are processors");
  app->add_option("--seed", s->options.step.seed, "of values and data");
  app->add_flag("--growth", s->growth,
                "layers 2, 4, 8, 12; then sequences 128 to 2048 at constant tokens");
  app->add_option("--html", s->html, "with --growth: a page with the curves");
  app->add_option("--profile", s->profile_lines, "print so many of the slowest kernels");
  app->add_flag("--json", s->json, "one JSON object a line");
  app->footer(
      "Work is counted without recomputation: 6 FLOP per weight and token, attention in full, the "
      "head\nfor the 15 % of positions that have a label.\nExamples:\n"
      "  espalier bench bert --dropout 0.1 --dtype bfloat16\n"
      "  espalier bench bert --remat '*mlp' --profile 20\n"
      "  espalier bench bert --growth --html growth.html");
  app->callback([&program, s] { program.action = [s] { return run(*s); }; });
}

}  // namespace espalier::cli
