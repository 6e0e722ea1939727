// SPDX-License-Identifier: Apache-2.0
// Functions of this library that compiled loops call: what runs once per call or per row end, where
// a few instructions more do not matter and C++ is easier to read than emitted code.
#pragma once

#include <span>

namespace espalier::cpu::jit {

struct RuntimeSymbol {
  const char* name;
  void* address;
};
/// Every function compiled code may refer to, by its symbol name.
std::span<const RuntimeSymbol> runtime_symbols();

}  // namespace espalier::cpu::jit
