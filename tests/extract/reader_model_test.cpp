// SPDX-License-Identifier: Apache-2.0
// Reading models: what of them is loaded, in which types, and how often weights are laid out.
#include "espalier/extract/reader_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <random>

#include "espalier/base/rng.h"
#include "espalier/extract/reader_family.h"
#include "espalier/models/bert_folder.h"
#include "espalier/models/byte_lm.h"
#include "espalier/models/qwen2_folder.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/weights.h"
#include "espalier/tensor/convert.h"
#include "espalier/train/byte_lm_options.h"
#include "espalier/train/checkpoint.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using ::testing::HasSubstr;

using Activations = std::vector<std::vector<float>>;  // by hook, [rows * seq * width]

double apart(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0.0, most = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(a[i])));
    most = std::max(most, std::abs(static_cast<double>(a[i]) - b[i]));
  }
  return most / largest;
}

/// Texts one after the other in rows, told apart by segments.
TokenRows packed_rows(int64_t rows, int64_t seq, const std::vector<std::vector<int32_t>>& texts) {
  TokenRows batch(rows, seq);
  int64_t row = 0, column = 0;
  for (size_t t = 0; t < texts.size(); ++t) {
    const auto length = static_cast<int64_t>(texts[t].size());
    if (column + length > seq) ++row, column = 0;
    for (int64_t i = 0; i < length; ++i, ++column) {
      const auto at = static_cast<size_t>(row * seq + column);
      batch.ids[at] = texts[t][static_cast<size_t>(i)];
      batch.positions[at] = static_cast<int32_t>(i);
      batch.segments[at] = static_cast<int32_t>(t);
    }
  }
  return batch;
}

std::vector<std::vector<int32_t>> random_texts(const std::vector<size_t>& lengths, int64_t vocab) {
  std::mt19937 random(5);
  std::vector<std::vector<int32_t>> texts;
  for (size_t length : lengths) {
    texts.emplace_back();
    for (size_t i = 0; i < length; ++i) {
      texts.back().push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(vocab)));
    }
  }
  return texts;
}

Activations read(ReaderModel& model, const TokenRows& batch) {
  model.run(batch);
  Activations all;
  for (size_t hook = 0; hook < model.hooks().size(); ++hook) {
    const float* values = model.activation(hook);
    all.emplace_back(values, values + batch.rows * batch.seq * model.width());
  }
  return all;
}

class ReaderTest : public ::testing::Test {
 protected:
  void SetUp() override { fs::remove_all(folder_); }
  void TearDown() override { fs::remove_all(folder_); }

  static models::Qwen2Config small(bool tied = true) {
    return {.vocab_size = 64,
            .hidden_size = 32,
            .num_hidden_layers = 3,
            .num_attention_heads = 4,
            .num_key_value_heads = 2,
            .intermediate_size = 48,
            .max_position_embeddings = 64,
            .initializer_range = 0.3,
            .tie_word_embeddings = tied};
  }
  fs::path qwen2(DType dtype, bool tied = true, const std::string& name = "qwen2") const {
    init_qwen2(folder_ / name, small(tied), 3, {.dtype = dtype});
    return folder_ / name;
  }
  fs::path bert() const {
    models::BertConfig config;
    config.vocab_size = 60;
    config.hidden_size = 32;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 2;
    config.intermediate_size = 48;
    config.max_position_embeddings = 40;
    models::BertForMaskedLm model(config);
    nn::for_each_param(model,
                       [](std::string_view, nn::Param& p) { p.init = nn::Init::normal(0.3); });
    nn::materialize(model, 4);
    save_bert(folder_ / "bert", config, nn::values_of(model));
    return folder_ / "bert";
  }
  fs::path byte_lm() const {
    const models::ByteLmConfig config{
        .width = 32, .heads = 2, .ffn = 48, .layers = 2, .seq_len = 40};
    models::ByteLm model(config);
    nn::for_each_param(model,
                       [](std::string_view, nn::Param& p) { p.init = nn::Init::normal(0.3); });
    nn::materialize(model, 4);
    train::Checkpoint checkpoint;
    checkpoint.config = train::config_section(config);
    checkpoint.parameters = nn::values_of(model);
    save_checkpoint(folder_ / "run", checkpoint);
    return folder_ / "run";
  }

  fs::path folder_ = fs::path(::testing::TempDir()) / fmt::format("espalier-reader-{}", ::getpid());
  const CompileOptions options_{.threads = 2};
};

TEST_F(ReaderTest, OneSetOfWeightsServesAllShapes) {
  const auto model = open_reader_model(qwen2(DType::bf16), options_);
  model->select({"*"});
  const auto texts = random_texts({8}, model->vocab_size());
  const Activations first = read(*model, packed_rows(1, 8, texts));
  const int64_t packed = model->packed_bytes();
  EXPECT_GT(packed, 0);
  const Activations wide = read(*model, packed_rows(3, 20, texts));
  EXPECT_EQ(model->compiles(), 2);
  EXPECT_EQ(model->packed_bytes(), packed);
  for (size_t hook = 0; hook < first.size(); ++hook) {
    const std::vector<float> same(wide[hook].begin(),
                                  wide[hook].begin() + static_cast<long>(first[hook].size()));
    EXPECT_LE(apart(first[hook], same), 1e-5) << model->hooks()[hook];
  }
  // The first shape again, after the other had its turn.
  EXPECT_EQ(read(*model, packed_rows(1, 8, texts)), first);
  EXPECT_EQ(model->compiles(), 2);
}

TEST_F(ReaderTest, NoMoreIsLoadedThanTheLastHookNeeds) {
  const auto model = open_reader_model(qwen2(DType::bf16, false), options_);
  const auto parameters = [&](const std::string& glob) {
    model->select({glob});
    return model->parameters();
  };
  const int64_t embedding = 64 * 32, norm = 32, qkv = 64 * 32 + 64, mlp = 3 * 32 * 48;
  const int64_t attention = norm + qkv + 32 * 32;
  EXPECT_EQ(parameters("embed"), embedding);
  EXPECT_EQ(parameters("attn_out.0"), embedding + attention);
  EXPECT_EQ(parameters("mlp_out.1"), embedding + 2 * (attention + norm + mlp));
  // Neither the head nor what follows.
  EXPECT_EQ(parameters("final_norm"), embedding + 3 * (attention + norm + mlp) + norm);
  EXPECT_THAT(error_of([&] { model->select({"resid_past.*"}); }), HasSubstr("resid_p"));
}

TEST_F(ReaderTest, WorkEndsWithTheLastHookToo) {
  const auto model = open_reader_model(qwen2(DType::bf16), options_);
  const auto flops = [&](const std::string& glob) {
    model->select({glob});
    return model->flops(3, 16);
  };
  const double tokens = 3 * 16, weights = 64 * 32 + 32 * 32, mlp = 3 * 32 * 48;
  const double layer = tokens * (2.0 * (weights + mlp) + 2.0 * 16 * 32);
  EXPECT_DOUBLE_EQ(flops("resid_post.2"), 3 * layer);
  EXPECT_DOUBLE_EQ(flops("resid_post.0"), layer);
  EXPECT_DOUBLE_EQ(flops("resid_mid.0"), layer - tokens * 2.0 * mlp);
}

TEST_F(ReaderTest, NarrowWeightsGiveWhatTheirValuesInF32Give) {
  const fs::path narrow = qwen2(DType::bf16), half = qwen2(DType::f16, true, "half");
  for (const fs::path& folder : {narrow, half}) {
    models::Qwen2Folder loaded = models::load_qwen2(folder);
    std::map<std::string, HostTensor> wide;
    for (const auto& [path, values] : loaded.weights.tensors) {
      HostTensor copy(DType::f32, values.shape());
      convert_values(values, 0, copy);
      wide.emplace(path, copy);
    }
    save_qwen2(folder_ / "wide", loaded.config, wide);
    for (const DType compute : {DType::f32, DType::bf16, DType::f16}) {
      CompileOptions options = options_;
      options.compute_dtype = compute;
      const auto a = open_reader_model(folder, options);
      const auto b = open_reader_model(folder_ / "wide", options);
      a->select({"*"});
      b->select({"*"});
      const TokenRows batch = packed_rows(2, 24, random_texts({11, 9, 20}, 64));
      const Activations x = read(*a, batch), y = read(*b, batch);
      // Products add in the same order; a type that holds the weights exactly changes no bit.
      for (size_t hook = 0; hook < x.size(); ++hook) {
        EXPECT_LE(apart(x[hook], y[hook]), compute == DType::f32 ? 1e-6 : 2e-3)
            << folder << " " << name(compute) << " " << a->hooks()[hook];
      }
    }
  }
}

// What is laid out and stored narrow agrees with every op in double.
TEST_F(ReaderTest, AgreesWithTheInterpreter) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const fs::path folder = qwen2(dtype, true, std::string(name(dtype)));
    CompileOptions exact = options_;
    exact.backend = "interp";
    const auto a = open_reader_model(folder, options_);
    const auto b = open_reader_model(folder, exact);
    a->select({"*"});
    b->select({"*"});
    const TokenRows batch = packed_rows(2, 12, random_texts({7, 5, 10}, 64));
    const Activations x = read(*a, batch), y = read(*b, batch);
    for (size_t hook = 0; hook < x.size(); ++hook) {
      EXPECT_LE(apart(x[hook], y[hook]), 1e-5) << name(dtype) << " " << a->hooks()[hook];
    }
  }
}

// Every family: a text among others in its row, or alone.
TEST_F(ReaderTest, PackedTextsAreAsIfAlone) {
  const std::vector<fs::path> folders{qwen2(DType::f32), bert(), byte_lm()};
  for (const fs::path& folder : folders) {
    const auto model = open_reader_model(folder, options_);
    model->select({"*"});
    EXPECT_GE(model->hooks().size(), static_cast<size_t>(1 + 5 * model->layers())) << folder;
    const std::vector<size_t> lengths{13, 7, 20, 1, 30, 6};
    const auto texts = random_texts(lengths, model->vocab_size());
    const Activations together = read(*model, packed_rows(2, 40, texts));
    int64_t row = 0, column = 0;
    for (size_t t = 0; t < texts.size(); ++t) {
      const auto length = static_cast<int64_t>(lengths[t]);
      if (column + length > 40) ++row, column = 0;
      const Activations alone = read(*model, packed_rows(1, length, {texts[t]}));
      for (size_t hook = 0; hook < alone.size(); ++hook) {
        const float* at = together[hook].data() + (row * 40 + column) * model->width();
        EXPECT_LE(apart(alone[hook], {at, at + length * model->width()}), 1e-5)
            << folder << " text " << t << " " << model->hooks()[hook];
      }
      column += length;
    }
  }
}

TEST_F(ReaderTest, FamiliesSayWhatTheyAre) {
  const auto encoder = open_reader_model(bert(), options_);
  EXPECT_EQ(encoder->longest(), 40);
  EXPECT_FALSE(encoder->reads_bytes());
  const auto bytes = open_reader_model(byte_lm(), options_);
  EXPECT_EQ(bytes->vocab_size(), 256);
  EXPECT_TRUE(bytes->reads_bytes());
  // A checkpoint of the run is the same model.
  const auto checkpoint = open_reader_model(folder_ / "run" / "step-00000000", options_);
  EXPECT_EQ(checkpoint->width(), 32);

  fs::create_directories(folder_ / "other");
  std::ofstream(folder_ / "other" / "config.json") << R"({"model_type": "mamba"})";
  EXPECT_THAT(
      error_of([&] { open_reader_model(folder_ / "other", options_); }),
      HasSubstr("activations of model_type \"mamba\" cannot be read; there are qwen2, bert, "
                "byte-lm"));
  std::ofstream(folder_ / "other" / "config.json") << "{}";
  EXPECT_THAT(error_of([&] { open_reader_model(folder_ / "other", options_); }),
              HasSubstr("activations of a model without model_type cannot be read"));
  // A run of a model that no family reads.
  train::Checkpoint checkpoint_of_other;
  checkpoint_of_other.config = {{"model_type", std::string("bigram")}};
  checkpoint_of_other.parameters = {{"table", HostTensor(DType::f32, {2, 2})}};
  save_checkpoint(folder_ / "bigram", checkpoint_of_other);
  EXPECT_THAT(error_of([&] { open_reader_model(folder_ / "bigram", options_); }),
              HasSubstr("activations of model_type \"bigram\" cannot be read"));
}

struct Table : nn::Module<Table> {
  nn::Embedding table = nn::Embedding(8, 6, nn::Init::normal(1.0));
  static constexpr auto fields = nn::fields(&Table::table, "table");
};

// A shard has one width: what is wider or narrower would be cut into rows that are none.
TEST_F(ReaderTest, AHookOfAnotherWidthIsRefused) {
  for (const int64_t width : {5, 6, 7}) {
    ReaderFamily family{.layers = 1, .width = width, .longest = 8, .vocab_size = 8};
    Table model;
    nn::materialize(model, 1);
    io::LoadedWeights weights;
    weights.tensors = nn::values_of(model);
    set_model(family, Table(), std::move(weights),
              [](const Table& traced, const ReaderInputs& in, const nn::Context& context) {
                context.hook("resid_post.0", traced.table(in.ids));
              });
    const auto reader = make_reader_model(std::move(family), options_);
    const std::string error = error_of([&] { reader->select({"*"}); });
    if (width == 6) {
      EXPECT_EQ(error, error_of([] {}));
    } else {
      EXPECT_THAT(error, HasSubstr(fmt::format("the hook resid_post.0 is [1,2,6] for one row of 2 "
                                               "tokens; activations of this model must be [1,2,{}]",
                                               width)));
    }
  }
}

/// Bytes of a file's pages in this process.
int64_t resident_bytes_of(const std::string& file) {
  std::ifstream maps("/proc/self/smaps");
  int64_t sum = 0;
  bool mine = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') < line.find(' ')) mine = line.ends_with(file);
    if (mine && line.starts_with("Rss:")) sum += std::stoll(line.substr(4)) * 1024;
  }
  return sum;
}

TEST_F(ReaderTest, PagesOfWhatHasBeenLaidOutAreGivenBack) {
  models::Qwen2Config config = small();
  config.hidden_size = 256;
  config.intermediate_size = 1024;
  config.vocab_size = 4096;
  init_qwen2(folder_ / "large", config, 3, {.dtype = DType::bf16});
  const auto model = open_reader_model(folder_ / "large", options_);
  model->select({"resid_post.2"});
  read(*model, packed_rows(1, 16, random_texts({16}, config.vocab_size)));
  // 3.3 MB of weights of the layers are packed; the table's 2 MB are read where tokens are.
  const int64_t layers = 2 * (model->parameters() - 4096 * 256);
  EXPECT_GE(model->packed_bytes(), layers * 95 / 100);
  EXPECT_LE(model->packed_bytes(), layers * 125 / 100);
  const int64_t resident = resident_bytes_of("/large/model.safetensors");
  EXPECT_GT(resident, 0);
  EXPECT_LE(resident, 16 * (int64_t{64} << 10) + (int64_t{1} << 20));
}

class PackCacheTest : public ReaderTest {
 protected:
  Activations read_cached(const fs::path& folder) const {
    const auto model = open_reader_model(folder, options_, folder_ / "packed");
    model->select({"resid_post.*"});
    return read(*model, packed_rows(1, 16, random_texts({16}, 64)));
  }
  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(folder_ / "packed")) {
      if (entry.path().extension() == ".safetensors") found.push_back(entry.path());
    }
    return found;
  }
};

TEST_F(PackCacheTest, KeepsWhatWasLaidOut) {
  const fs::path folder = qwen2(DType::bf16);
  const Activations fresh = read_cached(folder);
  ASSERT_EQ(files().size(), 1u);
  const auto written = fs::last_write_time(files()[0]);
  EXPECT_EQ(read_cached(folder), fresh);
  EXPECT_EQ(fs::last_write_time(files()[0]), written);
  // The weights come from there: other bytes, other results.
  std::fstream file(files()[0], std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-4096, std::ios::end);
  file << std::string(1024, '\x3f');
  file.close();
  EXPECT_NE(read_cached(folder), fresh);
  // A file that is none is made again.
  std::ofstream(files()[0]) << "short";
  EXPECT_EQ(read_cached(folder), fresh);
  EXPECT_EQ(read_cached(folder), fresh);
}

TEST_F(PackCacheTest, AnotherModelHasAnotherFile) {
  const Activations first = read_cached(qwen2(DType::bf16));
  init_qwen2(folder_ / "qwen2", small(), 4, {.dtype = DType::bf16});
  EXPECT_NE(read_cached(folder_ / "qwen2"), first);
  EXPECT_EQ(files().size(), 2u);
}

}  // namespace
}  // namespace espalier::extract
