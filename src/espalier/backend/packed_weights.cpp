// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/packed_weights.h"

#include <memory>

#include "espalier/backend/cpu/exec/memory_block.h"
#include "espalier/base/error.h"

namespace espalier {

void PackedWeights::adopt(const std::map<std::string, HostTensor>& ready) {
  for (const auto& [key, memory] : ready) kept_.try_emplace(key, Kept{memory, true});
}

std::map<std::string, HostTensor> PackedWeights::all() const {
  std::map<std::string, HostTensor> result;
  for (const auto& [key, kept] : kept_) {
    if (kept.ready) result.emplace(key, kept.memory);
  }
  return result;
}

int64_t PackedWeights::bytes() const {
  int64_t sum = 0;
  for (const auto& [key, kept] : kept_) sum += kept.memory.bytes();
  return sum;
}

std::map<std::string, PackedWeights::Place> PackedWeights::places(
    const std::map<std::string, int64_t>& bytes) {
  constexpr int64_t kAlignment = 128;
  const auto aligned = [](int64_t n) { return (n + kAlignment - 1) / kAlignment * kAlignment; };
  int64_t fresh = 0;
  for (const auto& [key, size] : bytes) {
    const auto found = kept_.find(key);
    // An adopted one of another size is not what the key says.
    if (found != kept_.end() && found->second.memory.bytes() != size) kept_.erase(found);
    if (!kept_.contains(key)) fresh += aligned(size);
  }
  const auto block = std::make_shared<cpu::MemoryBlock>(fresh, "packed weights");
  std::map<std::string, Place> result;
  int64_t offset = 0;
  for (const auto& [key, size] : bytes) {
    auto found = kept_.find(key);
    if (found == kept_.end()) {
      const HostTensor memory(DType::u8, {size}, block->data() + offset, block);
      found = kept_.emplace(key, Kept{memory, false}).first;
      offset += aligned(size);
    }
    Kept& kept = found->second;
    result.emplace(key, Place{static_cast<std::byte*>(kept.memory.data()), kept.ready});
  }
  return result;
}

void PackedWeights::set_ready(const std::string& key) { kept_.at(key).ready = true; }

}  // namespace espalier
