// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/module.h"

#include <map>

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::nn::detail {

void for_each_param(ModuleRef root, OnLeaf fn, Tied tied) {
  std::string path;
  root.walk(
      path,
      [&](std::string_view at, Param& leaf) {
        if (!leaf.absent && (tied == Tied::visit || leaf.tied_to.empty())) fn(at, leaf);
      },
      kNothing);
}

void for_each_module(ModuleRef root, OnModule fn, Root visit_root) {
  std::string path;
  root.walk(path, kNothing, [&](std::string_view at, ModuleRef module) {
    if (visit_root == Root::visit || !at.empty()) fn(at, module);
  });
}

std::vector<ModuleEntry> iter_module(ModuleRef root, Root visit_root) {
  std::vector<ModuleEntry> entries;
  for_each_module(
      root,
      [&](std::string_view path, ModuleRef module) {
        entries.push_back({std::string(path), module});
      },
      visit_root);
  return entries;
}

std::vector<LeafEntry> leaves_of(ModuleRef root, Tied tied) {
  std::vector<LeafEntry> leaves;
  for_each_param(
      root,
      [&](std::string_view path, Param& leaf) {
        leaves.push_back({std::string(path), &leaf});
      },
      tied);
  return leaves;
}

std::vector<std::string> param_paths(ModuleRef root, Tied tied) {
  std::vector<std::string> paths;
  for_each_param(
      root, [&](std::string_view path, Param&) { paths.emplace_back(path); }, tied);
  return paths;
}

std::vector<std::string> all_paths(ModuleRef root) {
  std::vector<std::string> paths;
  const auto add = [&](std::string_view at, const auto&) {
    if (!at.empty()) paths.emplace_back(at);
  };
  std::string path;
  root.walk(path, add, add);
  return paths;
}

int64_t param_count(ModuleRef root) {
  int64_t count = 0;
  for_each_param(
      root, [&](std::string_view, Param& p) { count += p.shape.numel(); }, Tied::skip);
  return count;
}

Param& param_at(ModuleRef root, std::string_view path) {
  Param* found = nullptr;
  for_each_param(
      root,
      [&](std::string_view at, Param& p) {
        if (at == path) found = &p;
      },
      Tied::visit);
  if (found == nullptr) {
    fail(ErrorKind::user, "nn", "no parameter at {}{}", path,
         nearest_hint(path, param_paths(root, Tied::visit)));
  }
  return *found;
}

void bind(ModuleRef root, ir::Builder& builder) {
  std::map<std::string, const Param*, std::less<>> owners;
  for_each_param(
      root,
      [&](std::string_view path, Param& p) {
        ESPALIER_CHECK(owners.emplace(path, &p).second, ErrorKind::user, "nn",
                       "two parameters at {}; fields of one module need different names", path);
        p.bound = Tensor(builder, builder.input(input_name(path), {p.dtype, p.shape}, "parameter"));
        if (p.dtype == DType::bf16 || p.dtype == DType::f16) {
          p.bound = convert(p.bound, DType::f32);
        }
      },
      Tied::skip);
  for_each_param(
      root,
      [&](std::string_view path, Param& p) {
        if (p.tied_to.empty()) return;
        const auto owner = owners.find(p.tied_to);
        if (owner == owners.end()) {
          fail(ErrorKind::user, "nn", "{} is tied to {}, where no parameter is{}", path, p.tied_to,
               nearest_hint(p.tied_to, param_paths(root, Tied::skip)));
        }
        ESPALIER_CHECK(owner->second->shape == p.shape && owner->second->dtype == p.dtype,
                       ErrorKind::user, "nn", "{} {}{} is tied to {} {}{}", path, name(p.dtype),
                       p.shape.str(), p.tied_to, name(owner->second->dtype),
                       owner->second->shape.str());
        p.bound = owner->second->bound;
      },
      Tied::visit);
}

void materialize(ModuleRef root, uint64_t seed) {
  for_each_param(
      root,
      [&](std::string_view path, Param& p) {
        p.data = HostTensor(p.dtype, p.shape);
        fill(p.init, seed, path, p.data);
      },
      Tied::skip);
}

}  // namespace espalier::nn::detail
