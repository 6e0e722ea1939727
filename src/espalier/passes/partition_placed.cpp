// SPDX-License-Identifier: Apache-2.0
#include "espalier/passes/partition_placed.h"

#include <algorithm>

namespace espalier::passes::part {

using ir::Node;
using ir::Op;
using ir::Value;
using shard::PartitionSpec;

PlacedValues::PlacedValues(const ir::Graph& graph, const PartitionOptions& options,
                           const ValueFacts& facts)
    : graph_(graph),
      options_(options),
      facts_(facts),
      out_(graph.name()),
      mover_(out_, options.mesh) {
  for (const Node& node : graph.nodes()) held_.emplace_back(node.types.size());
}

PartitionSpec PlacedValues::wish(Value v) const {
  return facts_.wish[static_cast<size_t>(v.node)].value_or(PartitionSpec());
}

std::string_view PlacedValues::label(Value v) const {
  if (source(v) == Source::parameters) return "parameters";
  if (shape(v).rank() == 0) return "scalars";
  return facts_.wish[static_cast<size_t>(v.node)] ? "gradients" : "activations";
}

// ---- places of values -------------------------------------------------------------------------

PartitionSpec PlacedValues::place_of(Value v) {
  const Held& h = held(v);
  return h.layout.open.empty() ? h.layout.spec : mover_.closed(h.layout, wanted(v));
}

PartitionSpec PlacedValues::wanted(Value v) {
  return facts_.wish[static_cast<size_t>(v.node)].value_or(held(v).scatter_to);
}

bool PlacedValues::is_open(Value v) {
  const Held& h = held(v);
  return h.kind == Held::Kind::made && !h.layout.open.empty();
}

Value PlacedValues::close(Value v) {
  Held& h = held(v);
  mover_.set_label(label(v));
  if (h.kind == Held::Kind::sum) return add_up(v);
  if (h.layout.open.empty()) return h.now;
  if (!h.closed_value.defined()) {
    Layout layout = h.layout;
    h.closed_value = mover_.close(h.now, layout, wanted(v));
  }
  return h.closed_value;
}

Value PlacedValues::get(Value v, const PartitionSpec& spec) {
  const bool again = options_.regather && backward_ && source(v) == Source::parameters;
  const std::pair<std::string, bool> key{spec.str(shape(v).rank()), again};
  const auto found = held(v).places.find(key);
  if (found != held(v).places.end()) return found->second;
  Value made;
  if (held(v).kind == Held::Kind::lazy) {
    made = make_lazy(v, spec);
  } else {
    // A sum that is needed in one place goes straight to it.
    const bool wished = facts_.wish[static_cast<size_t>(v.node)].has_value();
    if (is_open(v) && used_once(v) && !wished) held(v).scatter_to = spec;
    const PartitionSpec from = place_of(v);
    made = close(v);
    mover_.set_label(label(v));
    mover_.set_again(again);
    made = mover_.move(made, from, spec);
  }
  held(v).places.emplace(key, made);
  return made;
}

Value PlacedValues::make_lazy(Value v, const PartitionSpec& spec) {
  const Node& node = graph_.node(v);
  const OpFactors factors = partition_row(node.op).factors({graph_, node});
  Assigner assigner(factors, options_.mesh);
  assigner.offer(factors.results[0], spec, 0.0, [](const std::string&) { return 0; });
  const Assignment assignment = assigner.decide();
  std::vector<Value> in;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    in.push_back(get(node.inputs[i], spec_of(factors.inputs[i], assignment)));
  }
  const Shared<std::string> outer = out_.scope();
  out_.set_scope(node.scope);
  const Value made = emit(node, std::move(in), factors, assignment)[0];
  out_.set_scope(outer);
  return made;
}

std::vector<Value> PlacedValues::emit(const Node& node, std::vector<Value> in,
                                      const OpFactors& factors, const Assignment& assignment) {
  mover_.set_label("activations");
  return emit_local(
      {out_, mover_, options_.mesh, graph_, node, std::move(in), factors, assignment});
}

// ---- sums that stay open ----------------------------------------------------------------------

/// What a value adds to a sum: its own terms where nobody else needs it.
void PlacedValues::append_terms(Value v, bool minus, std::vector<Term>& terms) {
  const Held& h = held(v);
  const bool alone = used_once(v);
  if (alone && h.kind == Held::Kind::sum) {
    for (const Term& t : h.terms) terms.push_back({t.value, t.minus != minus, t.open});
  } else {
    terms.push_back({v, minus, alone && is_open(v)});
  }
}

bool PlacedValues::join(int32_t id) {
  const Node& node = graph_.node(id);
  std::vector<Term> terms;
  append_terms(node.inputs[0], false, terms);
  append_terms(node.inputs[1], node.op == Op::sub, terms);
  if (std::none_of(terms.begin(), terms.end(), [](const Term& t) { return t.open; })) {
    return false;
  }
  const Value v{id, 0};
  Held& h = held(v);
  const Layout first = held(terms[0].value).layout;
  const bool alike = std::all_of(terms.begin(), terms.end(), [&](const Term& t) {
    return t.open && held(t.value).layout == first;
  });
  if (alike) {
    h.layout = first;
    std::vector<std::pair<Value, bool>> parts;
    parts.reserve(terms.size());
    for (const Term& t : terms) parts.emplace_back(held(t.value).now, t.minus);
    h.now = total(parts);
    return true;
  }
  h.kind = Held::Kind::sum;
  h.terms = std::move(terms);
  const OpFactors factors = partition_row(Op::add).factors({graph_, node});
  Assigner assigner(factors, options_.mesh);
  for (const Term& t : h.terms) {
    offer(assigner, factors.results[0], t.value,
          t.open ? mover_.closed(held(t.value).layout, wish(v)) : place_of(t.value));
  }
  offer_wish(assigner, factors.results[0], v);
  h.layout.spec = spec_of(factors.results[0], assigner.decide());
  return true;
}

Value PlacedValues::total(std::vector<std::pair<Value, bool>> parts) {
  std::stable_partition(parts.begin(), parts.end(), [](const auto& p) { return !p.second; });
  Value sum = parts[0].second ? out_.add(Op::neg, {parts[0].first}) : parts[0].first;
  for (size_t i = 1; i < parts.size(); ++i) {
    sum = out_.add(parts[i].second ? Op::sub : Op::add, {sum, parts[i].first});
  }
  return sum;
}

/// Takes a sum: terms that are open in the same way first, so that one collective serves them.
Value PlacedValues::add_up(Value v) {
  Held& h = held(v);
  if (h.closed_value.defined()) return h.closed_value;
  const PartitionSpec place = h.layout.spec;
  std::vector<std::pair<Layout, std::vector<std::pair<Value, bool>>>> groups;
  std::vector<std::pair<Value, bool>> parts;
  for (const Term& t : h.terms) {
    if (!t.open) {
      parts.emplace_back(get(t.value, place), t.minus);
      continue;
    }
    const Held& of = held(t.value);
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const auto& g) { return g.first == of.layout; });
    if (group == groups.end()) group = groups.insert(group, {of.layout, {}});
    group->second.emplace_back(of.now, t.minus);
  }
  for (auto& [layout, members] : groups) {
    mover_.set_label(label(v));
    const Value sum = mover_.close(total(members), layout, place);
    parts.emplace_back(mover_.move(sum, layout.spec, place), false);
  }
  held(v).closed_value = total(parts);
  return held(v).closed_value;
}

void PlacedValues::offer(Assigner& assigner, const TensorFactors& dims, Value v,
                         const PartitionSpec& spec) const {
  const Source from = source(v);
  assigner.offer(dims, spec, static_cast<double>(shape(v).numel()), [&](const std::string& axis) {
    if (facts_.sample_axes.count(axis) != 0) return static_cast<int>(from);
    return from == Source::samples ? 1 : 2;
  });
}

void PlacedValues::offer_wish(Assigner& assigner, const TensorFactors& dims, Value v) const {
  assigner.offer(dims, wish(v), 0.0, [&](const std::string& axis) {
    return facts_.sample_axes.count(axis) != 0 ? 0 : 3;
  });
}

}  // namespace espalier::passes::part
