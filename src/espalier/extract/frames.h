// SPDX-License-Identifier: Apache-2.0
// Compressed rows. A frame holds kFrameRows rows of one activation (the last one fewer): first byte
// 0 of all its values, then byte 1, ... (planes: the exponents lie together and compress, mantissas
// hardly do), as one zstd frame (RFC 8878) with its size and checksum. Frames are independent of
// each other, so any range of tokens is read alone and any number of threads makes the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::extract {

enum class Compression : uint8_t { none, zstd };

/// "none" or "zstd"; throws `user` for another.
Compression parse_compression(std::string_view text);
std::string_view name(Compression compression);
/// All that the bytes depend on, for run.json: "none", "zstd 1.5.4, level 1".
std::string describe(Compression compression);

/// Tokens of a frame. A power of two, and what readers shuffle in one piece.
inline constexpr int64_t kFrameRows = 256;
constexpr int64_t frames_of(int64_t rows) { return (rows + kFrameRows - 1) / kFrameRows; }

/// Makes frames, one after the other. Each thread has its own.
class FrameEncoder {
 public:
  FrameEncoder();
  ~FrameEncoder();
  /// `values`: whole values of `value_bytes` bytes each.
  std::vector<std::byte> encode(std::span<const std::byte> values, int64_t value_bytes);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Reads frames, one after the other. Each thread has its own.
class FrameDecoder {
 public:
  FrameDecoder();
  ~FrameDecoder();
  /// Fills `values`. Throws `data` when the frame is damaged or of another size; `where` names it.
  void decode(std::span<const std::byte> frame, int64_t value_bytes, std::span<std::byte> values,
              std::string_view where);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace espalier::extract
