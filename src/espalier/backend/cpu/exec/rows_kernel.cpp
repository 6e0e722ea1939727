// SPDX-License-Identifier: Apache-2.0
// Rows of a table: gather copies them, scatter_add adds to them.
//
// scatter_add gives each thread a stripe of columns and lets it walk all rows in order: no two
// threads write one element and the order of additions is the order of the indices, whatever the
// number of threads. An index outside the table reads zeros and adds nothing.
#include <omp.h>

#include <algorithm>
#include <cstring>

#include "espalier/backend/cpu/exec/kernel.h"
#include "espalier/base/error.h"

namespace espalier::cpu {
namespace {

int64_t index_at(const void* indices, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::u8:
      return static_cast<const uint8_t*>(indices)[i];
    case DType::i32:
      return static_cast<const int32_t*>(indices)[i];
    default:
      return static_cast<const int64_t*>(indices)[i];
  }
}

class GatherKernel final : public Kernel {
 public:
  GatherKernel(const plan::Step& step, int threads)
      : threads_(threads),
        rows_(step.inputs[0].view.shape[0]),
        row_bytes_(step.inputs[0].view.shape[1] * size_of(step.inputs[0].dtype)),
        count_(step.inputs[1].view.shape.numel()),
        index_dtype_(step.inputs[1].dtype) {}

  void bind(const plan::Step& step, const Memory& memory, std::byte*) override {
    table_ = memory.at(step.inputs[0]);
    indices_ = memory.at(step.inputs[1]);
    out_ = memory.at(step.outputs[0]);
  }
  void run() override {
#pragma omp parallel for schedule(static) num_threads(threads_)
    for (int64_t i = 0; i < count_; ++i) {
      const int64_t row = index_at(indices_, index_dtype_, i);
      std::byte* to = out_ + i * row_bytes_;
      if (row >= 0 && row < rows_) {
        std::memcpy(to, table_ + row * row_bytes_, static_cast<size_t>(row_bytes_));
      } else {
        std::memset(to, 0, static_cast<size_t>(row_bytes_));
      }
    }
  }
  std::string describe() const override { return fmt::format("{} rows of {}", count_, rows_); }

 private:
  int threads_;
  int64_t rows_, row_bytes_, count_;
  DType index_dtype_;
  const std::byte* table_ = nullptr;
  const void* indices_ = nullptr;
  std::byte* out_ = nullptr;
};

class ScatterAddKernel final : public Kernel {
 public:
  ScatterAddKernel(const plan::Step& step, int threads)
      : threads_(threads),
        rows_(step.outputs[0].view.shape[0]),
        columns_(step.outputs[0].view.shape[1]),
        count_(step.inputs[0].view.shape.numel()),
        index_dtype_(step.inputs[0].dtype) {
    ESPALIER_CHECK(step.inputs[1].dtype == DType::f32, ErrorKind::unsupported, "scatter_add",
                   "adds f32 rows, not {}, at {}", espalier::name(step.inputs[1].dtype),
                   step.label);
  }

  void bind(const plan::Step& step, const Memory& memory, std::byte*) override {
    indices_ = memory.at(step.inputs[0]);
    updates_ = reinterpret_cast<const float*>(memory.at(step.inputs[1]));
    out_ = reinterpret_cast<float*>(memory.at(step.outputs[0]));
  }
  void run() override {
    constexpr int64_t kStripe = 16;  // floats of a cache line
    const int64_t stripes = (columns_ + kStripe - 1) / kStripe;
#pragma omp parallel num_threads(threads_)
    {
      const int64_t t = omp_get_thread_num();
      const int64_t n = omp_get_num_threads();
      const int64_t begin = std::min(columns_, stripes * t / n * kStripe);
      const int64_t end = std::min(columns_, stripes * (t + 1) / n * kStripe);
      if (begin < end) add_columns(begin, end);
    }
  }
  std::string describe() const override { return fmt::format("{} rows into {}", count_, rows_); }

 private:
  void add_columns(int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows_; ++r) {
      std::memset(out_ + r * columns_ + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
    }
    for (int64_t i = 0; i < count_; ++i) {
      const int64_t row = index_at(indices_, index_dtype_, i);
      if (row < 0 || row >= rows_) continue;
      float* to = out_ + row * columns_;
      const float* from = updates_ + i * columns_;
      for (int64_t c = begin; c < end; ++c) to[c] += from[c];
    }
  }

  int threads_;
  int64_t rows_, columns_, count_;
  DType index_dtype_;
  const void* indices_ = nullptr;
  const float* updates_ = nullptr;
  float* out_ = nullptr;
};

}  // namespace

std::unique_ptr<Kernel> make_gather_kernel(const plan::Step& step, int threads) {
  return std::make_unique<GatherKernel>(step, threads);
}
std::unique_ptr<Kernel> make_scatter_add_kernel(const plan::Step& step, int threads) {
  return std::make_unique<ScatterAddKernel>(step, threads);
}

}  // namespace espalier::cpu
