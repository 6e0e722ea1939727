// SPDX-License-Identifier: Apache-2.0
// espalier eval RUN
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <numbers>

#include "espalier/base/text.h"
#include "espalier/cli/command.h"
#include "espalier/cli/run_flags.h"
#include "espalier/train/data.h"

namespace espalier::cli {
namespace {

struct State {
  RunFlags flags;
  std::string data = "builtin";
  int64_t batch_size = 16;
  int64_t max_bytes = 0;
  bool json = false;
};

int run(State& state) {
  const train::LoadedCheckpoint loaded = state.flags.open();
  const train::ByteData data = train::ByteData::open(state.data);
  auto bytes = data.bytes();
  if (state.max_bytes > 0) {
    bytes = bytes.first(std::min(bytes.size(), static_cast<size_t>(state.max_bytes)));
  }
  train::ByteLmEvaluator evaluator(train::read_config(loaded), models::ByteLmVariant::library,
                                   state.batch_size, state.flags.compile);
  train::restore_parameters(evaluator.step(), loaded);
  const double bits = evaluator.bits_per_byte(bytes);
  if (state.json) {
    const nlohmann::ordered_json line{{"eval", "byte-lm"},
                                      {"checkpoint", loaded.folder.string()},
                                      {"step", loaded.checkpoint.step},
                                      {"data", state.data},
                                      {"bytes", bytes.size()},
                                      {"loss", bits * std::numbers::ln2},
                                      {"bits_per_byte", bits}};
    fmt::print("{}\n", line.dump());
  } else {
    fmt::print("{:.4f} bits/byte (loss {:.4f}) over {} of {}, checkpoint {}\n", bits,
               bits * std::numbers::ln2, human_bytes(static_cast<int64_t>(bytes.size())),
               state.data, loaded.folder.string());
  }
  return 0;
}

}  // namespace

void add_eval(Program& program) {
  CLI::App* app = program.app.add_subcommand("eval", "measure a trained model on a file");
  const auto state = std::make_shared<State>();
  state->flags.add_to(*app);
  app->add_option("--data", state->data, "a file of bytes, or builtin");
  app->add_option("--batch-size,--batch", state->batch_size, "windows at once")
      ->check(CLI::PositiveNumber);
  app->add_option("--max-bytes", state->max_bytes, "stop after this many; 0: the whole file");
  app->add_flag("--json", state->json, "one JSON object");
  app->footer("Example:\n  espalier eval run --data enwik8 --max-bytes 1000000");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
}

}  // namespace espalier::cli
