// SPDX-License-Identifier: Apache-2.0
// Puts compiled objects into this process's memory (ORC with JITLink).
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace espalier::cpu::jit {

class Linker {
 public:
  Linker();
  ~Linker();

  /// Links objects and returns the address of each one's function `names[i]`. The memory is freed
  /// with the linker. Throws `internal` when an object is not what it should be.
  std::vector<void*> link(const std::vector<std::string>& objects,
                          const std::vector<std::string>& names);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace espalier::cpu::jit
