// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "espalier/cli/command.h"
#include "espalier/models/qwen2_folder.h"
#include "espalier/train/run_options.h"

namespace espalier::cli {

void add_init(Program& program) {
  struct Init {
    std::string name, folder, dtype = "bfloat16";
    uint64_t seed = 0;
    models::Qwen2Config small;
  };
  Command* app = program.app.add_subcommand(
      "init", "write a checkpoint with initial values as a Hugging Face folder");
  const auto init = std::make_shared<Init>();
  app->add_option("NAME", init->name, "qwen2-0.5b, qwen2-7b, or qwen2 with the sizes below")
      ->required();
  app->add_option("FOLDER", init->folder)->required();
  app->add_option("--seed", init->seed);
  app->add_option("--dtype", init->dtype, "float32, bfloat16 or float16");
  const char* sizes = "Sizes of qwen2";
  models::Qwen2Config& c = init->small;
  c = {.vocab_size = 151936,
       .hidden_size = 64,
       .num_hidden_layers = 4,
       .num_attention_heads = 4,
       .num_key_value_heads = 2,
       .intermediate_size = 192,
       .max_position_embeddings = 32768};
  app->add_option("--num-layer", c.num_hidden_layers)->group(sizes);
  app->add_option("--hidden", c.hidden_size)->group(sizes);
  app->add_option("--heads", c.num_attention_heads)->group(sizes);
  app->add_option("--kv-heads", c.num_key_value_heads)->group(sizes);
  app->add_option("--ffn", c.intermediate_size)->group(sizes);
  app->add_option("--vocab-size", c.vocab_size)->group(sizes);
  app->footer("Example:\n  espalier init qwen2-0.5b model --seed 1");
  app->callback([&program, init] {
    program.action = [init] {
      const models::Qwen2Config config =
          init->name == "qwen2" ? init->small : models::qwen2_config(init->name);
      io::SaveWeightsOptions save;
      save.dtype = train::parse_compute_dtype(init->dtype);
      models::init_qwen2(init->folder, config, init->seed, save);
      return 0;
    };
  });
}

}  // namespace espalier::cli
