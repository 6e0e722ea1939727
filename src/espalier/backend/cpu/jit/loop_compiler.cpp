// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/jit/loop_compiler.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "espalier/backend/cpu/cpu_info.h"
#include "espalier/backend/cpu/jit/codegen.h"
#include "espalier/backend/cpu/jit/linker.h"
#include "espalier/backend/cpu/jit/loop_schedule.h"
#include "espalier/backend/cpu/jit/object_cache.h"
#include "espalier/base/error.h"

namespace espalier::cpu {
namespace {

// Counts up with every change of the code that a loop op becomes: older cached objects are then not
// found.
constexpr int kEmitterVersion = 2;

jit::CodegenTarget make_target(int vector_width) {
  const Isa isa = cpu_info().isa;
  jit::CodegenTarget target;
  target.avx512 = isa != Isa::avx2;
  target.width = vector_width ? vector_width : static_cast<int>(vector_bytes(isa) / 4);
  ESPALIER_CHECK(target.width == 4 || target.width == 8 || target.width == 16, ErrorKind::internal,
                 "jit", "the vector width is {}; known are 4, 8 and 16", vector_width);
  return target;
}

struct Job {
  const plan::Loop* loop = nullptr;
  std::string key;
  std::string digest;
  std::string name;
  std::string object;
  bool cached = false;
};

}  // namespace

struct LoopCompiler::Impl {
  JitOptions options;
  jit::CodegenTarget target;
  jit::ObjectCache cache;
  jit::Linker linker;
  mutable std::mutex mutex;
  std::unordered_map<std::string, LoopFn> functions;  // by Loop::key
  JitStats stats;

  explicit Impl(JitOptions given)
      : options(std::move(given)),
        target(make_target(options.vector_width)),
        cache(options.cache_dir) {}

  Job make_job(const plan::Loop& loop) const {
    Job job;
    job.loop = &loop;
    job.key = loop.key();
    job.digest =
        jit::digest(fmt::format("emitter {}, {}, {}", kEmitterVersion, target.text(), job.key));
    job.name = "espalier_loop_" + job.digest.substr(0, 24);
    return job;
  }

  /// Compiles jobs on several threads; each takes the next one that is left.
  void compile_jobs(std::vector<Job*> jobs) {
    // Longest first: the threads then end together.
    std::stable_sort(jobs.begin(), jobs.end(), [](const Job* a, const Job* b) {
      return a->loop->insts.size() > b->loop->insts.size();
    });
    std::atomic<size_t> next{0};
    std::exception_ptr error;
    std::mutex error_mutex;
    const auto work = [&] {
      try {
        std::unique_ptr<jit::Codegen> codegen;
        for (size_t i = next++; i < jobs.size(); i = next++) {
          if (!codegen) codegen = std::make_unique<jit::Codegen>(target);
          jobs[i]->object = codegen->object(*jobs[i]->loop, jobs[i]->name);
          cache.write(jobs[i]->digest, jobs[i]->object);
        }
      } catch (...) {
        const std::lock_guard lock(error_mutex);
        error = std::current_exception();
      }
    };
    const size_t count = std::min({static_cast<size_t>(std::max(options.threads, 1)), jobs.size(),
                                   static_cast<size_t>(std::max(cpu_info().cores, 1))});
    std::vector<std::thread> threads;
    for (size_t t = 1; t < count; ++t) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
    if (error) std::rethrow_exception(error);
  }
};

LoopCompiler::LoopCompiler(JitOptions options) : impl_(new Impl(std::move(options))) {}
LoopCompiler::~LoopCompiler() = default;

std::vector<LoopFn> LoopCompiler::compile(std::span<const plan::Loop> loops) {
  const std::lock_guard lock(impl_->mutex);
  const auto start = std::chrono::steady_clock::now();
  std::vector<Job> jobs;
  std::unordered_map<std::string, size_t> seen;
  std::vector<std::string> keys;
  for (const plan::Loop& loop : loops) {
    keys.push_back(loop.key());
    if (impl_->functions.contains(keys.back()) || !seen.emplace(keys.back(), jobs.size()).second) {
      continue;
    }
    jit::check_loop(loop);
    jobs.push_back(impl_->make_job(loop));
  }
  std::vector<Job*> missing;
  for (Job& job : jobs) {
    if (std::optional<std::string> object = impl_->cache.read(job.digest)) {
      job.object = std::move(*object);
      job.cached = true;
    } else {
      missing.push_back(&job);
    }
  }
  impl_->compile_jobs(missing);

  std::vector<std::string> objects, names;
  for (Job& job : jobs) {
    objects.push_back(std::move(job.object));
    names.push_back(job.name);
  }
  const std::vector<void*> addresses = impl_->linker.link(objects, names);
  for (size_t i = 0; i < jobs.size(); ++i) {
    impl_->functions[jobs[i].key] = reinterpret_cast<LoopFn>(addresses[i]);
  }
  std::vector<LoopFn> result;
  result.reserve(keys.size());
  for (const std::string& key : keys) result.push_back(impl_->functions.at(key));

  JitStats& stats = impl_->stats;
  stats.loops += static_cast<int64_t>(loops.size());
  stats.compiled += static_cast<int64_t>(missing.size());
  stats.from_cache += static_cast<int64_t>(jobs.size() - missing.size());
  stats.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

JitStats LoopCompiler::stats() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->stats;
}

std::string LoopCompiler::llvm_ir(const plan::Loop& loop) const {
  return jit::Codegen(impl_->target).ir(loop, impl_->make_job(loop).name);
}

std::string LoopCompiler::assembly(const plan::Loop& loop) const {
  return jit::Codegen(impl_->target).assembly(loop, impl_->make_job(loop).name);
}

int64_t loop_scratch_bytes(const plan::Loop& loop, int64_t inner_extent) {
  int64_t bytes = 0;
  for (const jit::Register reg : jit::make_schedule(loop).slots) bytes += jit::scratch_size(reg);
  return bytes * ((inner_extent + jit::kMaxBlock - 1) / jit::kMaxBlock * jit::kMaxBlock);
}

}  // namespace espalier::cpu
