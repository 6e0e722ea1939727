// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/module_ref.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace espalier::nn {

std::string type_name(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), std::free);
  std::string name = status == 0 ? text.get() : type.name();
  // The library's own namespace says nothing to a reader.
  for (const std::string_view prefix : {"espalier::nn::", "espalier::models::", "espalier::"}) {
    if (name.starts_with(prefix)) return name.substr(prefix.size());
  }
  return name;
}

namespace detail {

void Walk::module(ModuleRef module) {
  module.type_->fields(module.module_, *this);
  on_module_(path_, module);
}

bool Walk::first_time(const void* shared) {
  if (std::find(seen_.begin(), seen_.end(), shared) != seen_.end()) return false;
  seen_.push_back(shared);
  return true;
}

}  // namespace detail

void ModuleRef::for_each_param(std::string& path, detail::OnLeaf fn) const {
  walk(
      path,
      [&](std::string_view at, Param& param) {
        if (!param.absent) fn(at, param);
      },
      detail::kNothing);
}

void ModuleRef::walk(std::string& path, detail::OnLeaf on_leaf, detail::OnModule on_module) const {
  detail::Walk(path, on_leaf, on_module).module(*this);
}

}  // namespace espalier::nn
