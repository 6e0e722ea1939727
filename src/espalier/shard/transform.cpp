// SPDX-License-Identifier: Apache-2.0
#include "espalier/shard/transform.h"

#include <array>
#include <charconv>

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::shard {
namespace {

struct Syntax {
  TransformKind kind;
  std::string_view name;
  std::string_view usage;
};
constexpr std::array<Syntax, 7> kSyntax{{
    {TransformKind::column_parallel, "column_parallel",
     "column_parallel(AXIS) or column_parallel(AXIS, MATRICES) for stacked ones"},
    {TransformKind::row_parallel, "row_parallel", "row_parallel(AXIS)"},
    {TransformKind::fully_shard, "fully_shard", "fully_shard(AXIS) or fully_shard(AXIS, MIN_SIZE)"},
    {TransformKind::tensor_parallel, "tensor_parallel", "tensor_parallel(AXIS, DIM)"},
    {TransformKind::replicate, "replicate", "replicate"},
    {TransformKind::freeze, "freeze", "freeze"},
    {TransformKind::with_dtype, "with_dtype", "with_dtype(TYPE), one of f32, bf16, f16, f64"},
}};

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> arguments_of(std::string_view inside) {
  std::vector<std::string_view> arguments;
  while (!trim(inside).empty()) {
    const size_t comma = std::min(inside.find(','), inside.size());
    arguments.push_back(trim(inside.substr(0, comma)));
    inside.remove_prefix(std::min(comma + 1, inside.size()));
  }
  return arguments;
}

/// A size or index, or nothing.
std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

/// False where the arguments are not those of the transform.
bool take_arguments(Transform& t, const std::vector<std::string_view>& arguments) {
  const size_t count = arguments.size();
  switch (t.kind) {
    case TransformKind::column_parallel: {
      if (count < 1 || count > 2 || arguments[0].empty()) return false;
      t.axis = arguments[0];
      if (count == 1) return true;
      const auto stacked = number(arguments[1]);
      if (stacked) t.stacked = *stacked;
      return stacked.value_or(0) > 0;
    }
    case TransformKind::row_parallel:
      if (count != 1 || arguments[0].empty()) return false;
      t.axis = arguments[0];
      return true;
    case TransformKind::fully_shard: {
      if (count < 1 || count > 2 || arguments[0].empty()) return false;
      t.axis = arguments[0];
      if (count == 1) return true;
      const auto size = number(arguments[1]);
      if (size) t.min_size = *size;
      return size.has_value();
    }
    case TransformKind::tensor_parallel: {
      const auto dim = count == 2 ? number(arguments[1]) : std::nullopt;
      if (!dim || arguments[0].empty()) return false;
      t.axis = arguments[0];
      t.dim = *dim;
      return true;
    }
    case TransformKind::with_dtype: {
      const auto dtype = count == 1 ? parse_dtype(arguments[0]) : std::nullopt;
      if (!dtype || !is_float(*dtype)) return false;
      t.dtype = *dtype;
      return true;
    }
    case TransformKind::replicate:
    case TransformKind::freeze:
      return count == 0;
    case TransformKind::function:
      break;
  }
  return false;
}

}  // namespace

std::string Transform::str() const {
  switch (kind) {
    case TransformKind::column_parallel:
      return stacked == 1 ? fmt::format("column_parallel({})", axis)
                          : fmt::format("column_parallel({}, {})", axis, stacked);
    case TransformKind::row_parallel:
      return fmt::format("row_parallel({})", axis);
    case TransformKind::fully_shard:
      return min_size == Transform().min_size ? fmt::format("fully_shard({})", axis)
                                              : fmt::format("fully_shard({}, {})", axis, min_size);
    case TransformKind::tensor_parallel:
      return fmt::format("tensor_parallel({}, {})", axis, dim);
    case TransformKind::replicate:
      return "replicate";
    case TransformKind::freeze:
      return "freeze";
    case TransformKind::with_dtype:
      return fmt::format("with_dtype({})", name(dtype));
    case TransformKind::function:
      break;
  }
  return "function";
}

Transform Transform::parse(std::string_view text) {
  text = trim(text);
  const size_t open = std::min(text.find('('), text.size());
  const std::string_view name = trim(text.substr(0, open));
  const bool closed = open == text.size() || text.back() == ')';
  std::vector<std::string> names;
  for (const Syntax& s : kSyntax) {
    names.emplace_back(s.name);
    if (s.name != name) continue;
    Transform t{.kind = s.kind};
    const std::string_view inside =
        open == text.size() || !closed ? "" : text.substr(open + 1, text.size() - open - 2);
    ESPALIER_CHECK(closed && take_arguments(t, arguments_of(inside)), ErrorKind::user, "plan",
                   "\"{}\" cannot be read; write {}", text, s.usage);
    return t;
  }
  fail(ErrorKind::user, "plan", "no transform is called \"{}\"{}", name, nearest_hint(name, names));
}

RuleText RuleText::parse(std::string_view text) {
  const size_t equals = text.rfind('=');
  ESPALIER_CHECK(equals != std::string_view::npos && equals > 0, ErrorKind::user, "plan",
                 "rule \"{}\" is not GLOB=TRANSFORM, as in '*.intermediate.dense="
                 "column_parallel(model)'",
                 text);
  RuleText rule{.glob = std::string(text.substr(0, equals)), .transform = {}};
  std::string_view apply = trim(text.substr(equals + 1));
  constexpr std::string_view kOptional = " optional";
  if (apply.ends_with(kOptional)) {
    rule.optional = true;
    apply.remove_suffix(kOptional.size());
  }
  rule.transform = Transform::parse(apply);
  return rule;
}

void place(PartitionSpec& spec, const Shape& shape, int64_t dim, std::string_view axis,
           const Mesh& mesh, int64_t groups) {
  const int64_t count = mesh.size(axis);
  const int64_t before = spec.dim_of(axis);
  if (before == dim) return;
  ESPALIER_CHECK(before < 0, ErrorKind::user, "plan",
                 "axis {} shall cut dimension {} and already cuts dimension {} of {}", axis, dim,
                 before, shape.str());
  ESPALIER_CHECK(dim < shape.rank(), ErrorKind::user, "plan", "there is no dimension {} in {}", dim,
                 shape.str());
  const int64_t pieces = spec.pieces(dim, mesh);
  // A rule for the dimension as one goes inside the groups of those before.
  if (groups == 1) groups = spec.groups(dim);
  ESPALIER_CHECK(shape[dim] % (groups * pieces * count) == 0, ErrorKind::user, "plan",
                 "axis {} of {} devices does not divide dimension {} of {}, of size {}{}{}", axis,
                 count, dim, shape.str(), shape[dim],
                 pieces == 1 ? "" : fmt::format(" in {} pieces", pieces),
                 groups == 1 ? "" : fmt::format(" of {} matrices", groups));
  spec.cut(dim, axis, groups);
}

bool place_largest(PartitionSpec& spec, const Shape& shape, std::string_view axis,
                   const Mesh& mesh) {
  const int64_t count = mesh.size(axis);
  if (spec.dim_of(axis) >= 0) return true;
  int64_t best = -1, best_size = 0, best_pieces = 0;
  for (int64_t dim = 0; dim < shape.rank(); ++dim) {
    const int64_t pieces = spec.pieces(dim, mesh);
    const int64_t left = shape[dim] / pieces;
    if (left == 0 || left % (spec.groups(dim) * count) != 0) continue;
    if (left > best_size || (left == best_size && pieces < best_pieces)) {
      best = dim;
      best_size = left;
      best_pieces = pieces;
    }
  }
  if (best >= 0) spec.cut(best, axis, spec.groups(best));
  return best >= 0;
}

}  // namespace espalier::shard
