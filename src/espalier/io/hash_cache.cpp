// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/hash_cache.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <ctime>
#include <optional>

#include "espalier/base/error.h"
#include "espalier/io/atomic.h"
#include "espalier/io/sha256.h"

namespace espalier::io {
namespace {

namespace fs = std::filesystem;

/// Smaller files are read faster than the cache.
constexpr int64_t kSmallBytes = int64_t{1} << 20;
/// Times of files may be as coarse as this: within it, a change does not show.
constexpr time_t kCoarseSeconds = 2;
constexpr int64_t kEntryLimit = 4096;
constexpr size_t kDigits = 64;

struct Identity {
  std::string text;
  int64_t bytes = 0;
  time_t changed = 0;
};

std::optional<Identity> identity_of(const fs::path& file) {
  struct stat s {};
  if (::stat(file.c_str(), &s) != 0) return std::nullopt;
  return Identity{fmt::format("{} {} {} {} {}.{:09} {}.{:09}\n", fs::absolute(file).string(),
                              s.st_dev, s.st_ino, s.st_size, s.st_mtim.tv_sec, s.st_mtim.tv_nsec,
                              s.st_ctim.tv_sec, s.st_ctim.tv_nsec),
                  s.st_size, std::max(s.st_mtim.tv_sec, s.st_ctim.tv_sec)};
}

/// Empty when it is not there or not readable: the sum is then computed again.
std::string text_of(const fs::path& entry) {
  try {
    return read_text(entry, kEntryLimit, {});
  } catch (const Error&) {
    return {};
  }
}

std::string sum_through(const fs::path& folder, const fs::path& file, const Identity& before) {
  const fs::path entry = folder / (sha256_hex(before.text) + ".sha256");
  std::string sum = text_of(entry);
  if (sum.size() == kDigits) return sum;
  const time_t begin = std::time(nullptr);
  sum = sha256_file(file);
  const std::optional<Identity> after = identity_of(file);
  if (after && after->text == before.text && after->changed + kCoarseSeconds < begin) {
    try {
      create_folders(folder, {});
      write_file_atomically(entry, sum, {});
    } catch (const Error&) {
      // The next start computes it again.
    }
  }
  return sum;
}

}  // namespace

std::string HashCache::sha256(const fs::path& file) const {
  const std::optional<Identity> before = identity_of(file);
  if (folder_.empty() || !before || before->bytes < kSmallBytes) return sha256_file(file);
  return sum_through(folder_, file, *before);
}

}  // namespace espalier::io
