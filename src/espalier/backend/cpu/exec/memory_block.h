// SPDX-License-Identifier: Apache-2.0
// A block of zeroed memory straight from the system, in huge pages where it is large.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::cpu {

class MemoryBlock {
 public:
  MemoryBlock() = default;
  /// Throws `device` when the system has not that much.
  MemoryBlock(int64_t bytes, const char* what) : bytes_(bytes) {
    if (bytes == 0) return;
    data_ = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) {
      data_ = nullptr;
      fail(ErrorKind::device, "memory", "cannot map {} for the {}; use a smaller batch or remat",
           human_bytes(bytes), what);
    }
    // Small blocks keep small pages, so that what is resident is what is used.
    constexpr int64_t kHugeFrom = int64_t{64} << 20;
    if (bytes >= kHugeFrom) madvise(data_, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  }
  ~MemoryBlock() {
    if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
  }
  MemoryBlock(const MemoryBlock&) = delete;
  MemoryBlock& operator=(const MemoryBlock&) = delete;

  /// The pages go back to the system and are zero when they are touched again.
  void release() {
    if (data_ != nullptr) madvise(data_, static_cast<size_t>(bytes_), MADV_DONTNEED);
  }

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace espalier::cpu
