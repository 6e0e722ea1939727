// SPDX-License-Identifier: Apache-2.0
// Extraction from end to end on a tiny Qwen2 with random weights.
#include "espalier/extract/job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <random>
#include <thread>

#include "espalier/extract/reader_model.h"
#include "espalier/extract/shard.h"
#include "espalier/extract/verify.h"
#include "espalier/io/safetensors.h"
#include "espalier/models/qwen2_folder.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const fs::path kTokenizer = fs::path(ESPALIER_SOURCE_DIR) / "tests/goldens/tokenizers/qwen2";

class ExtractTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / fmt::format("espalier-extract-{}", ::getpid());
    fs::remove_all(folder_);
    const int64_t vocab = text::Tokenizer::open(kTokenizer).vocab_size();
    models::init_qwen2(folder_ / "model",
                       {.vocab_size = vocab,
                        .hidden_size = 16,
                        .num_hidden_layers = 2,
                        .num_attention_heads = 2,
                        .num_key_value_heads = 1,
                        .intermediate_size = 24,
                        .max_position_embeddings = 128,
                        .initializer_range = 0.5},
                       7);
    std::mt19937 random(11);
    std::ofstream file(folder_ / "tokens.jsonl");
    for (int line = 0; line < kSamples; ++line) {
      file << R"({"tokens": [)";
      const int count = 1 + static_cast<int>(random() % 60);
      for (int i = 0; i < count; ++i) {
        file << (i > 0 ? "," : "") << random() % static_cast<unsigned>(vocab);
      }
      file << "]}\n";
    }
  }
  void TearDown() override { fs::remove_all(folder_); }

  ExtractOptions options(const std::string& output) const {
    ExtractOptions o;
    o.model = (folder_ / "model").string();
    o.tokenizer = kTokenizer.string();
    o.output = (folder_ / output).string();
    o.source.files = {folder_ / "tokens.jsonl"};
    o.source.max_seq_length = 64;
    o.batch.rows = 3;
    o.activation = "residual,mlp,attn,resid_mid.*";
    o.store_dtype = DType::f32;
    o.shard_tokens = 150;
    o.compile.threads = 1;
    return o;
  }
  ExtractReport run(const ExtractOptions& o) const { return run_extract(o, {}); }

  /// File name to contents of all shards.
  static std::map<std::string, std::string> shards_of(const ExtractOptions& o) {
    std::map<std::string, std::string> shards;
    if (!fs::exists(fs::path(o.output) / "shards")) return shards;
    for (const auto& entry : fs::directory_iterator(fs::path(o.output) / "shards")) {
      // What a killed writer left behind has a hidden name.
      if (entry.path().filename().string().starts_with('.')) continue;
      std::ifstream file(entry.path());
      shards[entry.path().filename()] = {std::istreambuf_iterator<char>(file), {}};
    }
    return shards;
  }

  static constexpr int kSamples = 40;
  fs::path folder_;
};

TEST_F(ExtractTest, EverySampleOnceAndVerified) {
  const ExtractOptions o = options("run");
  const ExtractReport report = run(o);
  EXPECT_TRUE(report.complete);
  EXPECT_EQ(report.samples, kSamples);
  EXPECT_GT(report.shards, 4);
  EXPECT_EQ(report.made_shards, report.shards);
  EXPECT_EQ(report.compiles, 1);
  EXPECT_EQ(report.hooks.size(), 8u);
  const VerifyReport verified = verify_run(o.output);
  EXPECT_TRUE(verified.pass()) << fmt::format("{}", fmt::join(verified.wrong, "\n"));
  EXPECT_EQ(verified.samples, kSamples);
  EXPECT_EQ(verified.tokens, report.tokens);
  // The same command again has nothing to do.
  const ExtractReport again = run(o);
  EXPECT_TRUE(again.complete);
  EXPECT_EQ(again.made_shards, 0);
}

// Each sample alone in a row, or packed with others: the same activations.
TEST_F(ExtractTest, PackedSamplesAreAsIfAlone) {
  ExtractOptions packed = options("packed"), alone = options("alone");
  alone.batch.batching = Batching::pad;
  const ExtractReport report = run(packed), rows = run(alone);
  EXPECT_GT(report.useful_share, 1.3 * rows.useful_share);
  for (const auto& [name, bytes] : shards_of(packed)) {
    const auto a = io::SafetensorsFile::open(fs::path(packed.output) / "shards" / name);
    const auto b = io::SafetensorsFile::open(fs::path(alone.output) / "shards" / name);
    for (const io::SafetensorsEntry& entry : a.entries()) {
      const std::vector<double> x = a.tensor(entry.name).to_doubles();
      const std::vector<double> y = b.tensor(entry.name).to_doubles();
      ASSERT_EQ(x.size(), y.size()) << entry.name;
      double largest = 0.0, apart = 0.0;
      for (size_t i = 0; i < x.size(); ++i) {
        largest = std::max(largest, std::abs(y[i]));
        apart = std::max(apart, std::abs(x[i] - y[i]));
      }
      EXPECT_LE(apart, 1e-5 * largest) << name << ":" << entry.name;
    }
  }
}

TEST_F(ExtractTest, TheGraphStopsAfterTheLastWantedHook) {
  const auto model = open_reader_model(folder_ / "model", {.threads = 1});
  const auto time = [&](const std::string& glob) {
    model->select({glob});
    TokenRows rows(1, 8);
    model->run(rows);
    return model->hooks();
  };
  EXPECT_THAT(time("resid_mid.0"), ElementsAre("resid_mid.0"));
  EXPECT_THAT(error_of([&] { model->select({"resid_past.*"}); }), HasSubstr("resid_p"));
}

TEST_F(ExtractTest, BytesDependNeitherOnThreadsNorOnOtherShards) {
  ExtractOptions one = options("one"), two = options("two");
  two.compile.threads = 2;
  run(one);
  run(two);
  const auto want = shards_of(one);
  EXPECT_TRUE(shards_of(two) == want);
  // A shard that is made anew is the same file.
  fs::remove(fs::path(two.output) / "shards/shard-00000002.safetensors");
  fs::remove(fs::path(two.output) / manifest_key(2));
  EXPECT_FALSE(verify_run(two.output).pass());
  EXPECT_EQ(run(two).made_shards, 1);
  EXPECT_TRUE(shards_of(two) == want);
  EXPECT_TRUE(verify_run(two.output).pass());
}

TEST_F(ExtractTest, KilledWorkersLoseAndDoubleNothing) {
  constexpr int kKills = 20;
  ExtractOptions whole = options("whole"), killed = options("killed");
  whole.shard_tokens = killed.shard_tokens = 40;
  killed.lease_seconds = 0.2;
  run(whole);
  std::mt19937 random(5);
  int kills = 0;
  const auto start = [&] {
    const pid_t child = ::fork();
    if (child == 0) {
      run_extract(killed, {});
      ::_exit(0);
    }
    return child;
  };
  for (int i = 0; i < kKills; ++i) {
    const pid_t first = start(), second = start();
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + random() % 180));
    for (pid_t child : {first, second}) {
      ::kill(child, SIGKILL);
      int status = 0;
      ::waitpid(child, &status, 0);
      kills += WIFSIGNALED(status);
    }
  }
  run(killed);
  const VerifyReport report = verify_run(killed.output);
  EXPECT_TRUE(report.pass()) << fmt::format("{}", fmt::join(report.wrong, "\n"));
  EXPECT_EQ(report.samples, kSamples);
  EXPECT_TRUE(shards_of(killed) == shards_of(whole));
  fmt::print("{} workers killed, {} samples, none lost, none twice\n", kills, report.samples);
  EXPECT_GE(kills, 3) << "the run ended too early";
}

TEST_F(ExtractTest, AnotherRunsFolderIsRefused) {
  ExtractOptions o = options("run");
  run(o);
  o.layers = "0";
  o.batch.rows = 4;
  EXPECT_THAT(error_of([&] { run(o); }),
              ::testing::AllOf(HasSubstr("run.json is of another run: hooks is"),
                               HasSubstr("batch_size is 3 there and 4 now"),
                               HasSubstr("use another --output")));
  o = options("run");
  std::ofstream(folder_ / "tokens.jsonl", std::ios::app) << R"({"tokens": [1]})"
                                                         << "\n";
  EXPECT_THAT(error_of([&] { run(o); }), HasSubstr("dataset is"));
}

TEST_F(ExtractTest, DamageIsFound) {
  const ExtractOptions o = options("run");
  run(o);
  const fs::path shard = fs::path(o.output) / shard_key(1);
  {
    std::fstream file(shard, std::ios::in | std::ios::out);
    file.seekp(-5, std::ios::end);
    file.put('\x55');
  }
  fs::remove(fs::path(o.output) / shard_key(0));
  const VerifyReport report = verify_run(o.output);
  ASSERT_EQ(report.wrong.size(), 2u);
  EXPECT_THAT(report.wrong[0], HasSubstr("shard-00000000.safetensors is missing"));
  EXPECT_THAT(report.wrong[1], HasSubstr("its checksum is not the manifest's"));
  EXPECT_THAT(error_of([&] { verify_run((folder_ / "model").string()); }),
              HasSubstr("holds no run: run.json is missing"));
}

// A weight that is not finite: found in the activations, and nothing of the shard is kept.
TEST_F(ExtractTest, ActivationsThatAreNotFiniteAreNamed) {
  const fs::path file = folder_ / "model/model.safetensors";
  std::map<std::string, HostTensor> tensors = io::SafetensorsFile::open(file).tensors();
  HostTensor& norm = tensors.at("model.layers.1.post_attention_layernorm.weight");
  norm = norm.clone();
  norm.set(3, std::nan(""));
  io::save_safetensors(file, tensors);
  ExtractOptions o = options("run");
  o.activation = "resid_mid.*,mlp_out.*";
  EXPECT_THAT(test::message(ErrorKind::data, [&] { run(o); }),
              ::testing::AllOf(HasSubstr("mlp_out.1 of sample tokens.jsonl:"),
                               HasSubstr("values that are NaN or beyond f32, the first at its "
                                         "token 0; check the model's weights")));
  EXPECT_TRUE(shards_of(o).empty());
  // The lease is given back: whoever comes next need not wait.
  EXPECT_TRUE(open_folder_store(o.output)->list("leases/").empty());
  // What the wanted hooks do not depend on does not matter.
  o = options("other");
  o.activation = "resid_mid.*";
  EXPECT_TRUE(run(o).complete);
}

TEST_F(ExtractTest, BadInputIsNamedCountedOrRefused) {
  std::ofstream(folder_ / "tokens.jsonl") << "{\"tokens\": [1, 2]}\n{\"tokens\": [-1]}\nx\n";
  ExtractOptions o = options("run");
  EXPECT_THAT(error_of([&] { run(o); }), HasSubstr("tokens.jsonl line 2: -1 is no token below"));
  o.source.skip_bad_lines = true;
  const ExtractReport report = run(o);
  EXPECT_EQ(report.source.bad_lines, 2);
  EXPECT_EQ(report.samples, 1);
  o = options("other");
  o.source.skip_bad_lines = true;
  o.source.max_seq_length = 1;
  EXPECT_THAT(error_of([&] { run(o); }), HasSubstr("tokens.jsonl:1 has 2 tokens, the maximum"));
  o.source.max_seq_length = 129;
  EXPECT_THAT(error_of([&] { run(o); }), HasSubstr("--max-seq-length 129"));
  o = options("other");
  o.layers = "0-2";
  EXPECT_THAT(error_of([&] { run(o); }), HasSubstr("the model has layers 0 to 1"));
  o.layers = "b";
  EXPECT_THAT(error_of([&] { run(o); }), HasSubstr("\"b\" is no layer or range"));
  o = options("other");
  o.source.files = {folder_ / "nothing.jsonl"};
  EXPECT_THAT(error_of([&] { run(o); }), HasSubstr("nothing.jsonl"));
}

}  // namespace
}  // namespace espalier::extract
