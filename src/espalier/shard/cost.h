// SPDX-License-Identifier: Apache-2.0
// What a placement costs: bytes on a device, collectives of a training step, and a time predicted
// from the peaks of a device. Counts only; nothing is allocated.
//
// Collectives are the textbook ones: data parallel sums gradients (all-reduce); fully sharded
// gathers parameters in the forward and again in the backward pass and scatters the sum of the
// gradients (Rajbhandari et al., ZeRO, arXiv 1910.02054, stage 3); tensor parallel sums activations
// behind row cuts in the forward, and before column cuts in the backward pass (Shoeybi et al.,
// Megatron-LM, arXiv 1909.08053). Rings: over n devices an all-reduce of B bytes sends
// 2 (n-1)/n B from each device in 2 (n-1) hops, a gather or scatter half of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/shard/device.h"
#include "espalier/shard/spec.h"
#include "espalier/tensor/dtype.h"

namespace espalier::shard {

/// A product of `rows` rows a sample with a weight [out, in], or rows looked up in a table.
struct Product {
  std::string weight;    // path
  double rows = 0.0;     // per sample
  bool lookup = false;   // an embedding: no arithmetic
  int32_t input = 0;     // products with equal numbers read one input
  std::string consumer;  // weight of the product that takes the result element by element before
                         // it, kLoss, or empty where the result is needed whole
  static constexpr std::string_view kLoss = "loss";
};
/// Arithmetic or kept values that are cut the way a parameter is.
struct Follows {
  std::string weight;   // path, or empty: whole on every device
  double amount = 0.0;  // FLOP of a step, or elements, per sample
};

/// What one step does with a model, per sample.
struct Workload {
  std::vector<Product> products;
  std::vector<Follows> attention;    // FLOP of forward and backward
  std::vector<Follows> activations;  // elements kept for the backward pass
};

/// A parameter as the cost model sees it.
struct CostParam {
  std::string path;
  Shape shape;
  DType dtype = DType::f32;
  bool trainable = true;
  PartitionSpec spec;
};

struct CostOptions {
  int64_t batch = 64;                   // samples of all devices together
  DType compute_dtype = DType::bf16;    // of products, activations and gathered parameters
  int64_t moments = 2;                  // f32 values the optimizer keeps for each element
  std::vector<std::string> model_axes;  // that cut work, not samples
};

enum class CollectiveKind : uint8_t { all_reduce, all_gather, reduce_scatter };
std::string_view name(CollectiveKind kind);

/// Collectives of one kind over one axis in a step.
struct Collective {
  CollectiveKind kind = CollectiveKind::all_reduce;
  std::string axis;
  std::string what;  // gradients, parameters, activations, logits
  int64_t count = 0;
  double bytes = 0.0;       // of the whole values, all of them together, on one device
  double sent_bytes = 0.0;  // that one device sends
  double seconds = 0.0;
  bool blocking = false;  // stands between products that need each other
};

enum class Limit : uint8_t { compute, memory, network };
std::string_view name(Limit limit);

/// Of one device and one step.
struct Cost {
  int64_t local_batch = 0;
  int64_t parameters = 0;  // elements of the whole model
  double parameter_bytes = 0.0, gradient_bytes = 0.0, moment_bytes = 0.0, activation_bytes = 0.0;
  double gathered_bytes = 0.0;  // the largest layer put together, where parameters are gathered
  double total_bytes() const {
    return parameter_bytes + gradient_bytes + moment_bytes + activation_bytes + gathered_bytes;
  }
  double flops = 0.0;
  double moved_bytes = 0.0;  // between memory and processor
  std::vector<Collective> collectives;
  double compute_seconds = 0.0, memory_seconds = 0.0, network_seconds = 0.0;
  /// Arithmetic, memory and the collectives that can hide behind them overlap; the others add.
  double step_seconds = 0.0;
  Limit limit = Limit::compute;
  bool fits = true;  // total_bytes is at most the memory of the device
};

/// Throws `user` naming both numbers when the samples cannot be dealt out evenly, and for products
/// with a weight that is no parameter.
Cost estimate(const std::vector<CostParam>& params, const Workload& work, const Mesh& mesh,
              const Device& device, const CostOptions& options);

/// The part of a path that is gathered at once: up to and with the first list index, or "".
std::string_view block_of(std::string_view path);

}  // namespace espalier::shard
