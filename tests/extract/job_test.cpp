// SPDX-License-Identifier: Apache-2.0
// Extraction from end to end on a tiny Qwen2 with random weights.
#include "espalier/extract/job.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "espalier/extract/manifest.h"
#include "espalier/extract/reader_model.h"
#include "espalier/extract/verify.h"
#include "espalier/io/json.h"
#include "espalier/io/safetensors.h"
#include "espalier/models/byte_lm.h"
#include "espalier/nn/weights.h"
#include "espalier/train/byte_lm_options.h"
#include "espalier/train/checkpoint.h"
#include "tests/extract/run_fixture.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

using test::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(ExtractTest, EverySampleOnceAndVerified) {
  const ExtractOptions o = options("run");
  const ExtractReport report = run(o);
  EXPECT_TRUE(report.complete);
  EXPECT_EQ(report.plan.samples, kSamples);
  EXPECT_GT(report.plan.shards, 4);
  EXPECT_EQ(report.made_shards, report.plan.shards);
  EXPECT_EQ(report.made_samples, kSamples);
  EXPECT_EQ(report.compiles, 1);
  EXPECT_EQ(report.hooks.size(), 8u);
  const VerifyReport verified = verify_run(o.output);
  EXPECT_TRUE(verified.pass()) << fmt::format("{}", fmt::join(verified.wrong, "\n"));
  EXPECT_EQ(verified.samples, kSamples);
  EXPECT_EQ(verified.tokens, report.plan.tokens);
  // The same command again has nothing to do.
  const ExtractReport again = run(o);
  EXPECT_TRUE(again.complete);
  EXPECT_EQ(again.made_shards, 0);
}

// Of one batch there is no second to take the pace from.
TEST_F(ExtractTest, OneBatchHasAPaceToo) {
  ExtractOptions o = options("run");
  o.batch.rows = 64;
  o.shard_tokens = 1 << 20;
  ExtractProgress last;
  ExtractEvents events;
  events.progress = [&](const ExtractProgress& p) { last = p; };
  const ExtractReport report = run_extract(o, events);
  EXPECT_EQ(report.plan.shards, 1);
  EXPECT_EQ(last.computed_samples, kSamples);
  EXPECT_EQ(last.computed_tokens, report.plan.tokens);
  EXPECT_GT(last.compute_seconds, 0.0);
  EXPECT_LE(last.compute_seconds, report.seconds);
}

// Each sample alone in a row, or packed with others: the same activations.
TEST_F(ExtractTest, PackedSamplesAreAsIfAlone) {
  ExtractOptions packed = options("packed"), alone = options("alone");
  alone.batch.batching = Batching::pad;
  const ExtractReport report = run(packed), rows = run(alone);
  EXPECT_GT(report.useful_share, 1.3 * rows.useful_share);
  const auto want = samples_of(alone), got = samples_of(packed);
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [key, values] : got) {
    const std::vector<double>& single = want.at(key);
    ASSERT_EQ(values.size(), single.size()) << key;
    double largest = 0.0, apart = 0.0;
    for (size_t i = 0; i < values.size(); ++i) {
      largest = std::max(largest, std::abs(single[i]));
      apart = std::max(apart, std::abs(values[i] - single[i]));
    }
    EXPECT_LE(apart, 1e-5 * largest) << key;
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

TEST_F(ExtractTest, WeightsMayBeLaidOutInAFileThatOthersMap) {
  ExtractOptions plain = options("plain"), first = options("first"), second = options("second");
  first.pack_cache = second.pack_cache = (folder_ / "packed").string();
  run(plain);
  run(first);
  const fs::directory_iterator files(folder_ / "packed");
  ASSERT_EQ(std::distance(begin(files), end(files)), 1);
  run(second);
  EXPECT_TRUE(shards_of(first) == shards_of(plain));
  EXPECT_TRUE(shards_of(second) == shards_of(plain));
}

TEST_F(ExtractTest, ARunOfTheByteLmThatHasGoneOnIsAnotherModel) {
  const models::ByteLmConfig config{.width = 16, .heads = 2, .ffn = 24, .layers = 1, .seq_len = 64};
  const auto save = [&](int64_t step) {
    models::ByteLm model(config);
    nn::materialize(model, static_cast<uint64_t>(step));
    train::Checkpoint checkpoint;
    checkpoint.step = step;
    checkpoint.config = train::config_section(config);
    checkpoint.parameters = nn::values_of(model);
    save_checkpoint(folder_ / "trained", checkpoint);
  };
  std::ofstream(folder_ / "bytes.jsonl") << R"({"tokens": [104, 105]})"
                                         << "\n";
  ExtractOptions o = options("bytes");
  o.model = (folder_ / "trained").string();
  o.source.files = {folder_ / "bytes.jsonl"};
  save(1);
  EXPECT_TRUE(run(o).complete);
  EXPECT_TRUE(run(o).complete);
  save(2);
  EXPECT_THAT(error_of([&] { run(o); }), HasSubstr("model is "));
}

TEST_F(ExtractTest, KilledWorkersLoseAndDoubleNothing) {
  constexpr int kKills = 20;
  ExtractOptions whole = options("whole"), killed = options("killed");
  whole.shard_tokens = killed.shard_tokens = 40;
  whole.batch.rows = killed.batch.rows = 1;
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
              HasSubstr("run.json is missing: this is no run of extraction"));
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
  EXPECT_EQ(report.plan.position.bad_lines, 2);
  EXPECT_EQ(report.plan.samples, 1);
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
