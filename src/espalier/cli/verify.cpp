// SPDX-License-Identifier: Apache-2.0
// espalier verify, espalier inspect
#include <fmt/format.h>

#include <memory>

#include "espalier/cli/command.h"
#include "espalier/cli/progress_bar.h"
#include "espalier/extract/run_report.h"

namespace espalier::cli {
namespace {

struct State {
  std::string run;
  std::vector<std::string> hooks;
  int threads = 0;
  bool json = false;
};

std::function<void(const extract::ScanProgress&)> shown_by(ProgressBar& bar) {
  return [&bar](const extract::ScanProgress& p) {
    bar.show(p.total > 0 ? static_cast<double>(p.bytes) / static_cast<double>(p.total) : 1.0,
             rate_and_rest(p.bytes, p.total, p.seconds));
  };
}

void print(const State& state, const nlohmann::ordered_json& json, const std::string& text) {
  using Json = nlohmann::ordered_json;
  fmt::print("{}",
             state.json ? json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n" : text);
}

extract::VerifyReport verified(const State& state) {
  ProgressBar bar;
  return extract::verify_run(state.run, {.threads = state.threads, .progress = shown_by(bar)});
}

extract::InspectReport inspected(const State& state) {
  ProgressBar bar;
  const auto store = extract::open_store(state.run);
  return extract::inspect_run(
      *store, {.hooks = state.hooks, .threads = state.threads, .progress = shown_by(bar)});
}

Command* add_command(Program& program, const char* name, const char* text, State& state) {
  Command* app = program.app.add_subcommand(name, text);
  app->add_option("RUN", state.run, "folder or URL of the run")->required();
  app->add_option("--threads", state.threads, "shards at a time; 0: as many as processors")
      ->not_negative();
  app->add_flag("--json", state.json, "print one JSON object");
  return app;
}

}  // namespace

void add_verify(Program& program) {
  const auto state = std::make_shared<State>();
  Command* app =
      add_command(program, "verify", "check every shard of an extraction, byte by byte", *state);
  app->footer(
      "Changes nothing but notes of damaged shards, which the same extract command makes again.\n"
      "Exit code 1 when anything is wrong.\nExample:\n  espalier verify activations");
  app->callback([&program, state] {
    program.action = [state] {
      const extract::VerifyReport report = verified(*state);
      print(*state, extract::verify_json(report), extract::verify_text(report));
      return report.pass() ? 0 : 1;
    };
  });
}

void add_inspect(Program& program) {
  const auto state = std::make_shared<State>();
  Command* app = add_command(program, "inspect",
                             "what is in an extraction: settings, shapes, norms, outliers", *state);
  app->add_option("--hooks", state->hooks, "globs of the activations that are read; without: all");
  app->footer("Example:\n  espalier inspect activations --hooks 'resid_post.*'");
  app->callback([&program, state] {
    program.action = [state] {
      const extract::InspectReport report = inspected(*state);
      print(*state, extract::inspect_json(report), extract::inspect_text(report));
      return 0;
    };
  });
}

}  // namespace espalier::cli
