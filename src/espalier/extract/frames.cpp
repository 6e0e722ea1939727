// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/frames.h"

#include <zstd.h>

#include <array>

#include "espalier/base/error.h"
#include "espalier/extract/choice.h"

namespace espalier::extract {
namespace {

constexpr std::array<std::string_view, 2> kNames{"none", "zstd"};
/// Mantissas do not repeat: what compresses is the unequal use of exponents, and the fastest level
/// finds all of it. Higher ones look for repetitions and lose by it (docs/decisions/shards.md).
constexpr int kLevel = 1;

size_t checked(size_t result) {
  ESPALIER_CHECK(!ZSTD_isError(result), ErrorKind::internal, "zstd", "{}",
                 ZSTD_getErrorName(result));
  return result;
}

/// planes[b][i] = byte b of value i. The sizes are constants, so that the loops vectorize.
template <size_t kBytes>
void split(const std::byte* values, size_t count, std::byte* planes) {
  for (size_t i = 0; i < count; ++i) {
    for (size_t b = 0; b < kBytes; ++b) planes[b * count + i] = values[i * kBytes + b];
  }
}
template <size_t kBytes>
void join(const std::byte* planes, size_t count, std::byte* values) {
  for (size_t i = 0; i < count; ++i) {
    for (size_t b = 0; b < kBytes; ++b) values[i * kBytes + b] = planes[b * count + i];
  }
}

}  // namespace

Compression parse_compression(std::string_view text) {
  return parse_choice<Compression>("compress", text, kNames);
}

std::string_view name(Compression compression) { return kNames[static_cast<size_t>(compression)]; }

std::string describe(Compression compression) {
  if (compression == Compression::none) return "none";
  return fmt::format("zstd {}, level {}", ZSTD_versionString(), kLevel);
}

struct FrameEncoder::State {
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context{ZSTD_createCCtx(), ZSTD_freeCCtx};
  std::vector<std::byte> planes;
};

FrameEncoder::FrameEncoder() : state_(std::make_unique<State>()) {
  ESPALIER_CHECK(state_->context != nullptr, ErrorKind::device, "zstd", "no memory");
  checked(ZSTD_CCtx_setParameter(state_->context.get(), ZSTD_c_compressionLevel, kLevel));
  checked(ZSTD_CCtx_setParameter(state_->context.get(), ZSTD_c_checksumFlag, 1));
}
FrameEncoder::~FrameEncoder() = default;

std::vector<std::byte> FrameEncoder::encode(std::span<const std::byte> values,
                                            int64_t value_bytes) {
  ZSTD_CCtx* context = state_->context.get();
  std::vector<std::byte>& planes = state_->planes;
  const auto bytes = static_cast<size_t>(value_bytes);
  const size_t count = values.size() / bytes;
  planes.resize(values.size());
  if (bytes == 2) {
    split<2>(values.data(), count, planes.data());
  } else {
    ESPALIER_ASSERT(bytes == 4);
    split<4>(values.data(), count, planes.data());
  }
  std::vector<std::byte> frame(ZSTD_compressBound(planes.size()) + bytes * 16);
  checked(ZSTD_CCtx_reset(context, ZSTD_reset_session_only));
  checked(ZSTD_CCtx_setPledgedSrcSize(context, planes.size()));
  ZSTD_outBuffer out{frame.data(), frame.size(), 0};
  for (size_t b = 0; b < bytes; ++b) {
    // A plane begins a block of zstd's, which has the statistics of that plane alone.
    ZSTD_inBuffer in{planes.data() + b * count, count, 0};
    const auto end = b + 1 == bytes ? ZSTD_e_end : ZSTD_e_flush;
    while (checked(ZSTD_compressStream2(context, &out, &in, end)) != 0) {
      ESPALIER_ASSERT(out.pos < out.size);
    }
  }
  frame.resize(out.pos);
  frame.shrink_to_fit();
  return frame;
}

struct FrameDecoder::State {
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context{ZSTD_createDCtx(), ZSTD_freeDCtx};
  std::vector<std::byte> planes;
};

FrameDecoder::FrameDecoder() : state_(std::make_unique<State>()) {
  ESPALIER_CHECK(state_->context != nullptr, ErrorKind::device, "zstd", "no memory");
}
FrameDecoder::~FrameDecoder() = default;

void FrameDecoder::decode(std::span<const std::byte> frame, int64_t value_bytes,
                          std::span<std::byte> values, std::string_view where) {
  std::vector<std::byte>& planes = state_->planes;
  planes.resize(values.size());
  const size_t size = ZSTD_decompressDCtx(state_->context.get(), planes.data(), planes.size(),
                                          frame.data(), frame.size());
  ESPALIER_CHECK(!ZSTD_isError(size), ErrorKind::data, "shard", "{} is damaged: {}", where,
                 ZSTD_getErrorName(size));
  ESPALIER_CHECK(size == values.size(), ErrorKind::data, "shard",
                 "{} holds {} bytes where {} are expected", where, size, values.size());
  const auto bytes = static_cast<size_t>(value_bytes);
  if (bytes == 2) {
    join<2>(planes.data(), values.size() / 2, values.data());
  } else {
    ESPALIER_ASSERT(bytes == 4);
    join<4>(planes.data(), values.size() / 4, values.data());
  }
}

}  // namespace espalier::extract
