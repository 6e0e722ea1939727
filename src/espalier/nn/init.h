// SPDX-License-Identifier: Apache-2.0
// Initial values of parameters: a pure function of (seed, path, element index in the whole tensor).
//
// No value depends on the order in which tensors or their parts are made, on threads, on how the
// tensor is cut into shards or on the processor: only exactly rounded operations are used.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "espalier/shard/spec.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier::nn {

/// What a parameter starts as. `scale` is the bound of `uniform` and the standard deviation of the
/// normals; `truncated_normal` is cut at two standard deviations of the normal it is taken from
/// and rescaled, so that `scale` is the deviation of what is drawn.
struct Init {
  enum class Kind : uint8_t { zeros, ones, uniform, normal, truncated_normal };
  Kind kind = Kind::zeros;
  double scale = 1.0;

  static Init zeros() { return {Kind::zeros, 0.0}; }
  static Init ones() { return {Kind::ones, 1.0}; }
  static Init uniform(double bound) { return {Kind::uniform, bound}; }
  static Init normal(double deviation) { return {Kind::normal, deviation}; }
  static Init truncated_normal(double deviation) { return {Kind::truncated_normal, deviation}; }
  /// Uniform in +-sqrt(1 / fan_in): what torch.nn.Linear does.
  static Init torch_linear(int64_t fan_in);
  /// Truncated normal of variance 1 / fan_in (LeCun, as jax.nn.initializers.lecun_normal).
  static Init lecun_normal(int64_t fan_in);

  friend bool operator==(const Init&, const Init&) = default;
};

/// Writes elements [first, first + values.size()) of the tensor at `path`.
void fill(const Init& init, uint64_t seed, std::string_view path, int64_t first,
          std::span<float> values);

/// Writes one piece of the tensor at `path`: the values that the whole tensor has there. `tensor`
/// has as many elements as the region. On all threads.
void fill(const Init& init, uint64_t seed, std::string_view path, const shard::Region& region,
          HostTensor& tensor);

/// Fills a whole tensor of a float type (others than f32 get the rounded f32 values), on all
/// threads.
void fill(const Init& init, uint64_t seed, std::string_view path, HostTensor& tensor);

}  // namespace espalier::nn
