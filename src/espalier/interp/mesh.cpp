// SPDX-License-Identifier: Apache-2.0
#include "espalier/interp/mesh.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>

#include "espalier/base/error.h"
#include "espalier/interp/evaluation.h"

namespace espalier::interp {
namespace {

using ir::Attr;
using ir::Op;

/// A collective on one group: operand 0 of each member, in the order of the group.
struct GroupCall {
  const ir::Node& node;
  std::vector<const Elements*> in;
  Shape in_shape;
  size_t size() const { return in.size(); }
  const Shape& out_shape() const { return node.types[0].shape; }
};
/// Results of each member.
using GroupKernel = std::vector<Elements> (*)(const GroupCall&);

Elements reduce(const GroupCall& call) {
  const bool largest = call.node.attrs.text_or(Attr::reduction, "sum") == "max";
  Elements out = *call.in[0];
  for (size_t m = 1; m < call.size(); ++m) {
    const Elements& other = *call.in[m];
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = largest ? std::max(out[i], other[i]) : out[i] + other[i];
    }
  }
  return out;
}

/// Where the part of member `m` along the node's axis stands: `part` in a value of shape `whole`.
std::vector<size_t> part_of(const GroupCall& call, size_t m, const Shape& part,
                            const Shape& whole) {
  const int64_t axis = call.node.attrs.integer(Attr::axis);
  const std::vector<int64_t> strides = whole.strides();
  const int64_t base = static_cast<int64_t>(m) * part[axis] * strides[static_cast<size_t>(axis)];
  return offsets(part.dims(), strides, base);
}

Elements taken(const Elements& from, const std::vector<size_t>& index) {
  Elements out;
  out.reserve(index.size());
  for (size_t at : index) out.push_back(from[at]);
  return out;
}

std::vector<Elements> axis_index(const GroupCall& call) {
  std::vector<Elements> out;
  for (size_t m = 0; m < call.size(); ++m) out.push_back({static_cast<double>(m)});
  return out;
}

std::vector<Elements> shard_slice(const GroupCall& call) {
  std::vector<Elements> out;
  for (size_t m = 0; m < call.size(); ++m) {
    out.push_back(taken(*call.in[m], part_of(call, m, call.out_shape(), call.in_shape)));
  }
  return out;
}

std::vector<Elements> all_reduce(const GroupCall& call) {
  return std::vector<Elements>(call.size(), reduce(call));
}

std::vector<Elements> all_gather(const GroupCall& call) {
  Elements out(static_cast<size_t>(call.out_shape().numel()));
  for (size_t m = 0; m < call.size(); ++m) {
    const std::vector<size_t> to = part_of(call, m, call.in_shape, call.out_shape());
    for (size_t i = 0; i < to.size(); ++i) out[to[i]] = (*call.in[m])[i];
  }
  return std::vector<Elements>(call.size(), out);
}

std::vector<Elements> reduce_scatter(const GroupCall& call) {
  const Elements sum = reduce(call);
  std::vector<Elements> out;
  for (size_t m = 0; m < call.size(); ++m) {
    out.push_back(taken(sum, part_of(call, m, call.out_shape(), call.in_shape)));
  }
  return out;
}

GroupKernel group_kernel(Op op) {
  static constexpr std::array<std::pair<Op, GroupKernel>, 5> kRows{
      {{Op::axis_index, axis_index},
       {Op::shard_slice, shard_slice},
       {Op::all_reduce, all_reduce},
       {Op::all_gather, all_gather},
       {Op::reduce_scatter, reduce_scatter}}};
  for (const auto& [of, run] : kRows) {
    if (of == op) return run;
  }
  fail(ErrorKind::internal, "interp", "no meaning of {} on a mesh", name(op));
}

/// Ranks that differ along `axes` only. In a group, the first axis varies slowest.
std::vector<std::vector<int64_t>> groups(const shard::Mesh& mesh, const std::string& axes) {
  std::vector<std::string> names;
  for (size_t at = 0; at <= axes.size();) {
    const size_t end = std::min(axes.find(',', at), axes.size());
    names.push_back(axes.substr(at, end - at));
    at = end + 1;
  }
  int64_t size = 1;
  for (const std::string& axis : names) size *= mesh.size(axis);
  std::map<std::vector<int64_t>, std::vector<int64_t>> by_place;  // along the other axes
  for (int64_t rank = 0; rank < mesh.devices(); ++rank) {
    int64_t index = 0;
    for (const std::string& axis : names) {
      index = index * mesh.size(axis) + mesh.coordinate(rank, axis);
    }
    std::vector<int64_t> place;
    for (const shard::MeshAxis& axis : mesh.axes()) {
      if (std::find(names.begin(), names.end(), axis.name) == names.end()) {
        place.push_back(mesh.coordinate(rank, axis.name));
      }
    }
    auto& members = by_place[place];
    members.resize(static_cast<size_t>(size));
    members[static_cast<size_t>(index)] = rank;
  }
  std::vector<std::vector<int64_t>> found;
  found.reserve(by_place.size());
  for (auto& [place, members] : by_place) found.push_back(std::move(members));
  return found;
}

class MeshRun {
 public:
  MeshRun(const ir::Graph& graph, const shard::Mesh& mesh, const Options& options)
      : graph_(graph), mesh_(mesh), options_(options) {
    for (int64_t rank = 0; rank < mesh.devices(); ++rank) {
      values_.push_back(std::make_unique<Values>(graph));
    }
  }

  OnMesh run(const OnMesh& inputs) {
    size_t next_input = 0;
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      const ir::Node& node = graph_.node(id);
      if (node.op == Op::input) {
        for (size_t r = 0; r < values_.size(); ++r) at(r)[id] = {inputs[r][next_input]};
        ++next_input;
      } else if (has_trait(node.op, ir::kMesh)) {
        collective(id, node);
      } else {
        for (size_t r = 0; r < values_.size(); ++r) {
          const Place place{mesh_, static_cast<int64_t>(r)};
          at(r)[id] = run_node(graph_, node, at(r), options_, &place);
        }
      }
      finish(id, node);
    }
    OnMesh outputs(values_.size());
    for (size_t r = 0; r < values_.size(); ++r) {
      for (const ir::Output& output : graph_.outputs()) {
        outputs[r].push_back(at(r)[output.value]);
      }
    }
    return outputs;
  }

 private:
  Values& at(size_t rank) { return *values_[rank]; }

  void collective(int32_t id, const ir::Node& node) {
    const std::string& axes = node.attrs.text(Attr::mesh_axes);
    ESPALIER_CONTEXT("{} in scope \"{}\" of graph {}", name(node.op), *node.scope, graph_.name());
    for (const std::vector<int64_t>& members : groups(mesh_, axes)) {
      ESPALIER_CHECK(static_cast<int64_t>(members.size()) == node.attrs.integer(Attr::devices),
                     ErrorKind::user, "interp",
                     "{} is over {} devices along {}; the mesh {} has {}", name(node.op),
                     node.attrs.integer(Attr::devices), axes, mesh_.str(), members.size());
      GroupCall call{node, {}, {}};
      static const Elements kNothing;
      for (int64_t rank : members) {
        call.in.push_back(
            node.inputs.empty() ? &kNothing : &at(static_cast<size_t>(rank))[node.inputs[0]].data);
      }
      if (!node.inputs.empty()) call.in_shape = graph_.type(node.inputs[0]).shape;
      std::vector<Elements> results = group_kernel(node.op)(call);
      for (size_t m = 0; m < members.size(); ++m) {
        round_elements(node.types[0].dtype, options_.round_f32, results[m]);
        at(static_cast<size_t>(members[m]))[id] = {{node.types[0], std::move(results[m])}};
      }
    }
  }

  void finish(int32_t id, const ir::Node& node) {
    for (size_t r = 0; r < values_.size(); ++r) {
      if (options_.watch) options_.watch(id, at(r)[id]);
      for (ir::Value v : node.inputs) at(r).used(v);
      at(r).drop_if_dead(id);
    }
  }

  const ir::Graph& graph_;
  const shard::Mesh& mesh_;
  const Options& options_;
  std::vector<std::unique_ptr<Values>> values_;
};

std::vector<size_t> piece_offsets(const Shape& whole, const shard::PartitionSpec& spec,
                                  const shard::Mesh& mesh, int64_t rank) {
  const shard::Region region = shard::region_of(whole, spec, mesh, rank);
  const std::vector<int64_t> strides = region.view.strides();
  int64_t base = 0;
  for (size_t d = 0; d < strides.size(); ++d) base += region.first[d] * strides[d];
  return offsets(region.size.dims(), strides, base);
}

}  // namespace

OnMesh evaluate_on_mesh(const ir::Graph& graph, const shard::Mesh& mesh, const OnMesh& inputs,
                        const Options& options) {
  ESPALIER_CHECK(static_cast<int64_t>(inputs.size()) == mesh.devices(), ErrorKind::user, "interp",
                 "there are inputs for {} devices, the mesh {} has {}", inputs.size(), mesh.str(),
                 mesh.devices());
  for (size_t rank = 0; rank < inputs.size(); ++rank) {
    ESPALIER_CONTEXT("rank {}", rank);
    check_inputs(graph, graph.inputs(), inputs[rank]);
  }
  return MeshRun(graph, mesh, options).run(inputs);
}

DoubleTensor take_piece(const DoubleTensor& whole, const shard::PartitionSpec& spec,
                        const shard::Mesh& mesh, int64_t rank) {
  return {{whole.type.dtype, spec.local_shape(whole.type.shape, mesh)},
          taken(whole.data, piece_offsets(whole.type.shape, spec, mesh, rank))};
}

void put_piece(const DoubleTensor& piece, const shard::PartitionSpec& spec, const shard::Mesh& mesh,
               int64_t rank, DoubleTensor& whole) {
  const std::vector<size_t> to = piece_offsets(whole.type.shape, spec, mesh, rank);
  ESPALIER_CHECK(to.size() == piece.data.size(), ErrorKind::user, "interp",
                 "{} is no piece {} of {}", piece.type.str(), spec.str(whole.type.shape.rank()),
                 whole.type.str());
  for (size_t i = 0; i < to.size(); ++i) whole.data[to[i]] = piece.data[i];
}

}  // namespace espalier::interp
