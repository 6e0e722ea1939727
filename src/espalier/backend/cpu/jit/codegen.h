// SPDX-License-Identifier: Apache-2.0
// Loops to relocatable objects through LLVM. One Codegen per thread.
#pragma once

#include <memory>
#include <string>

#include "espalier/plan/loop.h"

namespace espalier::cpu::jit {

/// What the code is made for. Generic processor levels rather than the model at hand: an object in
/// the cache then serves every machine of the level.
struct CodegenTarget {
  bool avx512 = false;  // else AVX2, FMA, F16C
  int width = 8;        // f32 lanes

  /// Names the target and the LLVM version: part of the cache key.
  std::string text() const;
};

class Codegen {
 public:
  explicit Codegen(CodegenTarget target);
  ~Codegen();

  /// ELF object that defines function `name`.
  std::string object(const plan::Loop& loop, const std::string& name);
  std::string ir(const plan::Loop& loop, const std::string& name);
  std::string assembly(const plan::Loop& loop, const std::string& name);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace espalier::cpu::jit
