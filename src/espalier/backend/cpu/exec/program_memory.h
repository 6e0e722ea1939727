// SPDX-License-Identifier: Apache-2.0
// Where the buffers of a program are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "espalier/backend/cpu/exec/kernel.h"
#include "espalier/backend/cpu/exec/memory_block.h"
#include "espalier/plan/program.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier::cpu {

/// Buffers of a program in four places: arena, state block, state of another executable, memory of
/// the caller.
class ProgramMemory final : public Memory {
 public:
  ProgramMemory(const plan::Program& program, std::map<int32_t, HostTensor> borrowed)
      : program_(program),
        borrowed_(std::move(borrowed)),
        arena_(std::make_unique<MemoryBlock>(program.arena_bytes, "arena")),
        state_(std::make_shared<MemoryBlock>(program.state_bytes, "state")),
        external_(program.buffers.size(), nullptr) {
    for (auto& [id, tensor] : borrowed_) set_external(id, tensor.data());
  }

  std::byte* buffer(int32_t id) const override {
    const int32_t root = program_.root(id);
    const plan::Buffer& b = program_.buffers[static_cast<size_t>(root)];
    switch (b.kind) {
      case plan::BufferKind::arena:
        return arena_->data() + b.offset;
      case plan::BufferKind::state:
        if (b.borrowed) break;
        return state_->data() + b.offset;
      case plan::BufferKind::external:
        break;
    }
    return external_[static_cast<size_t>(root)];
  }
  /// Whether it lay elsewhere before.
  bool set_external(int32_t id, const void* data) {
    std::byte*& place = external_[static_cast<size_t>(id)];
    auto* const now = static_cast<std::byte*>(const_cast<void*>(data));
    return std::exchange(place, now) != now;
  }
  HostTensor state(int32_t id, const ir::TensorType& type) const {
    const auto found = borrowed_.find(id);
    if (found != borrowed_.end()) return found->second;
    return {type.dtype, type.shape, buffer(id), state_};
  }
  void release_arena() { arena_->release(); }

 private:
  const plan::Program& program_;
  std::map<int32_t, HostTensor> borrowed_;
  std::unique_ptr<MemoryBlock> arena_;
  std::shared_ptr<MemoryBlock> state_;
  std::vector<std::byte*> external_;
};

}  // namespace espalier::cpu
