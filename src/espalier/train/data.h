// SPDX-License-Identifier: Apache-2.0
// Bytes to train on, and the order in which a run sees them.
//
// An epoch cuts the bytes into sequences from a random offset and shuffles them. Offset and order
// are functions of (seed, epoch), so sequence number g of a run is known without its history:
// resuming needs that number only, and no choice of threads or precision changes it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace espalier::io {
class MappedFile;
}

namespace espalier::train {

/// The bytes of a file, mapped, or the embedded corpus.
class ByteData {
 public:
  /// `source`: "builtin" or the path of a file. Throws `user` when it cannot be opened, `data` when
  /// it is empty.
  static ByteData open(const std::string& source);

  std::span<const uint8_t> bytes() const { return bytes_; }
  const std::string& source() const { return source_; }
  /// CRC-32C over the size and up to 64 KiB at both ends and in the middle: tells files apart that
  /// were swapped between a run and its resumption, without reading a gigabyte.
  uint32_t fingerprint() const;

 private:
  std::string source_;
  std::span<const uint8_t> bytes_;
  std::shared_ptr<io::MappedFile> file_;
};

struct DataSplit {
  std::span<const uint8_t> train;
  std::span<const uint8_t> held_out;  // the end of the data; empty without a holdout
};

/// Keeps the last `holdout` (in [0, 1)) of the bytes apart. Both parts hold at least two sequences,
/// or a `data` error says how many bytes are missing.
DataSplit split(const ByteData& data, double holdout, int64_t seq_len);

class ByteSequences {
 public:
  /// Throws `data` when `bytes` are fewer than 2 seq_len - 1: one sequence at every offset.
  ByteSequences(std::span<const uint8_t> bytes, int64_t seq_len, uint64_t seed);

  int64_t sequences_per_epoch() const { return per_epoch_; }
  /// Sequence number `index` of the run, counted through all epochs.
  std::span<const uint8_t> sequence(int64_t index) const;
  /// Copies sequences [first, first + count) into `out`, u8 [count, seq_len].
  void fill(int64_t first, int64_t count, std::span<uint8_t> out) const;
  /// Asks the system to read those sequences from the disk soon; returns at once.
  void prefetch(int64_t first, int64_t count) const;

 private:
  std::span<const uint8_t> bytes_;
  int64_t seq_len_;
  uint64_t seed_;
  int64_t per_epoch_;
};

}  // namespace espalier::train
