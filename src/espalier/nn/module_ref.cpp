// SPDX-License-Identifier: Apache-2.0
#include "espalier/nn/module_ref.h"

#include <cxxabi.h>

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

}  // namespace espalier::nn
