// SPDX-License-Identifier: Apache-2.0
// One test for each defect of the program that this one replaces: what went wrong there must not
// come back here.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <set>

#include "espalier/text/tokenizer_file.h"
#include "espalier/train/documents.h"
#include "espalier/train/shaped_steps.h"
#include "tests/support/bert_step.h"
#include "tests/support/compare.h"

namespace espalier {
namespace {

using testing::BertCase;
using testing::BertRows;
using testing::BertRun;
using testing::run_bert;
using train::BertBatch;
using train::Step;

double norm(const std::vector<double>& values) {
  double sum = 0.0;
  for (double x : values) sum += x * x;
  return std::sqrt(sum);
}

/// Queries and keys take part only where attention's output is not zero.
TEST(Defects, DropoutOfZeroZeroesNothing) {
  ir::Builder builder("g");
  const Tensor x(builder, builder.input("x", {DType::f32, {4}}, "batch"));
  EXPECT_EQ(dropout(x, 0.0, {}).value(), x.value()) << "a rate of 0 is the input itself";

  BertCase c;
  c.config.hidden_dropout_prob = c.config.attention_probs_dropout_prob = 0.0;
  for (const bool flash : {true, false}) {
    c.options.compile.flash = flash;
    const BertRun run = run_bert(c, BertRows(4).batch(1), 1);
    for (const char* part : {"query", "key", "value"}) {
      const std::string path = fmt::format("bert.encoder.layer.0.attention.self.{}.weight", part);
      EXPECT_GT(norm(run.gradients.at(path)), 1e-6) << path << " flash " << flash;
    }
  }
}

TEST(Defects, TiedWeightsAreOneLeafAndStayTied) {
  const BertRows rows(4);
  const BertBatch batch = rows.batch(1);
  Step step = testing::bert_step({}, batch);
  step.initialize(7);
  const std::string word = "bert.embeddings.word_embeddings.weight";
  std::set<std::string> paths;
  for (const auto& [path, value] : step.parameters()) paths.insert(path);
  EXPECT_TRUE(paths.contains(word));
  EXPECT_FALSE(paths.contains("cls.predictions.decoder.weight"));
  EXPECT_FALSE(paths.contains("cls.predictions.decoder.bias"));
  EXPECT_EQ(paths.size(), 10u + 16u * 2u);

  // Tokens that no input shows get a gradient through the decoder, those in the input through both.
  train::set_bert_batch(step, batch);
  step.run();
  const std::vector<double> gradient = step.executable().output("grad." + word).to_doubles();
  const std::set<int32_t> shown(rows.ids.begin(), rows.ids.end());
  for (int32_t id = 0; id < 40; ++id) {
    const auto from = gradient.begin() + id * 16;
    EXPECT_GT(norm({from, from + 16}), 0.0) << "token " << id << " shown " << shown.contains(id);
  }
}

/// What is at a masked key changes nothing that is seen, and masked queries take nothing away.
TEST(Defects, PaddingIsMaskedAtKeysNotAtQueries) {
  const models::BertConfig config = testing::tiny_bert();
  for (const bool flash : {true, false}) {
    Step step =
        train::make_forward(models::BertForMaskedLm(config),
                            [&](const models::BertForMaskedLm& model,
                                const train::Trace& trace) -> train::NamedTensors {
                              const Shape shape{2, 6};
                              const models::BertInputs inputs{
                                  .input_ids = trace.batch("ids", DType::i32, shape),
                                  .attention_mask = trace.batch("mask", DType::boolean, shape)};
                              return {{"hidden", bert_encode(model, inputs, trace.context)}};
                            },
                            {.compile = {.backend = "interp", .flash = flash}});
    step.initialize(3);
    std::vector<int32_t> ids{5, 6, 7, 8, 0, 0, 9, 10, 11, 12, 13, 14};
    const std::vector<uint8_t> mask{1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1};
    step.set_batch("ids", ids.data());
    step.set_batch("mask", mask.data());
    const auto seen = [&] {
      step.run();
      const std::vector<double> all = step.executable().output("hidden").to_doubles();
      return std::vector<double>(all.begin(), all.begin() + 4 * 16);
    };
    const std::vector<double> before = seen();
    ids[4] = 30;
    ids[5] = 31;
    EXPECT_EQ(seen(), before) << "a masked key was seen";
    ids[3] = 32;
    EXPECT_NE(seen(), before) << "a visible key was not seen";
  }
}

/// With equal scores and one-hot values the output shows the mask itself.
TEST(Defects, EachQueryHasADropoutMaskOfItsOwn) {
  constexpr int64_t kSeq = 32;
  for (const char* backend : {"interp", "cpu"}) {
    for (const bool flash : {true, false}) {
      ir::Builder builder("g");
      const auto input = [&](const char* name, DType dtype, Shape shape) {
        return Tensor(builder, builder.input(name, {dtype, std::move(shape)}, "batch"));
      };
      const Shape shape{1, kSeq, 1, kSeq};
      const Tensor q = input("q", DType::f32, shape), v = input("v", DType::f32, shape);
      const RngState rng{input("seed", DType::i64, {}), input("step", DType::i64, {})};
      builder.output("out",
                     scaled_dot_product_attention(q, q, v, {.dropout = 0.5, .rng = rng}).value());
      const auto executable =
          compile(builder.finish(), {.backend = backend, .flash = flash, .threads = 2});
      const std::vector<float> zeros(kSeq * kSeq, 0.0f);
      std::vector<float> one_hot(kSeq * kSeq, 0.0f);
      for (int64_t i = 0; i < kSeq; ++i) one_hot[static_cast<size_t>(i * kSeq + i)] = 1.0f;
      const int64_t seed = 5, step = 2;
      const auto set = [&](const char* name, const void* data) {
        executable->set_input(executable->input_index(name), data);
      };
      set("q", zeros.data());
      set("v", one_hot.data());
      set("seed", &seed);
      set("step", &step);
      executable->run();
      const std::vector<double> out = executable->output("out").to_doubles();
      std::set<std::vector<bool>> masks;
      for (int64_t i = 0; i < kSeq; ++i) {
        std::vector<bool> kept;
        for (int64_t j = 0; j < kSeq; ++j) {
          kept.push_back(out[static_cast<size_t>(i * kSeq + j)] > 0.0);
        }
        masks.insert(kept);
      }
      EXPECT_EQ(masks.size(), static_cast<size_t>(kSeq)) << backend << " flash " << flash;
    }
  }
}

TEST(Defects, CosineDecayIsApplied) {
  train::BertOptions options;
  options.steps = 20;
  options.optimizer = {.name = "adamw", .lr = 1e-2, .schedule = "cosine", .warmup = 5, .clip = 1.0};
  options.compile.threads = 2;
  const BertBatch batch = BertRows(4).batch(1);
  Step step = train::bert_train_step(options, testing::tiny_bert(), batch.shape);
  step.initialize(1);
  train::set_bert_batch(step, batch);
  const std::string path = "bert.encoder.layer.0.output.dense.weight";
  std::vector<double> moved;
  for (int64_t s = 0; s < options.steps; ++s) {
    const std::vector<double> before = step.parameter(path).to_doubles();
    step.run();
    std::vector<double> change = step.parameter(path).to_doubles();
    for (size_t i = 0; i < change.size(); ++i) change[i] -= before[i];
    moved.push_back(norm(change));
    const double x = static_cast<double>(s - 5) / 15.0;
    const double want = s < 5 ? 1e-2 * static_cast<double>(s) / 5.0
                              : 1e-2 * 0.5 * (1.0 + std::cos(std::numbers::pi * x));
    EXPECT_NEAR(step.scalar("learning_rate"), want, 1e-7) << "step " << s;
  }
  EXPECT_EQ(moved.front(), 0.0) << "warmup starts at zero";
  EXPECT_GT(moved[5], 0.0);
  EXPECT_LT(moved.back(), 0.05 * moved[5]) << "what the parameters do follows the schedule";
}

/// The mean over labels: twice the rows, the same loss and gradient.
TEST(Defects, TheLossIsAMeanNotASum) {
  BertCase c;
  c.config.hidden_dropout_prob = c.config.attention_probs_dropout_prob = 0.0;
  const BertRows once(4);
  BertRows twice = once;
  twice.rows = 8;
  for (std::vector<int32_t>* values :
       {&twice.ids, &twice.segments, &twice.positions, &twice.labels}) {
    const std::vector<int32_t> copy = *values;
    values->insert(values->end(), copy.begin(), copy.end());
  }
  const BertRun one = run_bert(c, once.batch(1), 1);
  const BertRun two = run_bert(c, twice.batch(1), 1);
  EXPECT_NEAR(one.losses[0], std::log(40.0), 0.5) << "an untrained model knows nothing";
  EXPECT_TRUE(testing::close(two.losses, one.losses));
  EXPECT_TRUE(testing::close(two.norms, one.norms));
}

/// Parts with different numbers of labels: a mean of their means would be another gradient.
TEST(Defects, AccumulationKeepsTheGradient) {
  BertRows rows(8);
  std::fill(rows.labels.begin(), rows.labels.begin() + 3 * rows.seq_len, train::kNoLabel);
  const BertRun whole = run_bert({}, rows.batch(1), 1);
  for (const int64_t parts : {2, 4, 8}) {
    const BertRun cut = run_bert({}, rows.batch(parts), 1);
    for (const auto& [path, values] : whole.gradients) {
      EXPECT_TRUE(testing::close(cut.gradients.at(path), values)) << parts << " " << path;
    }
  }
}

TEST(Defects, NothingIsCompiledAgainAtStepOne) {
  BertCase c;
  c.options.compile = {.threads = 2};
  c.options.gradients = c.options.grad_norm = false;
  const BertBatch batch = BertRows(4).batch(1);
  train::ShapedSteps steps(
      [&](const train::ShapedSteps::BatchShape&) { return testing::bert_step(c, batch); });
  const train::ShapedSteps::BatchShape shape{4, 12, batch.shape.label_room};
  steps.at(shape).initialize(1);
  const Executable* compiled = &steps.at(shape).executable();
  for (int s = 0; s < 5; ++s) {
    Step& step = steps.at(shape);
    train::set_bert_batch(step, batch);
    step.run();
    EXPECT_EQ(&step.executable(), compiled);
    EXPECT_EQ(steps.compilations(), 1);
  }
}

TEST(Defects, FrozenParametersTrainNotAndCrashNot) {
  BertCase c;
  c.freeze = "bert.embeddings.*,*.layer.0.*";
  c.optimizer = train::adamw({.learning_rate = 1e-2});
  const BertBatch batch = BertRows(4).batch(1);
  Step step = testing::bert_step(c, batch);
  step.initialize(7);
  train::set_bert_batch(step, batch);
  std::map<std::string, std::vector<double>> before;
  for (const auto& [path, value] : step.parameters()) before[path] = value.to_doubles();
  for (int s = 0; s < 3; ++s) step.run();
  const auto state = step.other_state();
  for (const auto& [path, value] : step.parameters()) {
    const bool frozen = path.starts_with("bert.embeddings.") || path.find(".layer.0.") != path.npos;
    EXPECT_EQ(state.contains("adam.m." + path), !frozen) << path;
    // A key's bias moves nothing, so Adam may leave it where it is.
    if (path.ends_with("key.bias")) continue;
    EXPECT_EQ(before.at(path) == value.to_doubles(), frozen) << path;
  }
}

/// Workers take shares of one global order; shuffling each share alone would show rows twice.
TEST(Defects, WorkersSplitOneShuffle) {
  std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", text;
  for (int i = 0; i < 64; ++i) {
    vocabulary += fmt::format("w{}\n", i);
    text += fmt::format("w{} w{} w{}\n\n", i, i, i);
  }
  const text::Tokenizer tokenizer(text::parse_vocab_txt(vocabulary, "", "words"));
  const auto documents =
      train::tokenize_documents({reinterpret_cast<const uint8_t*>(text.data()), text.size()},
                                train::DocumentFormat::text, "words", tokenizer);
  const train::MlmVocabulary words(tokenizer);
  const auto data = [&](uint64_t seed) {
    return train::MlmData(documents, 0, documents.size(), words,
                          {.seq_len = 5, .pack = false, .mlm_prob = 1e-9, .seed = seed});
  };
  // The word of each row says which document it is.
  const auto rows_of = [&](const train::MlmData& source, int64_t workers, int64_t rank) {
    const train::WorkerShare share(16, workers, rank);
    std::vector<int32_t> seen;
    train::MlmBatch batch;
    for (int64_t step = 0; step < 4; ++step) {
      source.fill(share.first(step), share.rows, batch);
      for (int64_t r = 0; r < share.rows; ++r) {
        seen.push_back(batch.input_ids[static_cast<size_t>(r * 5 + 1)]);
      }
    }
    return seen;
  };
  // Each worker opens the data itself, as processes do.
  std::multiset<int32_t> together;
  for (int64_t rank = 0; rank < 4; ++rank) {
    const auto part = rows_of(data(9), 4, rank);
    together.insert(part.begin(), part.end());
  }
  EXPECT_EQ(std::set<int32_t>(together.begin(), together.end()).size(), 64u)
      << "an epoch of all workers shows every document once";
  const auto one = rows_of(data(9), 1, 0);
  EXPECT_EQ(together, std::multiset<int32_t>(one.begin(), one.end()));
  EXPECT_NE(one, rows_of(data(10), 1, 0)) << "there is a shuffle";
}

}  // namespace
}  // namespace espalier
