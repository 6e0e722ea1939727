// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/hash_cache.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "espalier/io/sha256.h"
#include "tests/io/folder.h"

namespace espalier::io {
namespace {

namespace fs = std::filesystem;

void write(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

int64_t files_in(const fs::path& folder) {
  if (!fs::exists(folder)) return 0;
  return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
}

/// Times of files are coarse: what changed a moment ago is not remembered.
void let_it_age() { std::this_thread::sleep_for(std::chrono::milliseconds(3100)); }

TEST(HashCache, RemembersAnAgedFileUntilItChanges) {
  const TestFolder folder;
  const fs::path file = folder / "weights", memory = folder / "memory";
  const HashCache cache(memory);
  const std::string text(size_t{2} << 20, 'a');
  const auto begin = std::chrono::steady_clock::now();
  write(file, text);
  EXPECT_EQ(cache.sha256(file), sha256_hex(text));
  if (std::chrono::steady_clock::now() - begin < std::chrono::seconds(1)) {
    EXPECT_EQ(files_in(memory), 0) << "a file changed a moment ago was remembered";
  }

  let_it_age();
  EXPECT_EQ(cache.sha256(file), sha256_hex(text));
  ASSERT_EQ(files_in(memory), 1);
  // A sum that only the cache can have given shows where the answer comes from.
  const fs::path entry = fs::directory_iterator(memory)->path();
  write(entry, std::string(64, '0'));
  EXPECT_EQ(cache.sha256(file), std::string(64, '0'));
  // One that is none is not believed.
  write(entry, "half a sum");
  EXPECT_EQ(cache.sha256(file), sha256_hex(text));

  // Of the same size, with the time of its contents set back.
  const auto time = fs::last_write_time(file);
  const std::string other(size_t{2} << 20, 'b');
  write(file, other);
  fs::last_write_time(file, time);
  EXPECT_EQ(cache.sha256(file), sha256_hex(other));
}

TEST(HashCache, DoesWithoutAFolderAndWithoutSmallFiles) {
  const TestFolder folder;
  const fs::path file = folder / "small", large = folder / "large";
  write(file, "abc");
  write(large, std::string(size_t{2} << 20, 'c'));
  const HashCache cache(folder / "memory");
  let_it_age();
  EXPECT_EQ(cache.sha256(file), sha256_hex("abc"));
  EXPECT_EQ(files_in(folder / "memory"), 0);
  EXPECT_EQ(HashCache("").sha256(large), sha256_hex(std::string(size_t{2} << 20, 'c')));
  // A folder that cannot be made is no error.
  EXPECT_EQ(HashCache(file / "memory").sha256(large),
            sha256_hex(std::string(size_t{2} << 20, 'c')));
}

}  // namespace
}  // namespace espalier::io
