// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "espalier/ir/tensor.h"

int main() {
  using namespace espalier;
  ir::Builder builder("consumer");
  const Tensor x(builder, builder.input("x", {DType::f32, {2, 3}}, "batch"));
  const Tensor w(builder, builder.input("w", {DType::f32, {4, 3}}, "parameter"));
  builder.output("y", relu(linear(x, w)).value());
  const ir::Graph graph = builder.finish();
  for (const auto& node : graph.nodes()) std::puts(std::string(ir::name(node.op)).c_str());
}
