// SPDX-License-Identifier: Apache-2.0
// espalier check DIR
#include "espalier/train/check.h"

#include <cstdio>
#include <memory>

#include "espalier/cli/command.h"
#include "espalier/io/json.h"
#include "espalier/train/byte_lm_options.h"
#include "espalier/train/cache_dir.h"

namespace espalier::cli {
namespace {

struct State {
  std::string folder;
  std::string dtype = "float32";
  train::CheckOptions options;
  bool json = false;
};

int run(State& state) {
  state.options.dtype = train::parse_compute_dtype(state.dtype);
  const train::CheckReport report = train::check_folder(state.folder, state.options);
  for (const train::CheckRow& row : report.rows) {
    if (state.json) {
      const nlohmann::ordered_json line{{"check", row.what},
                                        {"model", report.model},
                                        {"deviation", row.deviation},
                                        {"bound", row.bound},
                                        {"pass", row.pass()}};
      fmt::print("{}\n", line.dump());
    } else {
      fmt::print("{}  {:<44} {:.3e}  bound {:.3e}\n", row.pass() ? "ok  " : "FAIL", row.what,
                 row.deviation, row.bound);
    }
  }
  if (!state.json) {
    const train::CheckRow& worst = report.worst();
    fmt::print("{} {}: {} values compared, the worst is {} with {:.1f} % of its bound\n",
               report.model, report.pass() ? "agrees" : "differs", report.rows.size(), worst.what,
               100.0 * worst.deviation / worst.bound);
  }
  return report.pass() ? 0 : 1;
}

}  // namespace

void add_check(Program& program) {
  Command* app = program.app.add_subcommand(
      "check", "compare logits, gradients and optimizer steps with a reference in a folder");
  const auto state = std::make_shared<State>();
  state->options.cache_dir = train::default_cache_dir();
  app->add_option("DIR", state->folder,
                  "folder with expected.json, model.safetensors and "
                  "expected.safetensors")
      ->required();
  app->add_option("--backend", state->options.backend,
                  "interp (double), interp-f32 (rounds every result) or cpu");
  app->add_option("--dtype", state->dtype, "float32, bfloat16 or float16");
  app->add_option("--model", state->options.variant, "handcraft or library");
  app->add_option("--compile", state->options.fuse, "0: op by op, 1: fused loops");
  app->add_option("--flash", state->options.flash, "0: attention from basic ops");
  app->add_option("--threads", state->options.threads, "0: as many as there are processors");
  app->add_option("--cache-dir", state->options.cache_dir, "folder of compiled loops");
  app->add_flag("--json", state->json, "one JSON object a value");
  app->footer(
      "Exit code 1 when a value is beyond its bound.\n"
      "Example:\n  espalier check tests/goldens/byte_lm_tiny --backend cpu");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
}

}  // namespace espalier::cli
