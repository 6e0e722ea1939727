// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/init.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "espalier/base/error.h"
#include "espalier/nn/init_kernels.h"

namespace espalier::nn {
namespace {

using detail::Block;

// Initialization draws from its own "step", so that it shares no number with any training step.
constexpr uint64_t kInitStep = ~uint64_t{0};
// Values of one block share the high half of their index, so that the loop over them is 32 bits.
constexpr int64_t kBlock = int64_t{1} << 16;
/// The deviation that is left of a normal within two deviations.
constexpr double kTruncatedDeviation = 0.87962566103423978;

RngKey key_of(uint64_t seed, std::string_view path) {
  uint64_t hash = 0xCBF29CE484222325ull;  // FNV-1a
  for (char c : path) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return rng_key(seed, kInitStep, hash);
}

[[gnu::always_inline]] inline void fill_block(const Block& block, float* values, int64_t count) {
  const RngKey key = block.key;
  const uint32_t low = block.low;
  const uint32_t high_term = block.high_term;
  const float scale = block.scale;
  const auto n = static_cast<uint32_t>(count);
  if (block.kind == Init::Kind::uniform) {
    for (uint32_t i = 0; i < n; ++i) {
      values[i] = scale * detail::symmetric(key, low + i, high_term);
    }
  } else {
    const float mass = block.mass();
    for (uint32_t i = 0; i < n; ++i) {
      values[i] =
          scale * detail::normal_quantile(mass * detail::symmetric(key, low + i, high_term));
    }
  }
}

#if defined(__x86_64__)
// The same operations, fused ones included, on wider registers: the values are those of the
// baseline, bit for bit.
[[gnu::target("avx2,fma")]] void fill_block_avx2(const Block& block, float* values, int64_t count) {
  int64_t done = 0;
  if (block.kind != Init::Kind::uniform) done = detail::fill_normals_avx2(block, values, count);
  Block rest = block;
  rest.low += static_cast<uint32_t>(done);
  fill_block(rest, values + done, count - done);
}
#endif

using FillBlock = void (*)(const Block&, float*, int64_t);
FillBlock best_fill_block() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return fill_block_avx2;
#endif
  return detail::fill_block_baseline;
}

/// The values of one tensor, from any index on.
class Stream {
 public:
  Stream(const Init& init, uint64_t seed, std::string_view path)
      : fill_(best_fill_block()), init_(init) {
    const double deviation =
        init.kind == Init::Kind::truncated_normal ? init.scale / kTruncatedDeviation : init.scale;
    block_ = {init.kind, static_cast<float>(deviation), key_of(seed, path), 0, 0};
  }

  void write(int64_t first, float* values, int64_t count) const {
    if (init_.kind == Init::Kind::zeros || init_.kind == Init::Kind::ones) {
      std::fill(values, values + count, init_.kind == Init::Kind::ones ? 1.0f : 0.0f);
      return;
    }
    Block block = block_;
    for (int64_t done = 0; done < count;) {
      const auto index = static_cast<uint64_t>(first + done);
      block.low = static_cast<uint32_t>(index);
      block.high_term = static_cast<uint32_t>(index >> 32) * 0x9E3779B9u;
      const int64_t until_high_changes =
          (int64_t{1} << 32) - static_cast<int64_t>(index & 0xFFFFFFFFu);
      const int64_t size = std::min({count - done, kBlock, until_high_changes});
      fill_(block, values + done, size);
      done += size;
    }
  }

 private:
  FillBlock fill_;
  Init init_;
  Block block_;
};

/// The runs of a region that lie together in the whole tensor.
class Runs {
 public:
  explicit Runs(const shard::Region& region)
      : region_(region), strides_(region.view.strides()), dims_(region.view.rank()) {
    // Trailing dimensions that are whole belong to one run, with the first that is not.
    while (dims_ > 0 && length_ == stride_of(dims_ - 1)) length_ *= region.size[--dims_];
  }

  int64_t length() const { return length_; }
  /// Index in the whole tensor of the first element of a run.
  int64_t start(int64_t run) const {
    int64_t index = 0;
    for (int64_t d = region_.view.rank() - 1; d >= 0; --d) {
      int64_t at = region_.first[static_cast<size_t>(d)];
      if (d < dims_) {
        at += run % region_.size[d];
        run /= region_.size[d];
      }
      index += at * stride_of(d);
    }
    return index;
  }

 private:
  int64_t stride_of(int64_t d) const { return strides_[static_cast<size_t>(d)]; }
  const shard::Region& region_;
  std::vector<int64_t> strides_;
  int64_t dims_;  // leading dimensions that number the runs
  int64_t length_ = 1;
};

/// Rounds values into a tensor of another float type.
void store(HostTensor& tensor, int64_t first, const float* values, int64_t count) {
  if (tensor.dtype() == DType::bf16) {
    uint16_t* to = tensor.as<uint16_t>().data() + first;
    for (int64_t i = 0; i < count; ++i) to[i] = to_bf16(values[i]);
    return;
  }
  for (int64_t i = 0; i < count; ++i) tensor.set(first + i, values[i]);
}

}  // namespace

void detail::fill_block_baseline(const Block& block, float* values, int64_t count) {
  fill_block(block, values, count);
}

Init Init::torch_linear(int64_t fan_in) {
  return uniform(std::sqrt(1.0 / static_cast<double>(fan_in)));
}
Init Init::lecun_normal(int64_t fan_in) {
  return truncated_normal(std::sqrt(1.0 / static_cast<double>(fan_in)));
}

void fill(const Init& init, uint64_t seed, std::string_view path, int64_t first,
          std::span<float> values) {
  Stream(init, seed, path).write(first, values.data(), static_cast<int64_t>(values.size()));
}

void fill(const Init& init, uint64_t seed, std::string_view path, const shard::Region& region,
          HostTensor& tensor) {
  ESPALIER_CHECK(is_float(tensor.dtype()), ErrorKind::user, "init",
                 "only float parameters have initial values, got {}{} at {}", name(tensor.dtype()),
                 tensor.shape().str(), path);
  ESPALIER_ASSERT(tensor.numel() == region.size.numel());
  const Stream stream(init, seed, path);
  const Runs runs(region);
  const int64_t numel = tensor.numel();
  const int64_t blocks = (numel + kBlock - 1) / kBlock;
  const bool direct = tensor.dtype() == DType::f32;
#pragma omp parallel for schedule(static) if (blocks > 1)
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t end = std::min((b + 1) * kBlock, numel);
    constexpr int64_t kPart = 1024;
    std::array<float, kPart> part;
    for (int64_t i = b * kBlock; i < end;) {
      const int64_t offset = i % runs.length();
      const int64_t count = std::min({end - i, runs.length() - offset, direct ? kBlock : kPart});
      float* values = direct ? tensor.as<float>().data() + i : part.data();
      stream.write(runs.start(i / runs.length()) + offset, values, count);
      if (!direct) store(tensor, i, values, count);
      i += count;
    }
  }
}

void fill(const Init& init, uint64_t seed, std::string_view path, HostTensor& tensor) {
  const Shape& shape = tensor.shape();
  fill(init, seed, path, {std::vector<int64_t>(static_cast<size_t>(shape.rank()), 0), shape, shape},
       tensor);
}

}  // namespace espalier::nn
