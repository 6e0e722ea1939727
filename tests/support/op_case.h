// SPDX-License-Identifier: Apache-2.0
// An op case: operands with shapes and fills, and the nodes to build from them. One table of cases
// (op_cases.h) serves the checks of interp, gradients, decompositions and backends.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>
#include <string>
#include <vector>

#include "espalier/base/rng.h"
#include "espalier/interp/interp.h"
#include "espalier/ir/tensor.h"

namespace espalier::testing {

/// Numbers of one stream, each a function of (seed, stream, how many came before).
class Random {
 public:
  explicit Random(uint64_t seed, uint64_t stream = 0) : key_(rng_key(seed, 0, stream)) {}
  double uniform() { return (rng_bits(key_, next_++) + 0.5) * 0x1p-32; }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }
  /// In [low, high).
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(uniform() * static_cast<double>(high - low));
  }
  template <typename T>
  const T& pick(const std::vector<T>& from) {
    return from[static_cast<size_t>(integer(0, static_cast<int64_t>(from.size())))];
  }
  template <typename T>
  void shuffle(std::vector<T>& values) {
    for (size_t i = values.size(); i > 1; --i) {
      std::swap(values[i - 1], values[static_cast<size_t>(integer(0, static_cast<int64_t>(i)))]);
    }
  }

 private:
  RngKey key_;
  uint64_t next_ = 0;
};

enum class Fill {
  normal,    // N(0, 1)
  positive,  // [0.5, 2)
  apart,     // N(0, 1)-like, no two values and no value and 0 nearer than 1e-3
  index,     // integers [0, high)
  mask,      // mostly true
  seed,      // an integer below 2^53
};

struct Operand {
  ir::TensorType type;
  Fill fill = Fill::normal;
  int64_t high = 1;  // of Fill::index
};

struct OpCase {
  std::string name;
  ir::Op op;  // the op that the case is about
  std::vector<Operand> operands;
  std::function<std::vector<Tensor>(const std::vector<Tensor>&)> build;
};

/// Shuffled values 1/(2n), 3/(2n), ... of both signs, stretched to about [-2, 2].
inline std::vector<double> apart(Random& random, size_t count) {
  std::vector<double> values(count);
  for (size_t i = 0; i < count; ++i) {
    const double step = 2.0 * (static_cast<double>(i) + 0.75) / static_cast<double>(count);
    values[i] = i % 2 == 0 ? step : -step;
  }
  random.shuffle(values);
  return values;
}

inline interp::DoubleTensor fill_operand(const Operand& operand, Random random) {
  interp::DoubleTensor tensor{operand.type, {}};
  tensor.data.resize(static_cast<size_t>(operand.type.shape.numel()));
  if (operand.fill == Fill::apart) tensor.data = apart(random, tensor.data.size());
  for (double& x : tensor.data) {
    switch (operand.fill) {
      case Fill::normal:
        x = random.normal();
        break;
      case Fill::positive:
        x = random.uniform(0.5, 2.0);
        break;
      case Fill::apart:
        break;
      case Fill::index:
        x = static_cast<double>(random.integer(0, operand.high));
        break;
      case Fill::mask:
        x = random.uniform() < 0.75 ? 1.0 : 0.0;
        break;
      case Fill::seed:
        x = static_cast<double>(random.integer(0, int64_t{1} << 53));
        break;
    }
    x = round_to(operand.type.dtype, x);
  }
  return tensor;
}

/// Values of the operands, rounded to their dtypes.
inline std::vector<interp::DoubleTensor> inputs_of(const OpCase& c, uint64_t seed = 1) {
  std::vector<interp::DoubleTensor> inputs;
  for (const Operand& operand : c.operands) {
    inputs.push_back(fill_operand(operand, Random(seed, inputs.size())));
  }
  return inputs;
}

/// Adds the operands as inputs "x0", "x1", ... and builds the case; returns operands and results.
struct BuiltCase {
  std::vector<Tensor> operands;
  std::vector<Tensor> results;
};
inline BuiltCase build_case(const OpCase& c, ir::Builder& builder) {
  BuiltCase built;
  for (const Operand& operand : c.operands) {
    const std::string name = fmt::format("x{}", built.operands.size());
    built.operands.emplace_back(builder, builder.input(name, operand.type, "batch"));
  }
  built.results = c.build(built.operands);
  return built;
}

/// The forward graph with outputs "y0", "y1", ...
inline ir::Graph graph_of(const OpCase& c) {
  ir::Builder builder(c.name);
  const BuiltCase built = build_case(c, builder);
  for (size_t i = 0; i < built.results.size(); ++i) {
    builder.output(fmt::format("y{}", i), built.results[i].value());
  }
  return builder.finish();
}

}  // namespace espalier::testing
