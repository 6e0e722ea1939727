// SPDX-License-Identifier: Apache-2.0
// Runs a compiled loop on the team of threads.
//
// A loop without sums over outer axes is cut into one range a thread: values do not depend on the
// cut. A loop with such sums is cut into a number of ranges that depends on sizes only; each adds
// into zeroed partial sums of its own, and these are added up in order, so that the result does not
// depend on the number of threads either.
#include <omp.h>

#include <algorithm>
#include <cstring>

#include "espalier/backend/cpu/exec/kernel.h"
#include "espalier/base/error.h"

namespace espalier::cpu {
namespace {

constexpr int64_t kLine = 64;
/// Below this many element visits a loop is not worth waking the team.
constexpr int64_t kSerialWork = 8192;
/// Partial sums of one loop stay within this, so that adding them up stays cheap.
constexpr int64_t kPartialBytes = int64_t{2} << 20;
constexpr int64_t kMaxChunks = 64;

int64_t padded(int64_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

class LoopKernel final : public Kernel {
 public:
  LoopKernel(const plan::Step& step, LoopFn fn, int threads)
      : fn_(fn),
        threads_(threads),
        lowered_(step.loop),
        strides_(step.loop.stride_table()),
        thread_scratch_(padded(loop_scratch_bytes(step.loop.loop, step.loop.inner_extent))) {
    const bool flat = lowered_.loop.outer_rank == 0;
    total_ = flat ? lowered_.inner_extent : lowered_.outer_count();
    work_ = lowered_.outer_count() * lowered_.inner_extent;
    for (size_t i = 0; i < lowered_.bindings.size(); ++i) {
      if (lowered_.loop.operands[i].role != plan::OperandRole::accumulator) continue;
      const plan::Location& out = step.outputs[static_cast<size_t>(lowered_.bindings[i].number)];
      ESPALIER_CHECK(out.dtype == DType::f32, ErrorKind::unsupported, "loop",
                     "sums over outer axes are f32, not {}, at {}", espalier::name(out.dtype),
                     step.label);
      sums_.push_back({i, out.view.shape.numel(), partial_bytes_, nullptr});
      partial_bytes_ += padded(out.view.shape.numel() * 4);
    }
    if (!sums_.empty()) {
      const int64_t limit = std::clamp(kPartialBytes / partial_bytes_, int64_t{2}, kMaxChunks);
      const int64_t grain =
          std::max<int64_t>(1, total_ * kSerialWork / std::max<int64_t>(work_, 1));
      chunks_ = std::clamp((total_ + grain - 1) / grain, int64_t{1}, limit);
    }
    operands_.resize(lowered_.bindings.size());
    chunk_operands_.resize(static_cast<size_t>(chunks_) * operands_.size());
  }

  int64_t scratch_bytes() const override {
    return thread_scratch_ * threads_ + (sums_.empty() ? 0 : partial_bytes_ * chunks_);
  }

  void bind(const plan::Step& step, const Memory& memory, std::byte* scratch) override {
    scratch_ = scratch;
    partial_ = scratch + thread_scratch_ * threads_;
    for (size_t i = 0; i < lowered_.bindings.size(); ++i) {
      const plan::LoopBinding& b = lowered_.bindings[i];
      if (b.kind == plan::LoopBinding::Kind::index) {
        operands_[i] = reinterpret_cast<void*>(b.offset);
        continue;
      }
      const auto& list = b.kind == plan::LoopBinding::Kind::operand ? step.inputs : step.outputs;
      const plan::Location& location = list[static_cast<size_t>(b.number)];
      // The binding's offset already holds the view's.
      operands_[i] = memory.buffer(location.buffer) + b.offset * size_of(location.dtype);
    }
    for (Sum& sum : sums_) {
      const plan::Location& out =
          step.outputs[static_cast<size_t>(lowered_.bindings[sum.operand].number)];
      sum.result = reinterpret_cast<float*>(memory.at(out));
    }
    for (int64_t c = 0; c < chunks_; ++c) {
      void** mine = chunk_operands_.data() + static_cast<size_t>(c) * operands_.size();
      std::copy(operands_.begin(), operands_.end(), mine);
      for (const Sum& sum : sums_) mine[sum.operand] = partial_ + c * partial_bytes_ + sum.offset;
    }
  }

  void run() override {
    if (sums_.empty()) {
      run_ranges();
    } else {
      run_sums();
    }
  }

  std::string describe() const override {
    return fmt::format("loop {}x{}, {} instructions{}", lowered_.outer_count(),
                       lowered_.inner_extent, lowered_.loop.insts.size(),
                       sums_.empty() ? "" : fmt::format(", {} partial sums", chunks_));
  }

 private:
  struct Sum {
    size_t operand;
    int64_t count;
    int64_t offset;  // of the partial sum in a chunk's partials, bytes
    float* result;
  };

  void call(void* const* operands, int64_t begin, int64_t end, int thread) const {
    const plan::LoopCall call{operands,
                              lowered_.outer_extents.data(),
                              lowered_.inner_extent,
                              strides_.data(),
                              lowered_.ids.data(),
                              begin,
                              end,
                              scratch_ + thread * thread_scratch_};
    fn_(&call);
  }

  void run_ranges() {
    if (threads_ == 1 || work_ < kSerialWork || total_ == 1) {
      call(operands_.data(), 0, total_, 0);
      return;
    }
    // Flat ranges end on whole cache lines of every dtype, so that threads do not share one.
    const int64_t unit = lowered_.loop.outer_rank == 0 ? 64 : 1;
    const int64_t units = (total_ + unit - 1) / unit;
#pragma omp parallel num_threads(threads_)
    {
      const int64_t t = omp_get_thread_num();
      const int64_t n = omp_get_num_threads();
      const int64_t begin = std::min(total_, units * t / n * unit);
      const int64_t end = std::min(total_, units * (t + 1) / n * unit);
      if (begin < end) call(operands_.data(), begin, end, static_cast<int>(t));
    }
  }

  void run_chunk(int64_t c, int thread) const {
    std::memset(partial_ + c * partial_bytes_, 0, static_cast<size_t>(partial_bytes_));
    const int64_t begin = total_ * c / chunks_;
    const int64_t end = total_ * (c + 1) / chunks_;
    if (begin < end) {
      call(chunk_operands_.data() + static_cast<size_t>(c) * operands_.size(), begin, end, thread);
    }
  }

  void add_up(const Sum& sum, int64_t begin, int64_t end) const {
    for (int64_t i = begin; i < end; ++i) {
      float total = 0.0f;
      for (int64_t c = 0; c < chunks_; ++c) {
        total += reinterpret_cast<const float*>(partial_ + c * partial_bytes_ + sum.offset)[i];
      }
      sum.result[i] = total;
    }
  }

  void run_sums() {
    if (threads_ == 1 || work_ < kSerialWork || chunks_ == 1) {
      for (int64_t c = 0; c < chunks_; ++c) run_chunk(c, 0);
      for (const Sum& sum : sums_) add_up(sum, 0, sum.count);
      return;
    }
#pragma omp parallel num_threads(threads_)
    {
      const int thread = omp_get_thread_num();
      const int64_t n = omp_get_num_threads();
#pragma omp for schedule(static)
      for (int64_t c = 0; c < chunks_; ++c) run_chunk(c, thread);
      for (const Sum& sum : sums_)
        add_up(sum, sum.count * thread / n, sum.count * (thread + 1) / n);
    }
  }

  LoopFn fn_;
  int threads_;
  plan::LoweredLoop lowered_;
  std::vector<int64_t> strides_;
  int64_t thread_scratch_;
  int64_t total_ = 0;  // of what a range is cut from
  int64_t work_ = 0;
  std::vector<Sum> sums_;
  int64_t partial_bytes_ = 0;  // of one chunk
  int64_t chunks_ = 1;
  std::vector<void*> operands_;
  std::vector<void*> chunk_operands_;
  std::byte* scratch_ = nullptr;
  std::byte* partial_ = nullptr;
};

}  // namespace

std::unique_ptr<Kernel> make_loop_kernel(const plan::Step& step, LoopFn fn, int threads) {
  return std::make_unique<LoopKernel>(step, fn, threads);
}

}  // namespace espalier::cpu
