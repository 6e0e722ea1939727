// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/init.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "espalier/base/error.h"
#include "espalier/base/rng.h"

namespace espalier::nn {
namespace {

// Initialization draws from its own "step", so that it shares no number with any training step.
constexpr uint64_t kInitStep = ~uint64_t{0};
// Values of one block share the high half of their index, so that the loop over them is 32 bits.
constexpr int64_t kBlock = int64_t{1} << 16;

RngKey key_of(uint64_t seed, std::string_view path) {
  uint64_t hash = 0xCBF29CE484222325ull;  // FNV-1a
  for (char c : path) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return rng_key(seed, kInitStep, hash);
}

/// An odd multiple of 2^-24 in (-1, 1), exact in f32, symmetric around 0.
[[gnu::always_inline]] inline float symmetric(RngKey key, uint32_t low, uint32_t high_term) {
  const uint32_t bits = mix32(mix32(low ^ key.k0) + key.k1 + high_term);
  const auto centered = static_cast<int32_t>(bits >> 8) - (1 << 23);
  return (static_cast<float>(centered) + 0.5f) * 0x1p-23f;
}

/// c[0] + c[1] x + ... + c[8] x^8 in Estrin's order: a short chain of dependent operations, so that
/// the next values of a loop start early.
[[gnu::always_inline]] inline float polynomial(const std::array<float, 9>& c, float x) {
  const float x2 = x * x;
  const float x4 = x2 * x2;
  const float low = std::fma(std::fma(c[3], x, c[2]), x2, std::fma(c[1], x, c[0]));
  const float high = std::fma(std::fma(c[7], x, c[6]), x2, std::fma(c[5], x, c[4]));
  return std::fma(std::fma(c[8], x4, high), x4, low);
}

// log(1 + m) = m - m^2/2 + m^3 P(m) for 1 + m in [sqrt(1/2), sqrt 2) (Cephes, logf).
constexpr std::array<float, 9> kLog{3.3333331174e-1f,  -2.4999993993e-1f, 2.0000714765e-1f,
                                    -1.6668057665e-1f, 1.4249322787e-1f,  -1.2420140846e-1f,
                                    1.1676998740e-1f,  -1.1514610310e-1f, 7.0376836292e-2f};
// M. Giles, "Approximating the erfinv function", GPU Computing Gems 2 (2010), single precision:
// erfinv(v) / v as a function of w = -log(1 - v^2), in w - 2.5 for w < 5 and in sqrt(w) - 3 beyond.
constexpr std::array<float, 9> kCentral{1.50140941f,     0.246640727f,    -0.00417768164f,
                                        -0.00125372503f, 0.00021858087f,  -4.39150654e-06f,
                                        -3.5233877e-06f, 3.43273939e-07f, 2.81022636e-08f};
constexpr std::array<float, 9> kTail{2.83297682f,    1.00167406f,     0.00943887047f,
                                     -0.0076224613f, 0.00573950773f,  -0.00367342844f,
                                     0.00134934322f, 0.000100950558f, -0.000200214257f};

/// Natural logarithm of a normal positive float, error below 2 ulp where the result is not near 0.
[[gnu::always_inline]] inline float log_of(float x) {
  const auto bits = std::bit_cast<int32_t>(x);
  const int32_t exponent = (bits - 0x3F3504F3) >> 23;
  const float m = std::bit_cast<float>(bits - exponent * (1 << 23)) - 1.0f;
  const float z = m * m;
  const auto e = static_cast<float>(exponent);
  const float tail = std::fma(polynomial(kLog, m), m * z, std::fma(-0.5f, z, m));
  return std::fma(e, 0.69314718f, tail);
}

/// sqrt(2) times the inverse error function: the normal quantile of (1 + v) / 2, |v| < 1. Both
/// branches are computed and one is kept, so that loops around this vectorize.
[[gnu::always_inline]] inline float normal_quantile(float v) {
  const float w = -log_of((1.0f - v) * (1.0f + v));
  const float central = polynomial(kCentral, w - 2.5f);
  const float tail = polynomial(kTail, std::sqrt(std::max(w, 0.0f)) - 3.0f);
  return (w < 5.0f ? central : tail) * (v * 1.41421356f);
}

/// Probability mass of a normal within two deviations, and the deviation that is left there.
constexpr float kTruncatedMass = 0.954499736f;
constexpr double kTruncatedDeviation = 0.87962566103423978;

struct Block {
  Init::Kind kind;
  float scale;
  RngKey key;
  uint32_t low;        // index of the first value, low half
  uint32_t high_term;  // what the high half adds
};

[[gnu::always_inline]] inline void fill_block(const Block& block, float* values, int64_t count) {
  const RngKey key = block.key;
  const uint32_t low = block.low;
  const uint32_t high_term = block.high_term;
  const float scale = block.scale;
  const auto n = static_cast<uint32_t>(count);
  if (block.kind == Init::Kind::uniform) {
    for (uint32_t i = 0; i < n; ++i) values[i] = scale * symmetric(key, low + i, high_term);
  } else {
    const float mass = block.kind == Init::Kind::truncated_normal ? kTruncatedMass : 1.0f;
    for (uint32_t i = 0; i < n; ++i) {
      values[i] = scale * normal_quantile(mass * symmetric(key, low + i, high_term));
    }
  }
}

void fill_block_baseline(const Block& block, float* values, int64_t count) {
  fill_block(block, values, count);
}

#if defined(__x86_64__)
// The same operations, fused ones included, on wider registers: the values are those of the
// baseline, bit for bit.
[[gnu::target("avx2,fma")]] void fill_block_avx2(const Block& block, float* values, int64_t count) {
  fill_block(block, values, count);
}
#endif

using FillBlock = void (*)(const Block&, float*, int64_t);
FillBlock best_fill_block() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return fill_block_avx2;
#endif
  return fill_block_baseline;
}

}  // namespace

Init Init::torch_linear(int64_t fan_in) {
  return uniform(std::sqrt(1.0 / static_cast<double>(fan_in)));
}
Init Init::lecun_normal(int64_t fan_in) {
  return truncated_normal(std::sqrt(1.0 / static_cast<double>(fan_in)));
}

void fill(const Init& init, uint64_t seed, std::string_view path, int64_t first,
          std::span<float> values) {
  if (init.kind == Init::Kind::zeros || init.kind == Init::Kind::ones) {
    std::fill(values.begin(), values.end(), init.kind == Init::Kind::ones ? 1.0f : 0.0f);
    return;
  }
  const FillBlock fill_some = best_fill_block();
  const double deviation =
      init.kind == Init::Kind::truncated_normal ? init.scale / kTruncatedDeviation : init.scale;
  Block block{init.kind, static_cast<float>(deviation), key_of(seed, path), 0, 0};
  const auto size = static_cast<int64_t>(values.size());
  for (int64_t done = 0; done < size;) {
    const auto index = static_cast<uint64_t>(first + done);
    block.low = static_cast<uint32_t>(index);
    block.high_term = static_cast<uint32_t>(index >> 32) * 0x9E3779B9u;
    const int64_t until_high_changes =
        (int64_t{1} << 32) - static_cast<int64_t>(index & 0xFFFFFFFFu);
    const int64_t count = std::min({size - done, kBlock, until_high_changes});
    fill_some(block, values.data() + done, count);
    done += count;
  }
}

void fill(const Init& init, uint64_t seed, std::string_view path, HostTensor& tensor) {
  ESPALIER_CHECK(is_float(tensor.dtype()), ErrorKind::user, "init",
                 "only float parameters have initial values, got {}{} at {}", name(tensor.dtype()),
                 tensor.shape().str(), path);
  const int64_t numel = tensor.numel();
  const int64_t blocks = (numel + kBlock - 1) / kBlock;
#pragma omp parallel for schedule(static) if (blocks > 1)
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t first = b * kBlock;
    const int64_t count = std::min(kBlock, numel - first);
    if (tensor.dtype() == DType::f32) {
      fill(init, seed, path, first,
           tensor.as<float>().subspan(static_cast<size_t>(first), static_cast<size_t>(count)));
      continue;
    }
    constexpr int64_t kPart = 1024;
    std::array<float, kPart> part{};
    for (int64_t done = 0; done < count; done += kPart) {
      const int64_t size = std::min(kPart, count - done);
      fill(init, seed, path, first + done, std::span(part.data(), static_cast<size_t>(size)));
      for (int64_t i = 0; i < size; ++i) {
        tensor.set(first + done + i, part[static_cast<size_t>(i)]);
      }
    }
  }
}

}  // namespace espalier::nn
