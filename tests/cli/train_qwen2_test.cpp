// SPDX-License-Identifier: Apache-2.0
// `espalier train qwen2` and what follows it, through the real program.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/expect_ran.h"

namespace espalier::test {
namespace {

namespace fs = std::filesystem;

class Qwen2 : public ::testing::Test {
 protected:
  Qwen2() {
    std::string text;
    for (int i = 0; i < 60; ++i) {
      for (int k = 0; k < 3 + i % 5; ++k) {
        static const char* const kWords[] = {"the", "plan", "tree", "wall", "grows", "along"};
        text += std::string(kWords[(i * 5 + k * k) % 6]) + " ";
      }
      text += "\n\n";
    }
    write("data.txt", text);
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  std::string at(const std::string& name) const { return folder_ / name; }

  /// A run that takes milliseconds.
  std::vector<std::string> tiny(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments{"train",         "qwen2", "--data",       at("data.txt"),
                                       "--vocab-size",  "280",   "--layers",     "1",
                                       "--hidden",      "16",    "--heads",      "2",
                                       "--kv-heads",    "1",     "--ffn",        "24",
                                       "--seq-len",     "16",    "--steps",      "4",
                                       "--warmup",      "1",     "--batch-size", "4",
                                       "--save-dir",    "",      "--log-every",  "2",
                                       "--eval-every",  "0",     "--save-every", "0",
                                       "--peak-gflops", "100"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  Folder folder_;
};

TEST_F(Qwen2, AFolderHoldsTheWholeRun) {
  const std::string dir = at("run");
  expect_text(run(tiny({"--save-dir", dir, "--eval-every", "2", "--holdout", "0.2"})),
              {"qwen2: 1 layers, hidden 16, heads 2 over 1", "tokenizer learned from", "step 4/4",
               "perplexity", "bits/byte on", "unigram entropy", "report: "});
  const fs::path checkpoint = fs::path(dir) / "step-00000004";
  for (const char* name :
       {"model.safetensors", "config.json", "vocab.json", "merges.txt", "tokenizer_config.json"}) {
    EXPECT_TRUE(fs::exists(checkpoint / name)) << name;
  }
  expect_parts(read_file(fs::path(dir) / "metrics.csv"), {"eval_bits_per_byte"});
  expect_parts(read_file(fs::path(dir) / "report.html"), {"unigram entropy"});

  const Ran eval = run({"eval", dir, "--data", at("data.txt"), "--json"});
  ASSERT_EQ(eval.code, 0) << eval.err;
  const auto line = nlohmann::json::parse(eval.out);
  EXPECT_EQ(line.at("eval"), "qwen2");
  EXPECT_EQ(line.at("documents"), 60);
  const double nats = line.at("loss").get<double>() * line.at("tokens").get<double>();
  EXPECT_NEAR(line.at("perplexity").get<double>(), std::exp(line.at("loss").get<double>()), 1e-6);
  // Every byte of the documents is guessed once: all but the empty lines between them.
  const double bytes = nats / line.at("bits_per_byte").get<double>() / std::log(2.0);
  EXPECT_NEAR(bytes, static_cast<double>(fs::file_size(at("data.txt"))) - 60.0, 0.01);
  expect_text(run({"eval", dir, "--data", at("data.txt"), "--batch-size", "3"}), {"perplexity"});

  // The checkpoint is a Hugging Face folder.
  write("tasks.jsonl", "{\"text\": \"the tree grows\"}\n");
  expect_text(run({"extract", "--model", checkpoint, "--dataset", at("tasks.jsonl"), "--format",
                   "text", "--layers", "all", "--output", at("activations")}),
              {});
  expect_error(run({"train", "bert", "--resume", "--save-dir", dir}), 2,
               {"of the kind qwen2 where bert is needed"});
}

TEST_F(Qwen2, ResumesWithoutFlagsAndNamesWhatDiffers) {
  const std::string dir = at("run");
  ASSERT_EQ(run(tiny({"--save-dir", dir})).code, 0);
  const auto again = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"train", "qwen2",         "--resume", "--save-dir",
                                       dir,     "--peak-gflops", "100"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  expect_text(again({"--steps", "6"}), {"resuming at step 4", "step 6/6"});
  expect_error(again({"--steps", "8", "--layers", "2"}), 2,
               {"the architecture is not that of the checkpoint",
                "num_hidden_layers is 1 in the checkpoint and 2 now"});
  expect_error(again({"--steps", "8", "--seq-len", "12"}), 2, {"seq_len is 16"});
}

TEST_F(Qwen2, StartsFromAFolder) {
  ASSERT_EQ(run(tiny({"--save-dir", at("first")})).code, 0);
  const std::string folder = at("first") + "/step-00000004";
  const auto from = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"train",        "qwen2", "--data",        at("data.txt"),
                                       "--from",       folder,  "--seq-len",     "16",
                                       "--batch-size", "4",     "--steps",       "1",
                                       "--warmup",     "0",     "--eval-every",  "0",
                                       "--lr",         "0",     "--peak-gflops", "100"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  expect_text(from({"--save-dir", at("second")}),
              {"starts from 14 tensors of " + folder, "tokenizer of " + folder});
  EXPECT_EQ(read_file(at("second") + "/step-00000001/model.safetensors"),
            read_file(folder + "/model.safetensors"));
  expect_listing(from({"--save-dir", "", "--layers", "2", "--ffn", "20"}), 3,
                 {"12 missing, 3 of another shape", "missing: model.layers.1.mlp.up_proj.weight",
                  "model.layers.0.mlp.down_proj.weight F32 [16,24] where [16,20] is expected"});
}

TEST_F(Qwen2, AccumulationAndAttentionAndTypesRun) {
  for (const std::vector<std::string>& more :
       std::vector<std::vector<std::string>>{{"--accumulate", "2"},
                                             {"--attention", "eager"},
                                             {"--dtype", "bfloat16", "--accumulate", "4"},
                                             {"--dtype", "float16"},
                                             {"--pack", "0"},
                                             {"--freeze", "model.embed_tokens.*"},
                                             {"--decay", "linear", "--optimizer", "sgd"}}) {
    expect_text(run(tiny(more)), {"step 4/4"});
  }
}

TEST_F(Qwen2, WhatIsWrongIsNamed) {
  expect_error(run(tiny({"--heads", "3"})), 2,
               {"num_attention_heads = 3 does not divide hidden_size = 16"});
  expect_error(run(tiny({"--seq-len", "4096"})), 2,
               {"--seq-len 4096 is longer than max_position_embeddings = 2048"});
  expect_error(run(tiny({"--vocab-size", "257"})), 2, {"size = 257 leaves no room beside 256"});
  expect_error(run(tiny({"--end-token", "<eos>"})), 3, {"has no <eos>"});
  expect_error(run(tiny({"--freeze", "model.embed_token.*"})), 2, {"matches no parameter"});
  write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n");
  expect_error(run(tiny({"--tokenizer", at("vocab.txt")})), 4,
               {"the tokenizer is of the kind wordpiece; a causal model needs bpe"});
  write("config.json", R"({"model_type": "qwen2", "vocab_size": 100, "hidden_size": 16,
                           "num_attention_heads": 2, "hidden_act": "gelu"})");
  expect_error(run(tiny({"--config", at("config.json")})), 4, {"hidden_act"});
  ASSERT_EQ(run({"vocab", "--kind", "bpe", "--data", at("data.txt"), "--size", "270", "--output",
                 at("bpe")})
                .code,
            0);
  write("config.json", R"({"model_type": "qwen2", "vocab_size": 100, "hidden_size": 16,
                           "num_attention_heads": 2})");
  expect_error(run(tiny({"--config", at("config.json"), "--tokenizer", at("bpe")})), 3,
               {"the vocabulary has 270 tokens and the embedding vocab_size = 100 rows"});
}

TEST_F(Qwen2, AVocabularyIsMadeForIt) {
  expect_text(run({"vocab", "--kind", "bpe", "--data", at("data.txt"), "--size", "270", "--output",
                   at("bpe")}),
              {"270 tokens in"});
  expect_text(run(tiny({"--tokenizer", at("bpe")})), {"tokenizer of " + at("bpe")});
  expect_error(run({"vocab", "--kind", "bpe", "--cased", "--output", at("x")}), 2,
               {"--cased is for wordpiece"});
  expect_error(run({"vocab", "--kind", "bpee", "--output", at("x")}), 2, {"nearest: bpe"});
}

}  // namespace
}  // namespace espalier::test
