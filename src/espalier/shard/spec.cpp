// SPDX-License-Identifier: Apache-2.0
#include "espalier/shard/spec.h"

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier::shard {

PartitionSpec::PartitionSpec(std::initializer_list<std::vector<std::string>> axes_of_dims) {
  int64_t dim = 0;
  for (const std::vector<std::string>& axes : axes_of_dims) {
    for (const std::string& axis : axes) {
      ESPALIER_CHECK(dim_of(axis) < 0, ErrorKind::user, "shard",
                     "axis {} cuts two dimensions, {} and {}", axis, dim_of(axis), dim);
      cut(dim, axis);
    }
    ++dim;
  }
}

int64_t PartitionSpec::dim_of(std::string_view axis) const {
  for (const Cut& c : cuts_) {
    if (c.axis == axis) return c.dim;
  }
  return -1;
}

void PartitionSpec::cut(int64_t dim, std::string_view axis) {
  const auto after = std::upper_bound(cuts_.begin(), cuts_.end(), dim,
                                      [](int64_t d, const Cut& c) { return d < c.dim; });
  cuts_.insert(after, {static_cast<int32_t>(dim), std::string(axis)});
}

int64_t PartitionSpec::pieces(int64_t dim, const Mesh& mesh) const {
  int64_t count = 1;
  for (const Cut& c : cuts_) {
    if (c.dim == dim) count *= mesh.size(c.axis);
  }
  return count;
}

int64_t PartitionSpec::pieces(const Mesh& mesh) const {
  int64_t count = 1;
  for (const Cut& c : cuts_) count *= mesh.size(c.axis);
  return count;
}

Shape PartitionSpec::local_shape(const Shape& shape, const Mesh& mesh) const {
  Shape local = shape;
  for (const Cut& c : cuts_) {
    ESPALIER_CHECK(c.dim < shape.rank(), ErrorKind::user, "shard",
                   "{} cuts dimension {} of a tensor {}", str(shape.rank()), c.dim, shape.str());
    const int64_t count = mesh.size(c.axis);
    ESPALIER_CHECK(local[c.dim] % count == 0, ErrorKind::user, "shard",
                   "axis {} of {} devices does not divide dimension {} of {}, where {} are left",
                   c.axis, count, c.dim, shape.str(), local[c.dim]);
    local[c.dim] /= count;
  }
  return local;
}

std::string PartitionSpec::str(int64_t rank) const {
  if (cuts_.empty()) return "-";
  std::string text;
  for (int64_t dim = 0; dim < rank; ++dim) {
    std::vector<std::string_view> axes;
    for (const Cut& c : cuts_) {
      if (c.dim == dim) axes.push_back(c.axis);
    }
    text += dim == 0 ? "(" : ",";
    if (axes.empty()) {
      text += "-";
    } else if (axes.size() == 1) {
      text += axes[0];
    } else {
      text += fmt::format("({})", fmt::join(axes, ","));
    }
  }
  return text + ")";
}

PartitionSpec PartitionSpec::parse(std::string_view text) {
  PartitionSpec spec;
  if (text == "-") return spec;
  int64_t dim = 0;
  int depth = 0;
  std::string axis;
  const auto end_axis = [&] {
    ESPALIER_CHECK(!axis.empty() && (axis == "-" || spec.dim_of(axis) < 0), ErrorKind::user,
                   "shard", "\"{}\" is no partition spec; write (model,-) or ((data,model),-)",
                   text);
    if (axis != "-") spec.cut(dim, axis);
    axis.clear();
  };
  bool closed = false;  // after an inner parenthesis
  for (char c : text) {
    if (c == '(' && axis.empty() && depth < 2) {
      ++depth;
    } else if (c == ')') {
      if (!closed) end_axis();
      closed = depth == 2;
      --depth;
    } else if (c == ',') {
      if (!closed) end_axis();
      closed = false;
      if (depth == 1) ++dim;
    } else {
      axis += c;
    }
  }
  ESPALIER_CHECK(depth == 0 && axis.empty() && text.starts_with('('), ErrorKind::user, "shard",
                 "\"{}\" is no partition spec; write (model,-) or ((data,model),-)", text);
  return spec;
}

Region region_of(const Shape& shape, const PartitionSpec& spec, const Mesh& mesh, int64_t rank) {
  mesh.check_rank(rank);
  Region region{std::vector<int64_t>(static_cast<size_t>(shape.rank()), 0),
                spec.local_shape(shape, mesh)};
  Shape left = shape;
  for (const PartitionSpec::Cut& c : spec.cuts()) {
    left[c.dim] /= mesh.size(c.axis);
    region.first[static_cast<size_t>(c.dim)] += mesh.coordinate(rank, c.axis) * left[c.dim];
  }
  return region;
}

}  // namespace espalier::shard
