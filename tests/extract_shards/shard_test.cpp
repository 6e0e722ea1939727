// SPDX-License-Identifier: Apache-2.0
// Shards as they are written.
#include "espalier/extract/shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <thread>

#include "espalier/io/safetensors.h"
#include "espalier/io/sha256.h"
#include "tests/extract_shards/made_run.h"
#include "tests/io/folder.h"
#include "tests/support/errors.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::message;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

MadeRunOptions compressed(DType dtype, int threads = 1) {
  // Long enough for several frames a shard.
  return {.longest = 150,
          .dtype = dtype,
          .shard = {.compression = Compression::zstd, .threads = threads}};
}

std::vector<std::byte> random_bytes(size_t count) {
  std::mt19937 random(2);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() % 7);
  return bytes;
}

TEST(Frames, AnySizeComesBackAndDamageIsFound) {
  FrameEncoder encoder;
  FrameDecoder decoder;
  for (const int64_t bytes : {2, 4}) {
    for (const size_t count : {size_t{1}, size_t{33}, size_t{70000}}) {
      const std::vector<std::byte> values = random_bytes(count * static_cast<size_t>(bytes));
      std::vector<std::byte> frame = encoder.encode(values, bytes);
      EXPECT_TRUE(frame == FrameEncoder().encode(values, bytes));
      std::vector<std::byte> back(values.size());
      decoder.decode(frame, bytes, back, "here");
      EXPECT_TRUE(back == values);
      frame[frame.size() / 2] ^= std::byte{0x10};
      EXPECT_THAT(message(ErrorKind::data, [&] { decoder.decode(frame, bytes, back, "here"); }),
                  HasSubstr("here is damaged"));
      frame[frame.size() / 2] ^= std::byte{0x10};
      back.resize(back.size() + static_cast<size_t>(bytes));
      EXPECT_THAT(message(ErrorKind::data, [&] { decoder.decode(frame, bytes, back, "here"); }),
                  HasSubstr(fmt::format("here holds {} bytes where", values.size())));
    }
  }
  EXPECT_THAT(error_of([] { parse_compression("zsdt"); }),
              HasSubstr("\"zsdt\" is none of none, zstd; nearest: zstd"));
  EXPECT_THAT(describe(Compression::zstd), HasSubstr("level 1"));
}

TEST(Shard, HoldsRoundedValuesAndTheirTables) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const TestFolder folder;
    MadeRun run({.dtype = dtype});
    const auto store = open_folder_store(folder.path());
    EXPECT_TRUE(run.shard(1, {})->commit(*store));
    const auto file = io::SafetensorsFile::open(folder / shard_key(1));
    const int64_t first = run.options().shard_samples, begin = run.first_token(first);
    const int64_t tokens = run.first_token(2 * first) - begin;
    const HostTensor values = file.tensor("resid_post.1", dtype, {tokens, 24});
    for (int64_t i = 0; i < values.numel(); ++i) {
      ASSERT_EQ(values.get(i), round_to(dtype, run.value(1, begin + i / 24, i % 24)));
    }
    const HostTensor ids = file.tensor("token_ids", DType::i32, {tokens});
    const HostTensor positions = file.tensor("position", DType::i32, {tokens});
    const HostTensor samples = file.tensor("sample_index", DType::i64, {tokens});
    for (int64_t s = first; s < 2 * first; ++s) {
      const Sample& sample = run.samples()[static_cast<size_t>(s)];
      for (int64_t i = 0; i < std::ssize(sample.tokens); ++i) {
        const int64_t at = run.first_token(s) - begin + i;
        ASSERT_EQ(ids.get(at), sample.tokens[static_cast<size_t>(i)]);
        ASSERT_EQ(positions.get(at), i);
        ASSERT_EQ(samples.get(at), s);
      }
    }
    EXPECT_EQ(file.metadata().at("hooks"), R"(["resid_post.0","resid_post.1"])");
    EXPECT_EQ(file.metadata().at("dtype"), name(dtype));
    EXPECT_EQ(file.metadata().at("first_sample"), "7");
    EXPECT_THAT(file.metadata().at("sample_ids"), HasSubstr(R"(["task_7","task_8")"));
    EXPECT_THAT(file.metadata().at("augmentations"), HasSubstr(R"([{"turns":1},)"));
    EXPECT_THAT(file.metadata().at("lengths"),
                HasSubstr(fmt::format("[{},", run.samples()[7].tokens.size())));
    const ManifestEntry entry =
        parse_manifest_entry(store->get(manifest_key(1), 4096).value(), "entry");
    EXPECT_EQ(entry.tokens, tokens);
    EXPECT_EQ(entry.bytes, fs::file_size(folder / shard_key(1)));
    EXPECT_EQ(entry.sha256, io::sha256_file(folder / shard_key(1)));
    EXPECT_EQ(entry.raw_bytes, tokens * (2 * 24 * size_of(dtype) + 16) + 8 * 8);
    EXPECT_FALSE(run.shard(1, {})->commit(*store)) << "it was made before";
  }
}

TEST(Shard, CompressesToTheSameBytesOnAnyThreadsAndBack) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const TestFolder folder;
    const auto open = [&](const std::string& name) { return open_folder_store(folder / name); };
    MadeRun run(compressed(dtype));
    run.shard(0, {})->commit(*open("plain"));
    for (const int threads : {1, 2, 3}) {
      const auto store = open(std::to_string(threads));
      run.shard(0, compressed(dtype, threads).shard)->commit(*store);
    }
    const std::string want = contents(folder / "1" / shard_key(0));
    EXPECT_TRUE(want == contents(folder / "2" / shard_key(0)));
    EXPECT_TRUE(want == contents(folder / "3" / shard_key(0)));

    const auto plain = io::SafetensorsFile::open(folder / "plain" / shard_key(0));
    const auto file = io::SafetensorsFile::open(folder / "1" / shard_key(0));
    EXPECT_EQ(file.metadata().at("compression"), "zstd");
    EXPECT_EQ(file.metadata().at("frame_rows"), "256");
    FrameDecoder decoder;
    for (const std::string& hook : run.options().hooks) {
      const HostTensor values = plain.tensor(hook), begins = file.tensor(hook + ".frames");
      const auto frames = file.bytes(file.at(hook));
      ASSERT_EQ(begins.numel(), frames_of(values.shape()[0]) + 1);
      ASSERT_GT(begins.numel(), 2);
      const std::span<const std::byte> all(static_cast<const std::byte*>(values.data()),
                                           static_cast<size_t>(values.bytes()));
      const auto frame_bytes = static_cast<size_t>(kFrameRows * 24 * size_of(dtype));
      for (size_t i = 0; i + 1 < static_cast<size_t>(begins.numel()); ++i) {
        const auto begin = static_cast<size_t>(begins.as<int64_t>()[i]);
        const auto end = static_cast<size_t>(begins.as<int64_t>()[i + 1]);
        const auto part =
            all.subspan(i * frame_bytes, std::min(frame_bytes, all.size() - i * frame_bytes));
        std::vector<std::byte> back(part.size());
        decoder.decode(frames.subspan(begin, end - begin), size_of(dtype), back, hook);
        EXPECT_TRUE(std::equal(back.begin(), back.end(), part.begin())) << hook << " " << i;
      }
    }
    const ManifestEntry entry =
        parse_manifest_entry(open("1")->get(manifest_key(0), 4096).value(), "entry");
    EXPECT_LT(entry.bytes, entry.raw_bytes);
  }
}

TEST(Shard, TakesSamplesFromSeveralThreads) {
  const TestFolder folder;
  MadeRun run({.samples = 7});
  run.shard(0, {})->commit(*open_folder_store(folder / "one"));
  Shard shard(0, 0, run.samples(), run.options().hooks, 24, DType::bf16);
  {
    std::vector<std::jthread> threads;
    for (size_t hook = 0; hook < 2; ++hook) {
      threads.emplace_back([&, hook] {
        for (int64_t s = 0; s < 7; ++s) shard.put(hook, s, &run.value(hook, run.first_token(s), 0));
      });
    }
  }
  shard.commit(*open_folder_store(folder / "two"));
  EXPECT_TRUE(contents(folder / "one" / shard_key(0)) == contents(folder / "two" / shard_key(0)));
}

TEST(Shard, RefusesNanAndOverflowNamingTheFirst) {
  const TestFolder folder;
  const auto store = open_folder_store(folder.path());
  MadeRun run({.samples = 7});
  run.value(1, run.first_token(3), 5) = std::numeric_limits<float>::quiet_NaN();
  run.value(1, run.first_token(5), 0) = std::numeric_limits<float>::infinity();
  EXPECT_THAT(
      message(ErrorKind::data, [&] { run.shard(0, {})->commit(*store); }),
      AllOf(HasSubstr("[extract] resid_post.1 of sample task_3 (number 3 of the run) has 1 values"),
            HasSubstr("the first at its token 0")));
  EXPECT_TRUE(store->list("").empty()) << "nothing is written";
  EXPECT_TRUE(run.shard(0, {.keep_not_finite = true})->commit(*store));

  MadeRun large({.samples = 7, .dtype = DType::f16});
  large.value(0, large.first_token(1), 2) = 70000.0f;
  EXPECT_THAT(error_of([&] { large.shard(0, {})->check_finite(); }),
              HasSubstr("resid_post.0 of sample task_1 (number 1 of the run) has 1 values that are "
                        "NaN or beyond f16"));
}

TEST(Shard, IsCommittedOnlyWhole) {
  const TestFolder folder;
  MadeRun run({.samples = 7});
  Shard shard(0, 0, run.samples(), run.options().hooks, 24, DType::bf16);
  shard.put(0, 0, &run.value(0, 0, 0));
  EXPECT_THAT(
      message(ErrorKind::internal, [&] { shard.commit(*open_folder_store(folder.path())); }),
      HasSubstr("put_"));
}

TEST(Shard, ThatWasDamagedIsMadeAgain) {
  const TestFolder folder;
  const auto store = open_folder_store(folder.path());
  MadeRun run({});
  run.shard(2, {})->commit(*store);
  const std::string want = store->get(manifest_key(2), 4096).value();
  store->put(shard_key(2), "damaged");
  store->put(manifest_key(2), "damaged too");
  note_damage(*store, 2, "its checksum");
  note_damage(*store, 11, "another");
  store->put("damaged/x.json", "");
  EXPECT_EQ(damaged_shards(*store), (std::set<int64_t>{2, 11}));
  EXPECT_TRUE(run.shard(2, {})->commit(*store));
  EXPECT_FALSE(run.shard(2, {})->commit(*store));
  EXPECT_EQ(store->get(manifest_key(2), 4096), want);
  EXPECT_EQ(io::sha256_file(folder / shard_key(2)), parse_manifest_entry(want, "").sha256);
  EXPECT_EQ(damaged_shards(*store), (std::set<int64_t>{11}));
}

TEST(Manifest, EntriesComeBackAndBadOnesAreNamed) {
  const std::string sum(64, 'a');
  const ManifestEntry entry{.shard = 0,
                            .first_sample = 0,
                            .samples = 3,
                            .tokens = 5,
                            .bytes = 100,
                            .raw_bytes = 90,
                            .sha256 = sum};
  EXPECT_EQ(parse_manifest_entry(to_json(entry), "x"), entry);
  const auto refused = [&](const std::string& text) {
    return message(ErrorKind::data, [&] { parse_manifest_entry(text, "m.json"); });
  };
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = to_json(entry);
    return refused(text.replace(text.find(from), from.size(), to));
  };
  EXPECT_THAT(refused("{"), HasSubstr("m.json is no JSON object"));
  EXPECT_THAT(changed("\"samples\"", "\"sample\""), HasSubstr("m.json has no \"samples\""));
  EXPECT_THAT(changed("\"tokens\":5", "\"tokens\":0"),
              HasSubstr("m.json: \"tokens\" is 0, no whole number from 1 on"));
  EXPECT_THAT(changed("\"bytes\":100", "\"bytes\":18446744073709551615"),
              HasSubstr("\"bytes\" is"));
  EXPECT_THAT(changed("\"tokens\":5", "\"tokens\":2"),
              HasSubstr("3 samples from 0 on in 2 tokens"));
  EXPECT_THAT(changed("aaaa", "xyz"), HasSubstr("\"sha256\" is not 64 digits"));

  ManifestEntry next = entry;
  next.shard = 1;
  next.first_sample = 3;
  EXPECT_EQ(parse_manifest(to_json(entry) + to_json(next), "m").size(), 2u);
  next.first_sample = 4;
  EXPECT_THAT(
      message(ErrorKind::data, [&] { parse_manifest(to_json(entry) + to_json(next), "m.jsonl"); }),
      HasSubstr("m.jsonl line 2: shard 1 begins with sample 4 where shard 1 with sample 3"));
}

}  // namespace
}  // namespace espalier::extract
