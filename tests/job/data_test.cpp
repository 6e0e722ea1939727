// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/train/corpus.h"
#include "espalier/train/shuffle.h"
#include "tests/support/errors.h"

namespace espalier::train {
namespace {

using test::message;

namespace fs = std::filesystem;

std::vector<uint8_t> ramp(size_t size) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(mix64(i));
  return bytes;
}

fs::path write_file(const std::string& name, size_t size) {
  const fs::path path = fs::path(::testing::TempDir()) / name;
  std::ofstream file(path, std::ios::binary);
  const auto bytes = ramp(size);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(size));
  return path;
}

TEST(Shuffle, IsAPermutationOfEverySize) {
  for (const uint64_t size : {1, 2, 3, 4, 5, 7, 16, 17, 64, 65, 1000, 4097}) {
    const Shuffle shuffle({123, 456}, size);
    std::vector<bool> seen(size);
    for (uint64_t i = 0; i < size; ++i) {
      const uint64_t at = shuffle(i);
      ASSERT_LT(at, size);
      ASSERT_FALSE(seen[at]) << size;
      seen[at] = true;
    }
  }
}

TEST(Shuffle, KeysGiveOrdersWithoutPattern) {
  constexpr uint64_t kSize = 10000;
  const Shuffle a({1, 0}, kSize), b({2, 0}, kSize);
  int same = 0, neighbours = 0;
  for (uint64_t i = 0; i < kSize; ++i) same += a(i) == b(i);
  for (uint64_t i = 1; i < kSize; ++i) neighbours += a(i) == a(i - 1) + 1;
  // Both counts are Poisson with mean 1 for random orders.
  EXPECT_LE(same, 8);
  EXPECT_LE(neighbours, 8);
  // Each tenth of the order holds about a tenth of the lower half: 500 +- 5 sigma (sigma 15).
  for (uint64_t part = 0; part < 10; ++part) {
    int low = 0;
    for (uint64_t i = 0; i < kSize / 10; ++i) low += a(part * kSize / 10 + i) < kSize / 2;
    EXPECT_NEAR(low, 500, 79) << part;
  }
}

TEST(Sequences, AnEpochCoversTheBytesOnceFromItsOffset) {
  const auto bytes = ramp(16 * 40 + 15);
  const ByteSequences sequences(bytes, 16, 7);
  ASSERT_EQ(sequences.sequences_per_epoch(), 40);
  std::set<int64_t> offsets;
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    std::set<int64_t> starts;
    for (int64_t i = 0; i < 40; ++i) {
      const auto sequence = sequences.sequence(epoch * 40 + i);
      ASSERT_EQ(sequence.size(), 16u);
      starts.insert(sequence.data() - bytes.data());
    }
    ASSERT_EQ(starts.size(), 40u);
    const int64_t offset = *starts.begin();
    EXPECT_LT(offset, 16);
    for (const int64_t start : starts) EXPECT_EQ((start - offset) % 16, 0);
    offsets.insert(offset);
  }
  EXPECT_GT(offsets.size(), 1u) << "every epoch starts at the same offset";
}

TEST(Sequences, DependOnSeedAndNumberOnly) {
  const auto bytes = ramp(5000);
  const ByteSequences a(bytes, 32, 1), again(bytes, 32, 1), other(bytes, 32, 2);
  std::vector<uint8_t> whole(6 * 32), part(2 * 32);
  a.fill(300, 6, whole);
  again.fill(302, 2, part);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 2 * 32));
  int differ = 0;
  for (int64_t i = 0; i < 50; ++i) differ += a.sequence(i).data() != other.sequence(i).data();
  EXPECT_GT(differ, 40);
  a.prefetch(0, 10);
}

TEST(Data, OpensFilesAndTheCorpus) {
  const fs::path path = write_file("data_test.bin", 1000);
  const ByteData data = ByteData::open(path.string());
  EXPECT_EQ(data.bytes().size(), 1000u);
  EXPECT_EQ(data.bytes()[999], ramp(1000)[999]);
  EXPECT_EQ(ByteData::open("builtin").bytes().data(), builtin_corpus().data());
  EXPECT_GT(builtin_corpus().size(), 100000u);
}

TEST(Data, FingerprintsTellFilesApart) {
  const fs::path path = write_file("fingerprint.bin", 300000);
  const uint32_t first = ByteData::open(path.string()).fingerprint();
  EXPECT_EQ(first, ByteData::open(path.string()).fingerprint());
  {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(299999);
    file.put('x');
  }
  EXPECT_NE(first, ByteData::open(path.string()).fingerprint());
}

TEST(Data, SplitsTheEndOff) {
  const fs::path path = write_file("split.bin", 10000);
  const ByteData data = ByteData::open(path.string());
  const DataSplit parts = split(data, 0.1, 16);
  EXPECT_EQ(parts.train.size(), 9000u);
  EXPECT_EQ(parts.held_out.data(), parts.train.data() + 9000);
  EXPECT_EQ(split(data, 0.0, 16).train.size(), 10000u);
  EXPECT_TRUE(split(data, 0.0, 16).held_out.empty());
  // Never less than two sequences.
  EXPECT_EQ(split(data, 0.001, 100).held_out.size(), 200u);
}

TEST(DataErrors, MissingEmptyShortAndFolder) {
  const std::string missing = message(ErrorKind::user, [] { ByteData::open("/no/such/file.bin"); });
  EXPECT_NE(missing.find("/no/such/file.bin"), std::string::npos) << missing;
  EXPECT_NE(missing.find("No such file"), std::string::npos) << missing;
  EXPECT_NE(missing.find("--data"), std::string::npos) << missing;

  const fs::path empty = write_file("empty.bin", 0);
  const std::string nothing = message(ErrorKind::data, [&] { ByteData::open(empty.string()); });
  EXPECT_NE(nothing.find("the file is empty"), std::string::npos) << nothing;

  const std::string folder = message(ErrorKind::user, [] { ByteData::open(::testing::TempDir()); });
  EXPECT_NE(folder.find("folder"), std::string::npos) << folder;

  const fs::path small = write_file("short.bin", 100);
  const ByteData data = ByteData::open(small.string());
  const std::string few = message(ErrorKind::data, [&] { split(data, 0.0, 64); });
  EXPECT_NE(few.find("100 bytes are too few for seq_len = 64"), std::string::npos) << few;
  EXPECT_NE(few.find("128"), std::string::npos) << few;
  const std::string held = message(ErrorKind::data, [&] { split(data, 0.1, 30); });
  EXPECT_NE(held.find("with held-out data"), std::string::npos) << held;
  message(ErrorKind::user, [&] { split(data, 1.5, 4); });
}

}  // namespace
}  // namespace espalier::train
