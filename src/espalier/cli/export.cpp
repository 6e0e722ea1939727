// SPDX-License-Identifier: Apache-2.0
// espalier export
#include "espalier/extract/export.h"

#include <memory>
#include "espalier/base/text.h"
#include "espalier/cli/command.h"
#include "espalier/cli/progress_bar.h"
#include "espalier/extract/choice.h"
#include "espalier/io/json.h"
#include "espalier/train/run_options.h"

namespace espalier::cli {
namespace {

struct State {
  extract::ExportOptions options;
  std::string to = "sae-lens", dtype = "float32", names = "transformer-lens";
  bool json = false;
};

bool is_first(std::string_view stage, const std::string& text,
              std::initializer_list<std::string_view> names) {
  return extract::parse_choice<int>(stage, text, std::span(names.begin(), names.size())) == 0;
}

extract::ExportReport exported(State& state) {
  ProgressBar bar;
  state.options.progress = [&bar](int64_t tokens, int64_t total) {
    bar.show(static_cast<double>(tokens) / static_cast<double>(total),
             fmt::format("{} of {} tokens", tokens, total));
  };
  return extract::export_sae_lens(state.options);
}

int run(State& state) {
  is_first("export", state.to, {"sae-lens"});
  state.options.transformer_lens =
      is_first("export", state.names, {"transformer-lens", "espalier"});
  state.options.dtype = train::parse_compute_dtype(state.dtype);
  const extract::ExportReport r = exported(state);
  if (state.json) {
    fmt::print("{}\n", nlohmann::ordered_json{{"columns", r.columns},
                                              {"context", state.options.context},
                                              {"rows", r.rows},
                                              {"tokens", r.tokens},
                                              {"left_over", r.left_over},
                                              {"files", r.files},
                                              {"bytes", r.bytes}}
                           .dump());
    return 0;
  }
  fmt::print("{}: {} rows of {} tokens in {} files, {}\n", state.options.output, r.rows,
             state.options.context, r.files, human_bytes(r.bytes));
  if (r.left_over > 0) fmt::print("{} tokens fill no row and are left out\n", r.left_over);
  fmt::print("hook_name is one of {}; context_size is {}\n", fmt::join(r.columns, ", "),
             state.options.context);
  return 0;
}

}  // namespace

void add_export(Program& program) {
  Command* app = program.app.add_subcommand("export", "an extraction in another program's layout");
  const auto state = std::make_shared<State>();
  extract::ExportOptions& o = state->options;
  app->add_option("RUN", o.run, "folder or URL of the run")->required();
  app->add_option("OUT", o.output, "folder that does not exist yet")->required();
  app->add_option("--to", state->to, "sae-lens: what SAELens trains from as cached activations");
  app->add_option("--hook,--hooks", o.hooks, "globs of the activations; without: all");
  app->add_option("--context,--context-size", o.context, "tokens of a row");
  app->add_option("--dtype", state->dtype, "float32 or float16; Arrow has no bfloat16");
  app->add_option("--names", state->names, "of columns: transformer-lens or espalier");
  app->add_flag("--shuffle", o.shuffle, "rows are tokens from all over the run");
  app->add_option("--seed", o.seed, "of --shuffle");
  app->add_flag("--json", state->json, "print one JSON object");
  app->footer("Example:\n  espalier export activations --to sae-lens sae --hook resid_post.10");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
}

}  // namespace espalier::cli
