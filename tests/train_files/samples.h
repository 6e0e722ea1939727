// SPDX-License-Identifier: Apache-2.0
// Checkpoints whose every value is a function of their step, so that a reader can tell.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "espalier/base/rng.h"
#include "espalier/train/checkpoint.h"

namespace espalier::train {

inline HostTensor sample_tensor(DType dtype, const Shape& shape, int64_t step, uint64_t id) {
  HostTensor tensor(dtype, shape);
  const RngKey key = rng_key(5, static_cast<uint64_t>(step), id);
  auto* bytes = static_cast<std::byte*>(tensor.data());
  for (int64_t i = 0; i < tensor.bytes(); i += 4) {
    const uint32_t bits = rng_bits(key, static_cast<uint64_t>(i));
    std::memcpy(bytes + i, &bits, static_cast<size_t>(std::min<int64_t>(4, tensor.bytes() - i)));
  }
  return tensor;
}

/// About 4 * rows KiB.
inline Checkpoint sample_checkpoint(int64_t step, int64_t rows = 16) {
  Checkpoint c{.step = step, .seed = 0xFEDCBA9876543210ull + static_cast<uint64_t>(step)};
  c.config = {{"num_layer", int64_t{8}}, {"model", std::string("byte-lm")}, {"tied", false}};
  c.options = {{"lr", 1e-3 / static_cast<double>(step + 1)},
               {"worst", std::numeric_limits<double>::infinity()},
               {"whole", 1.0},
               {"zero", -0.0},
               {"path", std::string("d\xC3\xA4ten/\"x\"")}};
  c.data = {{"offset", int64_t{1} << 60}, {"epoch", step}};
  c.parameters["layers.0.weight"] = sample_tensor(DType::f32, {rows, 256}, step, 1);
  c.parameters["layers.0.bias"] = sample_tensor(DType::f32, {256}, step, 2);
  c.parameters["embedding"] = sample_tensor(DType::bf16, {rows, 256}, step, 3);
  c.state["adam.m.layers.0.weight"] = sample_tensor(DType::f32, {rows, 256}, step, 4);
  c.state["adam.v.layers.0.weight"] = sample_tensor(DType::f64, {rows, 128}, step, 5);
  c.state["loss_scale"] = sample_tensor(DType::f32, {}, step, 6);
  return c;
}

inline bool same_tensors(const std::map<std::string, HostTensor>& a,
                         const std::map<std::string, HostTensor>& b) {
  const auto same = [](const auto& x, const auto& y) {
    return x.first == y.first && x.second.dtype() == y.second.dtype() &&
           x.second.shape() == y.second.shape() &&
           std::memcmp(x.second.data(), y.second.data(), static_cast<size_t>(x.second.bytes())) ==
               0;
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

inline bool same_checkpoint(const Checkpoint& a, const Checkpoint& b) {
  const auto sign = std::signbit(std::get<double>(a.options.at("zero")));
  return a.step == b.step && a.seed == b.seed && a.config == b.config && a.options == b.options &&
         a.data == b.data && sign && same_tensors(a.parameters, b.parameters) &&
         same_tensors(a.state, b.state);
}

}  // namespace espalier::train
