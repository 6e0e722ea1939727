// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/data.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "espalier/base/crc32c.h"
#include "espalier/base/error.h"
#include "espalier/base/rng.h"
#include "espalier/io/file.h"
#include "espalier/train/corpus.h"
#include "espalier/train/shuffle.h"

namespace espalier::train {
namespace {

// Streams of the run's seed that belong to the data.
constexpr uint64_t kOffsetStream = 0x6461746100000001ull;
constexpr uint64_t kOrderStream = 0x6461746100000002ull;

}  // namespace

ByteData ByteData::open(const std::string& source) {
  ByteData data;
  data.source_ = source;
  if (source == "builtin") {
    data.bytes_ = builtin_corpus();
    return data;
  }
  std::error_code ignored;
  ESPALIER_CHECK(!std::filesystem::is_directory(source, ignored), ErrorKind::user, "data",
                 "the data is a folder, at {}; give one file of bytes", source);
  data.file_ = io::MappedFile::open(
      source, {.stage = "data", .next_step = "give a file to --data, or `--data builtin`"});
  const auto bytes = data.file_->bytes();
  ESPALIER_CHECK(!bytes.empty(), ErrorKind::data, "data", "the file is empty, at {}", source);
  data.bytes_ = {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
  return data;
}

uint32_t ByteData::fingerprint() const {
  constexpr size_t kPiece = 64 << 10;
  const uint64_t size = bytes_.size();
  std::array<std::byte, sizeof(size)> size_bytes;
  std::memcpy(size_bytes.data(), &size, sizeof(size));
  uint32_t crc = crc32c(size_bytes);
  const size_t piece = std::min(kPiece, bytes_.size());
  for (const size_t at : {size_t{0}, (bytes_.size() - piece) / 2, bytes_.size() - piece}) {
    crc = crc32c(std::as_bytes(bytes_.subspan(at, piece)), crc);
  }
  return crc;
}

DataSplit split(const ByteData& data, double holdout, int64_t seq_len) {
  ESPALIER_CHECK(holdout >= 0.0 && holdout < 1.0, ErrorKind::user, "data",
                 "holdout = {} is outside [0, 1)", holdout);
  const std::span<const uint8_t> bytes = data.bytes();
  const auto size = static_cast<int64_t>(bytes.size());
  const int64_t least = 2 * seq_len;
  int64_t held = 0;
  if (holdout > 0.0) {
    held = std::max(static_cast<int64_t>(std::llround(holdout * static_cast<double>(size))), least);
  }
  ESPALIER_CHECK(
      size >= held + least, ErrorKind::data, "data",
      "{} bytes are too few for seq_len = {}: {} needs at least {}, at {}; use a shorter "
      "--seq-len or more data",
      size, seq_len, held > 0 ? "training with held-out data" : "training", held + least,
      data.source());
  const auto cut = static_cast<size_t>(size - held);
  return {bytes.first(cut), bytes.subspan(cut)};
}

ByteSequences::ByteSequences(std::span<const uint8_t> bytes, int64_t seq_len, uint64_t seed)
    : bytes_(bytes), seq_len_(seq_len), seed_(seed) {
  ESPALIER_CHECK(seq_len > 0, ErrorKind::user, "data", "seq_len = {} must be positive", seq_len);
  // Whatever the offset in [0, seq_len), this many sequences fit.
  per_epoch_ = (static_cast<int64_t>(bytes.size()) - (seq_len - 1)) / seq_len;
  ESPALIER_CHECK(
      per_epoch_ > 0, ErrorKind::data, "data",
      "{} bytes hold no sequence of seq_len = {} at every offset: at least {} are needed",
      bytes.size(), seq_len, 2 * seq_len - 1);
}

std::span<const uint8_t> ByteSequences::sequence(int64_t index) const {
  const auto epoch = static_cast<uint64_t>(index / per_epoch_);
  const auto within = static_cast<uint64_t>(index % per_epoch_);
  const uint64_t offset =
      rng_bits(rng_key(seed_, epoch, kOffsetStream), 0) % static_cast<uint64_t>(seq_len_);
  const Shuffle order(rng_key(seed_, epoch, kOrderStream), static_cast<uint64_t>(per_epoch_));
  const uint64_t start = offset + order(within) * static_cast<uint64_t>(seq_len_);
  return bytes_.subspan(start, static_cast<size_t>(seq_len_));
}

void ByteSequences::fill(int64_t first, int64_t count, std::span<uint8_t> out) const {
  ESPALIER_ASSERT(static_cast<int64_t>(out.size()) == count * seq_len_);
  for (int64_t i = 0; i < count; ++i) {
    const auto from = sequence(first + i);
    std::copy(from.begin(), from.end(), out.begin() + i * seq_len_);
  }
}

void ByteSequences::prefetch(int64_t first, int64_t count) const {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  for (int64_t i = 0; i < count; ++i) {
    const auto span = sequence(first + i);
    const auto begin = reinterpret_cast<uintptr_t>(span.data()) / page * page;
    const auto end = reinterpret_cast<uintptr_t>(span.data() + span.size());
    // A hint: where it fails, the pages are read when they are needed.
    (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
  }
}

}  // namespace espalier::train
