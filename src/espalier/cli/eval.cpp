// SPDX-License-Identifier: Apache-2.0
// espalier eval RUN
#include <cmath>
#include <cstdio>
#include <memory>
#include <numbers>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/cli/command.h"
#include "espalier/cli/run_flags.h"
#include "espalier/io/json.h"
#include "espalier/train/bert_eval.h"
#include "espalier/train/byte_lm_steps.h"
#include "espalier/train/data.h"
#include "espalier/train/qwen2_eval.h"

namespace espalier::cli {
namespace {

struct State {
  RunFlags flags;
  std::string data = "builtin";
  int64_t batch_size = 16;
  int64_t max_bytes = 0;
  bool json = false;

  train::TextEvalOptions text_options() const {
    return {.batch_size = batch_size, .max_bytes = max_bytes, .compile = flags.compile};
  }
};

/// What was measured, and on what.
nlohmann::ordered_json head(const train::LoadedCheckpoint& loaded, const std::string& data) {
  return {{"eval", train::job_of(loaded)},
          {"checkpoint", valid_utf8(loaded.folder.string())},
          {"step", loaded.checkpoint.step},
          {"data", valid_utf8(data)}};
}

int run_byte_lm(State& state, const train::LoadedCheckpoint& loaded, const train::ByteData& data) {
  auto bytes = data.bytes();
  if (state.max_bytes > 0) {
    bytes = bytes.first(std::min(bytes.size(), static_cast<size_t>(state.max_bytes)));
  }
  train::ByteLmEvaluator evaluator(train::read_config(loaded), models::ByteLmVariant::library,
                                   state.batch_size, state.flags.compile);
  train::restore_parameters(evaluator.step(), loaded);
  const double bits = evaluator.bits_per_byte(bytes);
  if (state.json) {
    nlohmann::ordered_json line = head(loaded, state.data);
    line["bytes"] = bytes.size();
    line["loss"] = bits * std::numbers::ln2;
    line["bits_per_byte"] = bits;
    fmt::print("{}\n", line.dump());
  } else {
    fmt::print("{:.4f} bits/byte (loss {:.4f}) over {} of {}, checkpoint {}\n", bits,
               bits * std::numbers::ln2, human_bytes(static_cast<int64_t>(bytes.size())),
               state.data, loaded.folder.string());
  }
  return 0;
}

int run_bert(State& state, const train::LoadedCheckpoint& loaded, const train::ByteData& data) {
  const train::BertEvaluation e = train::evaluate_bert(loaded, data, state.text_options());
  if (state.json) {
    nlohmann::ordered_json line = head(loaded, state.data);
    line["documents"] = e.documents.documents;
    line["labels"] = e.quality.labels;
    line["loss"] = e.quality.loss;
    line["perplexity"] = std::exp(e.quality.loss);
    line["accuracy"] = e.quality.accuracy;
    line["unigram_entropy"] = e.unigram_entropy;
    fmt::print("{}\n", line.dump());
  } else {
    fmt::print(
        "loss {:.4f} (perplexity {:.1f}), {:.1f} % right on {} labels of {} ({}; unigram entropy "
        "{:.4f}), checkpoint {}\n",
        e.quality.loss, std::exp(e.quality.loss), 100.0 * e.quality.accuracy, e.quality.labels,
        state.data, train::describe(e.documents), e.unigram_entropy, loaded.folder.string());
  }
  return 0;
}

int run_qwen2(State& state, const train::LoadedCheckpoint& loaded, const train::ByteData& data) {
  const train::Qwen2Evaluation e = train::evaluate_qwen2(loaded, data, state.text_options());
  const train::CausalQuality& q = e.quality;
  if (state.json) {
    nlohmann::ordered_json line = head(loaded, state.data);
    line["documents"] = e.documents.documents;
    line["tokens"] = q.tokens;
    line["loss"] = q.loss;
    line["perplexity"] = std::exp(q.loss);
    line["bits_per_byte"] = q.bits_per_byte;
    line["unigram_entropy"] = e.unigram_entropy;
    fmt::print("{}\n", line.dump());
  } else {
    fmt::print(
        "loss {:.4f} (perplexity {:.1f}), {:.4f} bits/byte on {} tokens of {} ({}; unigram entropy "
        "{:.4f}), checkpoint {}\n",
        q.loss, std::exp(q.loss), q.bits_per_byte, q.tokens, state.data,
        train::describe(e.documents), e.unigram_entropy, loaded.folder.string());
  }
  return 0;
}

int run(State& state) {
  ESPALIER_CHECK(state.batch_size > 0 && state.max_bytes >= 0, ErrorKind::user, "eval",
                 "--batch-size {} must be positive, --max-bytes {} not negative", state.batch_size,
                 state.max_bytes);
  const train::LoadedCheckpoint loaded = state.flags.open();
  const train::ByteData data = train::ByteData::open(state.data);
  const std::string job = train::job_of(loaded);
  if (job == "bert") return run_bert(state, loaded, data);
  if (job == "qwen2") return run_qwen2(state, loaded, data);
  return run_byte_lm(state, loaded, data);
}

}  // namespace

void add_eval(Program& program) {
  Command* app = program.app.add_subcommand("eval", "measure a trained model on a file");
  const auto state = std::make_shared<State>();
  state->flags.add_to(*app);
  app->add_option("--data", state->data,
                  "a file of bytes (byte-lm), text or .jsonl (bert, qwen2), or builtin");
  app->add_option("--batch-size,--batch", state->batch_size, "windows or rows at once");
  app->add_option("--max-bytes", state->max_bytes, "stop after this many; 0: the whole file");
  app->add_flag("--json", state->json, "one JSON object");
  app->footer("Example:\n  espalier eval run --data enwik8 --max-bytes 1000000");
  app->callback([&program, state] { program.action = [state] { return run(*state); }; });
}

}  // namespace espalier::cli
