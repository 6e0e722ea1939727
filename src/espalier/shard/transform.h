// SPDX-License-Identifier: Apache-2.0
// Transforms of placements as data, and rules (glob, transform) read from text and TOML files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/shard/spec.h"
#include "espalier/tensor/dtype.h"

namespace espalier::shard {

enum class TransformKind : uint8_t {
  column_parallel,  // cuts what a layer makes: rows of a weight [out, in], with the bias
  row_parallel,     // cuts what a layer takes: columns of a weight [out, in]
  fully_shard,      // cuts the largest dimension that the axis divides
  tensor_parallel,  // cuts a given dimension
  replicate,        // keeps whole copies
  freeze,           // not trained
  with_dtype,       // changes the type of float parameters
  function,         // any function module -> module, given in C++
};

struct Transform {
  TransformKind kind = TransformKind::replicate;
  std::string axis = {};
  int64_t dim = 0;           // tensor_parallel
  int64_t stacked = 1;       // column_parallel: the rows are those of so many matrices
  int64_t min_size = 1024;   // fully_shard: parameters of fewer elements stay whole
  DType dtype = DType::f32;  // with_dtype

  /// "column_parallel(model)"
  std::string str() const;
  /// Reads what str() writes; throws `user` with the nearest name or what an argument should be.
  static Transform parse(std::string_view text);
};

/// A rule as it is written down.
struct RuleText {
  std::string glob;
  Transform transform;
  bool optional = false;  // may match nothing
  /// "GLOB=TRANSFORM" or "GLOB=TRANSFORM optional".
  static RuleText parse(std::string_view text);
};

/// Rules in the order in which they are tried.
struct PlanText {
  std::string name;
  std::vector<RuleText> rules;
};

/// Plans of a TOML file, to be applied in order; throws `data` naming file and line:
///
///   [[plan]]
///   name = "tensor parallel"
///   [[plan.rule]]
///   match = "*.intermediate.dense"
///   apply = "column_parallel(model)"
///   optional = true                    # may be left out
std::vector<PlanText> read_plan_file(const std::filesystem::path& path);
/// The same from text; `label` names it in messages.
std::vector<PlanText> parse_plans(std::string_view text, std::string_view label);

/// Plans by name, over the axes `data` and `model`: bert-tp, fsdp, bert-tp+fsdp. Throws `user` with
/// the nearest name.
std::vector<PlanText> preset(std::string_view name);

/// Cuts `dim` of a tensor along `axis`, within `groups`. Throws `user` naming both sizes when the
/// axis does not divide what is left of it; does nothing where the axis already cuts this
/// dimension.
void place(PartitionSpec& spec, const Shape& shape, int64_t dim, std::string_view axis,
           const Mesh& mesh, int64_t groups = 1);
/// Cuts the largest remaining dimension that `axis` divides (of equals that with the fewest cuts,
/// then the first). False where there is none; true where the axis cuts the tensor, now or before.
bool place_largest(PartitionSpec& spec, const Shape& shape, std::string_view axis,
                   const Mesh& mesh);

}  // namespace espalier::shard
