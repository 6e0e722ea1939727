// SPDX-License-Identifier: Apache-2.0
// The values of a graph on their way to a mesh: where each lies, and how an op gets it where it
// needs it.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "espalier/passes/partition_emit.h"
#include "espalier/passes/partition_values.h"

namespace espalier::passes::part {

/// A summand of a sum that is not taken yet: a value of the graph, with or without its open sum.
struct Term {
  ir::Value value;
  bool minus;
  bool open;
};

/// What has become of a value of the graph.
struct Held {
  enum class Kind : uint8_t { made, lazy, sum } kind = Kind::made;
  Layout layout;                    // where it lies by itself; closed for `lazy` and `sum`
  ir::Value now;                    // made
  std::vector<Term> terms;          // sum
  ir::Value closed_value;           // made and sum, once the sum is taken
  shard::PartitionSpec scatter_to;  // made: where an open sum shall go for which there is no wish
  /// By place, and apart for parameters in the backward pass.
  std::map<std::pair<std::string, bool>, ir::Value> places;
};

class PlacedValues {
 public:
  PlacedValues(const ir::Graph& graph, const PartitionOptions& options, const ValueFacts& facts);

  ir::Builder& out() { return out_; }
  Mover& mover() { return mover_; }
  Held& held(ir::Value v) {
    return held_[static_cast<size_t>(v.node)][static_cast<size_t>(v.index)];
  }
  Source source(ir::Value v) const { return facts_.source[static_cast<size_t>(v.node)]; }
  const Shape& shape(ir::Value v) const { return graph_.type(v).shape; }
  /// Nobody else needs it.
  bool used_once(ir::Value v) const { return facts_.uses[static_cast<size_t>(v.node)] == 1; }

  /// Where a value lies once its sum is taken.
  shard::PartitionSpec place_of(ir::Value v);
  /// Its sum is still to be taken.
  bool is_open(ir::Value v);
  /// The value at any place, for a node in the forward or in the backward pass.
  ir::Value get(ir::Value v, const shard::PartitionSpec& spec);
  /// add, sub at node `id`: joins open sums, to be taken together. False where there is none.
  bool join(int32_t id);

  /// Offers the place of an operand, or of a result. Along sample axes the work stays where the
  /// samples are, along others where the parameters are.
  void offer(Assigner& assigner, const TensorFactors& dims, ir::Value v,
             const shard::PartitionSpec& spec) const;
  /// Offers the place that a result should have for those who use it.
  void offer_wish(Assigner& assigner, const TensorFactors& dims, ir::Value v) const;
  /// What collectives on a value are called.
  std::string_view label(ir::Value v) const;
  std::vector<ir::Value> emit(const ir::Node& node, std::vector<ir::Value> in,
                              const OpFactors& factors, const Assignment& assignment);
  /// From here on, nodes belong to the backward pass.
  void begin_backward() { backward_ = true; }

 private:
  shard::PartitionSpec wish(ir::Value v) const;
  /// Where the open sum of a value shall go.
  shard::PartitionSpec wanted(ir::Value v);
  /// The value at place_of(v).
  ir::Value close(ir::Value v);
  ir::Value make_lazy(ir::Value v, const shard::PartitionSpec& spec);
  void append_terms(ir::Value v, bool minus, std::vector<Term>& terms);
  /// The sum of values of one type, some with a minus.
  ir::Value total(std::vector<std::pair<ir::Value, bool>> parts);
  ir::Value add_up(ir::Value v);

  const ir::Graph& graph_;
  const PartitionOptions& options_;
  const ValueFacts& facts_;
  ir::Builder out_;
  Mover mover_;
  std::vector<std::vector<Held>> held_;  // of each node and result
  bool backward_ = false;
};

}  // namespace espalier::passes::part
