// SPDX-License-Identifier: Apache-2.0
// A step allocates nothing of ours: every way to get heap memory is counted for the whole program,
// and what oneDNN's own code asks for is counted apart.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#include "espalier/backend/cpu/matmul/matmul.h"
#include "tests/engine/byte_lm_step.h"
#include "tests/support/bert_step.h"

// glibc's functions behind the ones that are replaced here.
extern "C" {
void* __libc_malloc(size_t size);                      // NOLINT
void* __libc_calloc(size_t count, size_t size);        // NOLINT
void* __libc_realloc(void* old, size_t size);          // NOLINT
void* __libc_memalign(size_t alignment, size_t size);  // NOLINT
}

namespace {

std::atomic<int64_t> ours{0}, onednns{0};
std::atomic<uintptr_t> onednn_begin{0}, onednn_end{0};

/// `caller`: the return address of the function that allocates.
void count(void* caller) {
  const auto at = reinterpret_cast<uintptr_t>(caller);
  ++(at >= onednn_begin && at < onednn_end ? onednns : ours);
}

/// Where the code of oneDNN lies.
void find_onednn() {
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void*) {
        if (std::strstr(info->dlpi_name, "libdnnl") == nullptr) return 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_LOAD || (header.p_flags & PF_X) == 0) continue;
          onednn_begin = info->dlpi_addr + header.p_vaddr;
          onednn_end = onednn_begin + header.p_memsz;
        }
        return 1;
      },
      nullptr);
}

struct Counts {
  int64_t ours = 0, onednns = 0;
};

template <typename Run>
Counts allocations_of(Run run) {
  if (onednn_end == 0) find_onednn();
  const Counts before{ours, onednns};
  run();
  return {ours - before.ours, onednns - before.onednns};
}

}  // namespace

extern "C" {
void* malloc(size_t size) {
  count(__builtin_return_address(0));
  return __libc_malloc(size);
}
void* calloc(size_t count_of, size_t size) {
  count(__builtin_return_address(0));
  return __libc_calloc(count_of, size);
}
void* realloc(void* old, size_t size) {
  count(__builtin_return_address(0));
  return __libc_realloc(old, size);
}
void* memalign(size_t alignment, size_t size) {
  count(__builtin_return_address(0));
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  count(__builtin_return_address(0));
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** result, size_t alignment, size_t size) {
  count(__builtin_return_address(0));
  *result = __libc_memalign(alignment, size);
  return *result == nullptr ? ENOMEM : 0;
}
}

// The library's own operators call malloc, which would hide who asks for memory.
void* operator new(std::size_t size) {
  count(__builtin_return_address(0));
  if (void* p = __libc_malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  count(__builtin_return_address(0));
  if (void* p = __libc_memalign(static_cast<size_t>(alignment), size)) return p;
  throw std::bad_alloc();
}
// Not inlined: beside a call of `new` GCC would take the `free` for a mistake.
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}

namespace espalier {
namespace {

TEST(Allocations, AByteLmStepMakesNone) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const bool fuse : {true, false}) {
      for (const bool flash : {true, false}) {
        testing::StepCase c;
        c.options.compile.compute_dtype = dtype;
        c.options.compile.fuse = fuse;
        c.options.compile.flash = flash;
        train::Step step = testing::make_step(c);
        step.compile();
        step.initialize(3);
        const auto bytes = testing::sample_bytes(2 * c.batch * c.config.seq_len);
        step.set_batch("bytes", bytes.data());
        step.run();
        Executable& executable = step.executable();
        const int32_t input = executable.input_index("batch.bytes");
        const auto run = [&] {
          executable.set_input(input, bytes.data() + c.batch * c.config.seq_len);
          executable.run();
        };
        const Counts first = allocations_of(run);
        EXPECT_EQ(first.ours, 0) << name(dtype) << " fuse " << fuse << " flash " << flash;
        EXPECT_EQ(allocations_of(run).onednns, first.onednns) << name(dtype);
      }
    }
  }
}

TEST(Allocations, ABertStepMakesNone) {
  for (const int64_t parts : {1, 2}) {
    testing::BertCase c;
    c.options.compile = {.threads = 2};
    const train::BertBatch batch = testing::BertRows(4).batch(parts);
    train::Step step = testing::bert_step(c, batch);
    step.initialize(3);
    train::set_bert_batch(step, batch);
    step.run();
    const auto run = [&] { step.executable().run(); };
    const Counts first = allocations_of(run);
    EXPECT_EQ(first.ours, 0) << parts << " parts";
    EXPECT_EQ(allocations_of(run).onednns, first.onednns) << parts << " parts";
  }
}

/// Products that oneDNN computes: what it takes for itself is the same at every call.
TEST(Allocations, OfOneDnnAreItsOwnFewAndConstant) {
  const int64_t n = 96;
  cpu::MatmulDesc desc;
  desc.m = desc.n = desc.k = n;
  desc.a = desc.b = desc.c = cpu::row_major(n);
  const auto plan = cpu::Matmul::create(desc, {.threads = 2, .implementation = "onednn"});
  const HostTensor a(DType::f32, {n, n}), b(DType::f32, {n, n});
  HostTensor c(DType::f32, {n, n});
  HostTensor scratch(DType::u8, {std::max<int64_t>(1, plan->scratch_bytes())});
  const auto run = [&] { plan->run(a.data(), b.data(), nullptr, c.data(), scratch.data()); };
  run();
  const Counts first = allocations_of(run);
  EXPECT_EQ(first.ours, 0);
  EXPECT_LT(first.onednns, 20);
  for (int i = 0; i < 5; ++i) {
    const Counts next = allocations_of(run);
    EXPECT_EQ(next.ours, 0);
    EXPECT_EQ(next.onednns, first.onednns);
  }
  printf("oneDNN allocates %lld times a product\n", static_cast<long long>(first.onednns));
}

TEST(Allocations, AreCounted) {
  const auto made = [](auto make) { return allocations_of(make).ours; };
  EXPECT_EQ(made([] { ::operator delete(::operator new(1)); }), 1);
  EXPECT_EQ(made([] {
              const auto alignment = std::align_val_t(64);
              ::operator delete(::operator new(64, alignment), alignment);
            }),
            1);
  void* volatile kept = nullptr;  // keeps the compiler from leaving pairs out
  const auto freed = [&](void* p) {
    kept = p;
    std::free(kept);
  };
  EXPECT_EQ(made([&] { freed(std::malloc(8)); }), 1);
  EXPECT_EQ(made([&] { freed(std::calloc(2, 8)); }), 1);
  EXPECT_EQ(made([&] { freed(std::aligned_alloc(64, 64)); }), 1);
  EXPECT_NE(onednn_begin, 0u) << "oneDNN is a library of its own";
}

}  // namespace
}  // namespace espalier
