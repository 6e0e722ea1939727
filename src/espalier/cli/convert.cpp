// SPDX-License-Identifier: Apache-2.0
// espalier convert
#include <fmt/format.h>

#include <memory>

#include "espalier/base/text.h"
#include "espalier/cli/command.h"
#include "espalier/models/bert_folder.h"
#include "espalier/tensor/dtype_names.h"
#include "espalier/train/byte_lm_options.h"

namespace espalier::cli {
namespace {

struct State {
  std::string from, to, dtype = "float32";
  int64_t max_shard_bytes = io::SaveWeightsOptions().max_shard_bytes;
};

int run(const State& s) {
  const DType dtype = train::parse_compute_dtype(s.dtype);
  const models::ConvertResult result =
      models::convert_bert(s.from, s.to, {.dtype = dtype, .max_shard_bytes = s.max_shard_bytes});
  fmt::print("{} parameters in {} tensors, {} as {}, written to {}\n", result.parameters,
             result.tensors, human_bytes(result.parameters * size_of(dtype)), long_name(dtype),
             s.to);
  if (!result.ignored.empty()) {
    fmt::print("left out, as no parameter of the model holds them: {}\n",
               fmt::join(result.ignored, ", "));
  }
  return 0;
}

}  // namespace

void add_convert(Program& program) {
  Command* app = program.app.add_subcommand(
      "convert", "a Hugging Face folder of BERT with another dtype or other files");
  const auto s = std::make_shared<State>();
  app->add_option("FROM", s->from, "folder with config.json and model.safetensors or shards")
      ->required();
  app->add_option("TO", s->to, "folder to make; it opens in transformers")->required();
  app->add_option("--dtype", s->dtype, "float32, bfloat16 or float16");
  app->add_option("--max-shard-size", s->max_shard_bytes, "bytes of tensors in one file")->bytes();
  app->footer(
      "Example:\n  espalier convert bert-base-uncased half --dtype bfloat16 --max-shard-size "
      "100MB");
  app->callback([&program, s] { program.action = [s] { return run(*s); }; });
}

}  // namespace espalier::cli
