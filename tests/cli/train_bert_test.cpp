// SPDX-License-Identifier: Apache-2.0
// `espalier train bert` and what follows it, through the real program.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "espalier/io/safetensors.h"
#include "tests/support/expect_ran.h"

namespace espalier::test {
namespace {

namespace fs = std::filesystem;

class Bert : public ::testing::Test {
 protected:
  Bert() {
    std::string text;
    for (int i = 0; i < 120; ++i) {
      text += fmt_line(i) + "\n" + fmt_line(i + 7) + "\n\n";
    }
    write("data.txt", text);
    write("config.json", config("{}"));
    std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (const char* word : {"the", "plan", "tree", "wall", "grows", "along", "a", "on"}) {
      vocabulary += std::string(word) + "\n";
    }
    write("vocab.txt", vocabulary);
  }
  static std::string fmt_line(int i) {
    static const char* const kWords[] = {"the",   "plan",  "tree", "wall",
                                         "grows", "along", "a",    "on"};
    std::string line;
    for (int k = 0; k < 3 + i % 5; ++k) line += std::string(kWords[(i * 5 + k * k) % 8]) + " ";
    return line;
  }
  static std::string config(const std::string& more) {
    nlohmann::json json{
        {"model_type", "bert"},         {"vocab_size", 16},         {"hidden_size", 16},
        {"num_hidden_layers", 1},       {"num_attention_heads", 2}, {"intermediate_size", 32},
        {"max_position_embeddings", 32}};
    json.update(nlohmann::json::parse(more));
    return json.dump();
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  std::string at(const std::string& name) const { return folder_ / name; }

  /// A run that takes milliseconds.
  std::vector<std::string> tiny(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments{"train",         "bert",
                                       "--data",        at("data.txt"),
                                       "--config",      at("config.json"),
                                       "--tokenizer",   at("vocab.txt"),
                                       "--seq-len",     "16",
                                       "--batch-size",  "4",
                                       "--steps",       "4",
                                       "--warmup",      "1",
                                       "--log-every",   "2",
                                       "--eval-every",  "0",
                                       "--save-every",  "0",
                                       "--save-dir",    "",
                                       "--peak-gflops", "100"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  Folder folder_;
};

TEST_F(Bert, AFolderHoldsTheWholeRun) {
  const std::string dir = at("run");
  const Ran ran =
      run(tiny({"--save-dir", dir, "--eval_every", "2", "--holdout", "0.2", "--profile"}));
  expect_text(ran, {"bert: 1 layers, hidden 16", "step 4/4", "perplexity", "compiled in",
                    "unigram entropy", "right on", "report: "});
  for (const char* name :
       {"run.json", "metrics.csv", "report.html", "trace.json", "step-00000004/model.safetensors",
        "step-00000004/state.json", "step-00000004/config.json", "step-00000004/vocab.txt"}) {
    EXPECT_TRUE(fs::exists(fs::path(dir) / name)) << name;
  }
  const std::string metrics = read_file(fs::path(dir) / "metrics.csv");
  EXPECT_NE(metrics.find("eval_loss"), std::string::npos) << metrics;
  EXPECT_NE(metrics.find("compilations"), std::string::npos) << metrics;
  EXPECT_NE(read_file(fs::path(dir) / "report.html").find("unigram entropy"), std::string::npos);

  const Ran eval = run({"eval", dir, "--data", at("data.txt"), "--json"});
  ASSERT_EQ(eval.code, 0) << eval.err;
  const auto line = nlohmann::json::parse(eval.out);
  EXPECT_EQ(line.at("eval"), "bert");
  EXPECT_EQ(line.at("step"), 4);
  EXPECT_EQ(line.at("documents"), 120);
  EXPECT_GT(line.at("labels").get<int64_t>(), 50);
  EXPECT_GT(line.at("loss").get<double>(), 0.5);
  EXPECT_LT(line.at("loss").get<double>(), 4.0);
  EXPECT_GE(line.at("accuracy").get<double>(), 0.0);
  expect_text(run({"eval", dir, "--data", at("data.txt"), "--batch-size", "3"}), {"% right on"});

  expect_error(run(tiny({"--save-dir", dir})), 2, {"holds a run at step 4", "--resume"});
  expect_error(run({"generate", dir}), 2, {"of the kind bert where byte-lm is needed"});
  expect_error(run({"train", "byte-lm", "--resume", "--save-dir", dir}), 2,
               {"of the kind bert where byte-lm is needed"});
}

TEST_F(Bert, ResumesWithoutFlagsAndNamesWhatDiffers) {
  const std::string dir = at("run");
  ASSERT_EQ(run(tiny({"--save-dir", dir})).code, 0);
  const auto again = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"train", "bert",          "--resume", "--save-dir",
                                       dir,     "--peak-gflops", "100"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  expect_text(again({"--steps", "6"}), {"resuming at step 4", "step 6/6", "of " + dir});
  write("other.json", config(R"({"num_hidden_layers": 2, "intermediate_size": 16})"));
  expect_error(again({"--steps", "8", "--config", at("other.json")}), 2,
               {"the architecture is not that of the checkpoint",
                "intermediate_size is 32 in the checkpoint and 16 now",
                "num_hidden_layers is 1 in the checkpoint and 2 now"});
  expect_error(again({"--steps", "8", "--mlm-prob", "0.2"}), 2,
               {"the data is not that of the checkpoint", "mlm_prob is 0.15", "0.2"});
  expect_error(again({"--steps", "8", "--seq-len", "12"}), 2, {"seq_len is 16"});
  write("data.txt", "the tree\n\nthe wall\n");
  expect_error(again({"--steps", "8"}), 2, {"the data is not that of the checkpoint", "tokens"});
}

TEST_F(Bert, MoreLabelsThanRoomCompileOnceMoreAndNoneIsDropped) {
  const std::string dir = at("run");
  const Ran ran = run(tiny({"--save-dir", dir, "--label-sigmas=-20", "--batch-size", "64",
                            "--steps", "6", "--log-every", "1", "--mlm-prob", "0.5"}));
  expect_text(ran, {"compiling once more for 64 rows of 16 with up to"});
  const std::string metrics = read_file(fs::path(dir) / "metrics.csv");
  ASSERT_EQ(metrics.substr(0, metrics.find('\n')).rfind(",compilations"),
            metrics.find('\n') - std::string(",compilations").size());
  EXPECT_GE(std::stod(metrics.substr(metrics.rfind(',') + 1)), 2.0) << metrics;
}

TEST_F(Bert, AccumulationAndAttentionAndTypesRun) {
  for (const std::vector<std::string>& more :
       std::vector<std::vector<std::string>>{{"--accumulate", "2"},
                                             {"--attention", "eager"},
                                             {"--dtype", "bfloat16", "--accumulate", "4"},
                                             {"--dtype", "float16"},
                                             {"--pack", "0"},
                                             {"--dropout", "0"},
                                             {"--freeze", "bert.embeddings.*"},
                                             {"--decay", "linear", "--optimizer", "sgd"},
                                             {"--check-nan"},
                                             {"--remat", "layer.*"}}) {
    expect_text(run(tiny(more)), {"step 4/4"});
  }
}

TEST_F(Bert, LearnsAVocabularyFromItsText) {
  const Ran ran = run({"train",        "bert",    "--data",        at("data.txt"),
                       "--vocab-size", "40",      "--seq-len",     "16",
                       "--batch-size", "4",       "--steps",       "2",
                       "--warmup",     "1",       "--eval-every",  "0",
                       "--save-dir",   at("run"), "--peak-gflops", "100"});
  expect_text(ran, {"tokenizer learned from", "step 2/2"});
  EXPECT_TRUE(fs::exists(at("run") + "/step-00000002/vocab.txt"));
  EXPECT_EQ(run({"eval", at("run"), "--data", at("data.txt")}).code, 0);
}

TEST_F(Bert, DataIsCountedAndCut) {
  write(
      "data.txt",
      "the tree\xFF grows\n\n \n\x01\n\nthe plan the plan the plan the plan the plan the plan the "
      "plan the plan\n\nthe wall\n");
  expect_text(run(tiny({})), {"3 documents", "1 empty documents left out",
                              "1 lines of invalid UTF-8 (1 replacements)",
                              "1 documents longer than a row are cut"});
}

TEST_F(Bert, JsonLinesNeedATokenizer) {
  write("data.jsonl", "{\"text\": \"the tree grows\"}\n{\"text\": \"a plan\"}\n");
  expect_text(run(tiny({"--data", at("data.jsonl")})), {"2 documents"});
  expect_error(run({"train", "bert", "--data", at("data.jsonl"), "--save-dir", ""}), 2,
               {"a vocabulary is learned from plain text", "--tokenizer", "espalier vocab"});
  write("bad.jsonl", "{\"text\": \"the tree\"}\n{\"txt\": 1}\n");
  expect_error(run(tiny({"--data", at("bad.jsonl")})), 3, {"line 2 is no JSON object"});
}

TEST_F(Bert, WrongDataIsNamed) {
  expect_error(run(tiny({"--data", at("none")})), 2, {"none", "No such file"});
  write("empty.txt", "");
  expect_error(run(tiny({"--data", at("empty.txt")})), 3, {"empty"});
  write("blank.txt", "\n\n \n\x01\n");
  expect_error(run(tiny({"--data", at("blank.txt")})), 3, {"hold no document with a token"});
  write("one.txt", "the tree\n");
  expect_error(run(tiny({"--data", at("one.txt"), "--eval-every", "2"})), 3,
               {"1 document cannot be both trained on and held out"});
  expect_error(run(tiny({"--eval-every", "2", "--holdout", "0"})), 2, {"--holdout is 0"});
}

TEST_F(Bert, WrongModelsAreNamed) {
  write("config.json", config(R"({"hidden_act": "silu", "is_decoder": true})"));
  expect_error(run(tiny({})), 4, {"hidden_act", "silu", "is_decoder", "config.json"});
  write("config.json", config(R"({"vocab_size": 9})"));
  expect_error(
      run(tiny({})), 3,
      {"the vocabulary has 13 tokens and the embedding vocab_size = 9 rows", "config.json"});
  write("config.json", config(R"({"max_position_embeddings": 8})"));
  expect_error(run(tiny({})), 2, {"--seq-len 16 is longer than max_position_embeddings = 8"});
  write("config.json", config(R"({"num_attention_heads": 3})"));
  expect_error(run(tiny({})), 3, {"num_attention_heads = 3 does not divide hidden_size = 16"});
  write("config.json", "{");
  expect_error(run(tiny({})), 3, {"is not JSON"});
  expect_error(run(tiny({"--config", at("nowhere.json")})), 2, {"nowhere.json"});
}

/// A Hugging Face folder as a run's checkpoint is one.
TEST_F(Bert, StartsFromAFolder) {
  ASSERT_EQ(run(tiny({"--save-dir", at("first")})).code, 0);
  const std::string folder = at("first") + "/step-00000004";
  const auto from = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"train",         "bert", "--data",       at("data.txt"),
                                       "--from",        folder, "--seq-len",    "16",
                                       "--batch-size",  "4",    "--eval-every", "0",
                                       "--save-every",  "0",    "--log-every",  "1",
                                       "--peak-gflops", "100"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  // A rate of zero leaves what was loaded. The default warmup is cut to a tenth of the one step.
  expect_text(from({"--steps", "1", "--lr", "0", "--save-dir", at("second")}),
              {"starts from 26 tensors of " + folder, "tokenizer of " + folder, "bert: 1 layers"});
  EXPECT_EQ(read_file(at("second") + "/step-00000001/vocab.txt"), read_file(folder + "/vocab.txt"));
  EXPECT_EQ(read_file(at("second") + "/step-00000001/model.safetensors"),
            read_file(folder + "/model.safetensors"));
  expect_text(run({"train", "bert", "--resume", "--save-dir", at("second"), "--steps", "2",
                   "--peak-gflops", "100"}),
              {"resuming at step 1"});

  expect_error(from({"--steps", "2", "--resume", "--save-dir", at("second")}), 2,
               {"--from " + folder, "--resume goes on from", "give one of them"});
  expect_error(from({"--config", at("config.json"), "--save-dir", ""}), 2,
               {"--config", "--from", "both bring an architecture"});
  expect_error(run(tiny({"--config", "", "--from", at("nowhere")})), 2, {"nowhere"});
}

TEST_F(Bert, StartsFromABareEncoder) {
  ASSERT_EQ(run(tiny({"--save-dir", at("run")})).code, 0);
  const fs::path from = at("run") + "/step-00000004", bare = at("bare");
  fs::create_directory(bare);
  const auto file = io::SafetensorsFile::open(from / "model.safetensors");
  std::map<std::string, HostTensor> encoder;
  for (const io::SafetensorsEntry& entry : file.entries()) {
    if (entry.name.starts_with("bert.")) encoder.emplace(entry.name, file.tensor(entry.name));
  }
  encoder.emplace("bert.pooler.dense.bias", HostTensor(DType::f32, {16}));
  io::save_safetensors(bare / "model.safetensors", encoder);
  for (const char* name : {"config.json", "vocab.txt"}) fs::copy_file(from / name, bare / name);
  expect_text(run(tiny({"--config", "", "--tokenizer", "", "--from", bare})),
              {"starts from 21 tensors", "not there, so from initial values: cls.predictions.bias",
               "left out: bert.pooler.dense.bias", "step 4/4"});
}

TEST_F(Bert, AFolderThatDoesNotFitIsRefusedWhole) {
  ASSERT_EQ(run(tiny({"--save-dir", at("run")})).code, 0);
  const fs::path folder = at("run") + "/step-00000004";
  const auto from = [&](const std::vector<std::string>& more = {}) {
    std::vector<std::string> all{"--config", "", "--tokenizer", "", "--from", folder.string()};
    all.insert(all.end(), more.begin(), more.end());
    return run(tiny(all));
  };
  // All tensors that do not fit, in one message of several lines.
  std::ofstream(folder / "config.json")
      << config(R"({"num_hidden_layers": 2, "intermediate_size": 24})");
  expect_listing(
      from(), 3,
      {"16 missing, 3 of another shape", "missing: bert.encoder.layer.1.output.dense.weight",
       "bert.encoder.layer.0.intermediate.dense.weight F32 [32,16] where [24,16] is expected"});
  std::ofstream(folder / "config.json") << config(R"({"vocab_size": 9})");
  expect_error(from(), 3,
               {"the vocabulary has 13 tokens and the embedding vocab_size = 9 rows",
                (folder / "config.json").string()});
  std::ofstream(folder / "config.json") << config("{}");
  fs::remove(folder / "vocab.txt");
  expect_error(from(), 2, {"no tokenizer.json, vocab.txt or vocab.json in", "--tokenizer"});
  expect_text(from({"--tokenizer", at("vocab.txt")}), {"step 4/4"});
}

TEST_F(Bert, WrongTokenizersAreNamed) {
  write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n");
  expect_error(run(tiny({})), 3, {"vocabulary of 5 tokens has no [MASK]"});
  expect_error(run(tiny({"--tokenizer", at("nowhere")})), 2, {"nowhere"});
}

TEST_F(Bert, WrongFlagsAreNamed) {
  expect_error(run(tiny({"--accumulate", "3"})), 2,
               {"--accumulate 3 does not divide --batch-size 4"});
  expect_error(run(tiny({"--accumulate", "0"})), 2, {"--accumulate 0 must be positive"});
  expect_error(run(tiny({"--attention", "flash"})), 2, {"--attention flash", "fused, eager"});
  expect_error(run(tiny({"--decay", "cosin"})), 2, {"nearest: cosine"});
  expect_error(run(tiny({"--mlm-prob", "1.5"})), 2, {"mlm_prob = 1.5"});
  expect_error(run(tiny({"--dropout", "1"})), 2, {"hidden_dropout_prob = 1"});
  expect_error(run(tiny({"--freeze", "bert.embedings.*"})), 2,
               {"--freeze bert.embedings.* matches no parameter", "nearest: bert.embeddings"});
  expect_error(run(tiny({"--batchsize", "3"})), 2, {"nearest: --batch-size"});
  const Ran help = run({"train", "bert", "--help"});
  expect_text(help, {"Examples:", "--mlm-prob", "--accumulate", "espalier train bert --resume"});
}

}  // namespace
}  // namespace espalier::test
