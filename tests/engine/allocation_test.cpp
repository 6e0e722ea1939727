// SPDX-License-Identifier: Apache-2.0
// A step allocates nothing of ours: operator new is counted for the whole program.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/engine/byte_lm_step.h"

namespace {
std::atomic<int64_t> allocations{0};
}

void* operator new(std::size_t size) {
  ++allocations;
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace espalier {
namespace {

TEST(Allocations, AStepMakesNone) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const bool flash : {true, false}) {
      testing::StepCase c;
      c.options.compile.compute_dtype = dtype;
      c.options.compile.flash = flash;
      train::Step step = testing::make_step(c);
      step.compile();
      step.initialize(3);
      const auto bytes = testing::sample_bytes(2 * c.batch * c.config.seq_len);
      step.set_batch("bytes", bytes.data());
      step.run();
      Executable& executable = step.executable();
      const int32_t input = executable.input_index("batch.bytes");
      const int64_t before = allocations;
      executable.set_input(input, bytes.data() + c.batch * c.config.seq_len);
      executable.run();
      EXPECT_EQ(allocations - before, 0) << name(dtype) << " flash " << flash;
    }
  }
}

TEST(Allocations, AreCounted) {
  const int64_t before = allocations;
  ::operator delete(::operator new(1));
  EXPECT_EQ(allocations - before, 1);
}

}  // namespace
}  // namespace espalier
