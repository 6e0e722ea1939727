// SPDX-License-Identifier: Apache-2.0
// espalier bench read
#include <fmt/format.h>

#include "espalier/extract/bench_read.h"

#include <memory>
#include "espalier/base/text.h"
#include "espalier/cli/command.h"
#include "espalier/io/json.h"

namespace espalier::cli {
namespace {

struct State {
  extract::ReadBenchOptions options;
  bool in_order = false, json = false;
};

std::string rate(double bytes) { return human_bytes(static_cast<int64_t>(bytes)) + "/s"; }

int run(State& state) {
  state.options.read.shuffle = !state.in_order;
  const extract::ReadBenchResult r = extract::bench_read(state.options);
  if (state.json) {
    fmt::print("{}\n",
               nlohmann::ordered_json{{"hooks", r.hooks},
                                      {"rows", r.rows},
                                      {"row_bytes", r.row_bytes},
                                      {"rows_per_second", r.rows_per_second},
                                      {"bytes_per_second", r.bytes_per_second},
                                      {"disk_bytes_per_second", r.disk_bytes_per_second},
                                      {"cached_rows_per_second", r.cached_rows_per_second},
                                      {"cached_bytes_per_second", r.cached_bytes_per_second},
                                      {"memory_bytes", r.memory_bytes}}
                   .dump());
    return 0;
  }
  fmt::print("{} rows of {} activations: {:.0f} rows/s, {}", r.rows, r.hooks.size(),
             r.rows_per_second, rate(r.bytes_per_second));
  if (r.disk_bytes_per_second > 0.0) {
    fmt::print(" ({:.0f} % of the disk's {}); {} from the page cache",
               100.0 * r.bytes_per_second / r.disk_bytes_per_second, rate(r.disk_bytes_per_second),
               rate(r.cached_bytes_per_second));
  }
  fmt::print("; {} of memory\n", human_bytes(r.memory_bytes));
  return 0;
}

}  // namespace

void add_bench_read(Program& program, Command& bench) {
  Command* app =
      bench.add_subcommand("read", "rows and bytes a second of the reader, beside the disk's rate");
  const auto state = std::make_shared<State>();
  extract::ReadOptions& read = state->options.read;
  app->add_option("RUN", state->options.run, "folder or URL of a run of extraction")->required();
  app->add_option("--hooks", read.hooks, "globs of the activations; without: all");
  app->add_option("--batch,--batch-size", read.batch, "rows");
  app->add_option("--window-rows", read.window_rows, "rows that are mixed with each other");
  app->add_option("--block-rows", read.block_rows, "neighbours that stay together until then");
  app->add_option("--threads", read.threads, "that read")->positive();
  app->add_option("--seed", read.seed);
  app->add_option("--max-norm", read.filter.max_norm, "leave rows of a larger norm out");
  app->add_option("--seconds", state->options.seconds, "each measurement, at most");
  app->add_flag("--in-order", state->in_order, "do not shuffle");
  app->add_flag("--json", state->json, "print one JSON object");
  app->footer("Example:\n  espalier bench read activations --hooks 'resid_post.*'");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
}

}  // namespace espalier::cli
