// SPDX-License-Identifier: Apache-2.0
// A model with a layer of its own, placed on a mesh by a plan: nothing of it is known to the
// library. Shows what the plan hit, freezes a part, swaps a layer, and makes the shards of one
// device.
#include <array>
#include <cstdio>

#include "espalier/nn/linear.h"
#include "espalier/nn/shard_plan.h"
#include "espalier/train/module_opt.h"

using namespace espalier;

/// value(x) * tanh(gate(x)). Its `parallel` list says how plans may cut it.
struct Gated : nn::Module<Gated> {
  nn::Param gate, value;  // [hidden, width]
  static constexpr auto fields = nn::fields(&Gated::gate, "gate", &Gated::value, "value");
  static constexpr std::array parallel{nn::ParallelDims{"gate", 0, 1},
                                       nn::ParallelDims{"value", 0, 1}};
  Gated() = default;
  Gated(int64_t width, int64_t hidden)
      : gate(Shape{hidden, width}, nn::Init::normal(0.02)),
        value(Shape{hidden, width}, nn::Init::normal(0.02)) {}
  Tensor operator()(Tensor x) const {
    return linear(x, value.value()) * tanh(linear(x, gate.value()));
  }
};

struct Block : nn::Module<Block> {
  Gated up{512, 2048};
  nn::Linear down{2048, 512};
  static constexpr auto fields = nn::fields(&Block::up, "up", &Block::down, "down");
  Tensor operator()(Tensor x) const { return x + down(up(x)); }
};

struct Model : nn::Module<Model> {
  std::vector<Block> layers = std::vector<Block>(4);
  nn::Linear head{512, 10};
  static constexpr auto fields = nn::fields(&Model::layers, "layers", &Model::head, "head");
};

int main() {
  const shard::Mesh mesh = shard::Mesh::parse("data=2,model=4");
  nn::Plan tensor_parallel("tensor parallel"), rest("rest");
  tensor_parallel.add("*.up", nn::column_parallel("model"))
      .add("*.down", nn::row_parallel("model"));
  rest.add("head", nn::freeze()).add("layers.*", nn::fully_shard("data"));

  const auto [model, report] = nn::apply_plans(Model(), mesh, {tensor_parallel, rest});
  for (const nn::ParamPlacement& p : nn::explain(model, report, mesh)) {
    std::printf("%-22s %-12s %-14s %8ld bytes a device%s\n", p.path.c_str(), p.shape.str().c_str(),
                p.spec.str(p.shape.rank()).c_str(), static_cast<long>(p.local_bytes()),
                p.trainable ? "" : ", frozen");
  }
  // Trees are values: a layer is replaced, the leaves are split and joined.
  const Model other = nn::tree_at(Model(), "layers.1.up", Gated(512, 1024));
  const auto [gates, others] = nn::partition(
      other, [](std::string_view path, const nn::Param&) { return path.ends_with("gate"); });
  const bool same = nn::param_paths(nn::combine(gates, others)) == nn::param_paths(other);

  // The shards of the last device, parameters and moments, and nothing else.
  const auto state = train::make_module_opt(Model(), train::adamw(), mesh, {tensor_parallel, rest},
                                            /*key=*/1, {.rank = 7});
  int64_t bytes = 0;
  nn::for_each_param(state.model,
                     [&](std::string_view, const nn::Param& p) { bytes += p.data.bytes(); });
  std::printf("%ld hits; device 7 holds %ld bytes of parameters and %zu moments\n",
              static_cast<long>(report.hit_count()), static_cast<long>(bytes),
              state.moments.size());
  return same && report.shadowed().empty() && bytes < 8'000'000 ? 0 : 1;
}
