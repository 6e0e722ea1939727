// SPDX-License-Identifier: Apache-2.0
// espalier curves NAME=RUN...
#include "espalier/train/curves.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "espalier/base/error.h"
#include "espalier/cli/command.h"

namespace espalier::cli {
namespace {

struct State {
  std::vector<std::string> runs;
  std::string column = "bits_per_byte";
  std::string out = "curves.html";
  int64_t window = 20;
};

int run(const State& state) {
  std::vector<train::RunCurve> curves;
  for (const std::string& run : state.runs) {
    const size_t equals = run.find('=');
    const std::string folder = equals == std::string::npos ? run : run.substr(equals + 1);
    curves.push_back(train::read_curve(folder, state.column, run.substr(0, equals)));
  }
  const auto deviations = train::deviations(curves, state.window);
  for (const train::CurveDeviation& d : deviations) {
    fmt::print("{} and {}: at most {:.4f} {} apart (step {:.0f}, {:.2f} %), {:+.4f} at the end\n",
               d.a, d.b, d.largest, state.column, d.at_step, 100.0 * d.relative, d.last);
  }
  train::write_curves(state.out, state.column, curves, deviations);
  fmt::print("picture: {}\n", state.out);
  return 0;
}

}  // namespace

void add_curves(Program& program) {
  Command* app = program.app.add_subcommand("curves", "several runs in one picture");
  const auto state = std::make_shared<State>();
  app->add_option("RUN", state->runs, "folders of runs, each as it is or as NAME=FOLDER")
      ->required();
  app->add_option("--column", state->column, "of metrics.csv");
  app->add_option("--window", state->window, "points of the moving mean that is compared");
  app->add_option("--out", state->out, "the page to write");
  app->footer("Example:\n  espalier curves float32=run1 bfloat16=run2 --out curves.html");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
}

}  // namespace espalier::cli
