// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/cli/command.h"
#include "espalier/models/qwen2_folder.h"
#include "espalier/train/run_options.h"

namespace espalier::cli {
namespace {

const models::Qwen2Config kSmall{.vocab_size = 151936,
                                 .hidden_size = 64,
                                 .num_hidden_layers = 4,
                                 .num_attention_heads = 4,
                                 .num_key_value_heads = 2,
                                 .intermediate_size = 192,
                                 .max_position_embeddings = 32768};

models::Qwen2Config configuration(const std::string& name, const models::Qwen2Config& sizes) {
  if (name == "qwen2") return sizes;
  ESPALIER_CHECK(sizes == kSmall, ErrorKind::user, "init",
                 "{} has its own sizes; flags of sizes go with qwen2", name);
  if (name.ends_with(".json")) return models::read_qwen2_config(name);
  const std::vector<std::string> known{"qwen2-0.5b", "qwen2-7b", "qwen2"};
  ESPALIER_CHECK(std::find(known.begin(), known.end(), name) != known.end(), ErrorKind::user,
                 "init", "there is no configuration \"{}\"{}; known: {}, and files config.json",
                 name, nearest_hint(name, known), fmt::join(known, ", "));
  return models::qwen2_config(name);
}

}  // namespace

void add_init(Program& program) {
  struct Init {
    std::string name, folder, dtype = "bfloat16";
    uint64_t seed = 0;
    models::Qwen2Config small;
  };
  Command* app = program.app.add_subcommand(
      "init", "write a checkpoint with initial values as a Hugging Face folder");
  const auto init = std::make_shared<Init>();
  app->add_option("NAME", init->name,
                  "qwen2-0.5b, qwen2-7b, a config.json of Qwen2, or qwen2 with the sizes below")
      ->required();
  app->add_option("FOLDER", init->folder)->required();
  app->add_option("--seed", init->seed);
  app->add_option("--dtype", init->dtype, "float32, bfloat16 or float16");
  const char* sizes = "Sizes of qwen2";
  models::Qwen2Config& c = init->small;
  c = kSmall;
  app->add_option("--num-layer", c.num_hidden_layers)->group(sizes);
  app->add_option("--hidden", c.hidden_size)->group(sizes);
  app->add_option("--heads", c.num_attention_heads)->group(sizes);
  app->add_option("--kv-heads", c.num_key_value_heads)->group(sizes);
  app->add_option("--ffn", c.intermediate_size)->group(sizes);
  app->add_option("--vocab-size", c.vocab_size)->group(sizes);
  app->footer("Example:\n  espalier init qwen2-0.5b model --seed 1");
  app->callback([&program, init] {
    program.action = [init] {
      const models::Qwen2Config config = configuration(init->name, init->small);
      for (const char* file :
           {"config.json", "model.safetensors", "model.safetensors.index.json"}) {
        ESPALIER_CHECK(!std::filesystem::exists(std::filesystem::path(init->folder) / file),
                       ErrorKind::user, "init",
                       "{} holds a model already ({}); name another folder", init->folder, file);
      }
      io::SaveWeightsOptions save;
      save.dtype = train::parse_compute_dtype(init->dtype);
      models::init_qwen2(init->folder, config, init->seed, save);
      return 0;
    };
  });
}

}  // namespace espalier::cli
