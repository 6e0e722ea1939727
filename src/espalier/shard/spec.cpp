// SPDX-License-Identifier: Apache-2.0
#include "espalier/shard/spec.h"

#include <algorithm>
#include <charconv>

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

int64_t PartitionSpec::groups(int64_t dim) const {
  for (const Cut& c : cuts_) {
    if (c.dim == dim) return c.groups;
  }
  return 1;
}

void PartitionSpec::cut(int64_t dim, std::string_view axis, int64_t groups) {
  const bool cut_before =
      std::any_of(cuts_.begin(), cuts_.end(), [&](const Cut& c) { return c.dim == dim; });
  ESPALIER_CHECK(groups >= 1 && (!cut_before || groups == this->groups(dim)), ErrorKind::user,
                 "shard",
                 "axis {} cannot cut dimension {} within {} groups, others cut it within {}", axis,
                 dim, groups, this->groups(dim));
  const auto after = std::upper_bound(cuts_.begin(), cuts_.end(), dim,
                                      [](int64_t d, const Cut& c) { return d < c.dim; });
  cuts_.insert(after, {static_cast<int32_t>(dim), std::string(axis), groups});
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
    ESPALIER_CHECK(local[c.dim] % (c.groups * count) == 0, ErrorKind::user, "shard",
                   "axis {} of {} devices does not divide dimension {} of {}, where {} are left{}",
                   c.axis, count, c.dim, shape.str(), local[c.dim],
                   c.groups == 1 ? "" : fmt::format(" in {} groups", c.groups));
    local[c.dim] /= count;
  }
  return local;
}

std::string PartitionSpec::str(int64_t rank) const {
  if (cuts_.empty()) return "-";
  std::string text;
  for (int64_t dim = 0; dim < rank; ++dim) {
    std::vector<std::string> axes;
    for (const Cut& c : cuts_) {
      if (c.dim != dim) continue;
      axes.push_back(c.groups == 1 ? c.axis : fmt::format("{}*{}", c.groups, c.axis));
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
    const size_t star = axis.find('*');
    const std::string name = star == std::string::npos ? axis : axis.substr(star + 1);
    int64_t groups = 1;
    bool right = !name.empty() && (axis == "-" || spec.dim_of(name) < 0);
    if (star != std::string::npos) {
      const auto [end, error] = std::from_chars(axis.data(), axis.data() + star, groups);
      right =
          right && error == std::errc() && end == axis.data() + star && groups > 1 && name != "-";
    }
    ESPALIER_CHECK(right, ErrorKind::user, "shard",
                   "\"{}\" is no partition spec; write (model,-), ((data,model),-) or (3*model,-)",
                   text);
    if (axis != "-") spec.cut(dim, name, groups);
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
                 "\"{}\" is no partition spec; write (model,-), ((data,model),-) or (3*model,-)",
                 text);
  return spec;
}

Region region_of(const Shape& shape, const PartitionSpec& spec, const Mesh& mesh, int64_t rank) {
  mesh.check_rank(rank);
  spec.local_shape(shape, mesh);     // which checks that they fit
  std::vector<int64_t> view, place;  // place: of each dimension of the tensor in the view
  for (int64_t dim = 0; dim < shape.rank(); ++dim) {
    const int64_t groups = spec.groups(dim);
    if (groups > 1) view.push_back(groups);
    place.push_back(static_cast<int64_t>(view.size()));
    view.push_back(shape[dim] / groups);
  }
  Region region{std::vector<int64_t>(view.size(), 0), Shape(view), Shape(view)};
  for (const PartitionSpec::Cut& c : spec.cuts()) {
    const int64_t at = place[static_cast<size_t>(c.dim)];
    region.size[at] /= mesh.size(c.axis);
    region.first[static_cast<size_t>(at)] += mesh.coordinate(rank, c.axis) * region.size[at];
  }
  return region;
}

}  // namespace espalier::shard
