// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/matmul/packed_gemm.h"

#include <omp.h>

#include <algorithm>
#include <utility>

#include "espalier/base/error.h"

namespace espalier::cpu {
namespace {

constexpr int64_t kLine = 16;                      // floats of a cache line
constexpr int64_t kStageBytes = int64_t{8} << 20;  // packed B kept in the last-level cache
constexpr int64_t kLongestBlock = 512;             // k of one block
constexpr double kFlopsPerThread = 1e6;            // below, waking a thread costs more than it does

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
/// Start of part `i` of `parts` equal parts of [0, n).
int64_t part(int64_t n, int64_t parts, int64_t i) { return n * i / parts; }

const void* at(const void* base, DType dtype, int64_t element) {
  return static_cast<const char*>(base) + element * size_of(dtype);
}
void* at(void* base, DType dtype, int64_t element) {
  return static_cast<char*>(base) + element * size_of(dtype);
}

}  // namespace

struct PackedGemm::Call {
  const void* a;
  const void* b;
  const void* packed;
  const float* bias;
  void* c;
  float* scratch;
};

/// The threads that work on one matrix, and this one's place among them.
struct PackedGemm::Team {
  int rank;
  int size;
  int thread;  // index of this thread's own scratch
  float* b_buffer;
  int64_t stages = 0;  // passed so far: alternates buffers and counters
};

PackedGemm::PackedGemm(const MatmulDesc& desc, const GemmKernels& kernels, const CpuInfo& cpu,
                       int threads)
    : desc_(desc), kernels_(kernels), threads_(threads), l2_bytes_(cpu.l2_bytes) {
  // C^T = B^T A^T: the vector operand must run along the contiguous side of C.
  if (desc.n == 1 || (desc.c.col != 1 && desc.c.row == 1 && desc.m > 1)) {
    swapped_ = true;
    std::swap(desc_.m, desc_.n);
    std::swap(desc_.a, desc_.b);
    std::swap(desc_.a_dtype, desc_.b_dtype);
    std::swap(desc_.c.row, desc_.c.col);
    std::swap(desc_.a.row, desc_.a.col);
    std::swap(desc_.b.row, desc_.b.col);
  }
  staged_ = desc_.c_dtype != DType::f32 || (desc_.c.col != 1 && desc_.n > 1);
  epilogue_ = desc_.bias || desc_.activation != Activation::none;
  inside_tile_ = !(desc_.bias && swapped_) &&
                 (desc_.activation == Activation::none || desc_.activation == Activation::relu);
  const double flops = desc_.flops() / static_cast<double>(desc_.batch());
  per_matrix_ = desc_.batch() >= 4 * threads || (desc_.batch() > 1 && flops < 4 * kFlopsPerThread);
  choose_blocks(cpu);
  const GemmBlocks& blocks = blocks_;
  // An odd number of lines between panels keeps them out of each other's cache sets.
  a_panel_ = round_up(blocks.kc * kernels_.mr + kPackSpill, kLine);
  if (a_panel_ / kLine % 2 == 0) a_panel_ += kLine;
  b_panel_ = round_up(blocks.kc * kernels_.nr + kPackSpill, kLine);
  a_floats_ = ceil_div(blocks.mc, kernels_.mr) * a_panel_;
  if (staged_)
    stage_floats_ = round_up(blocks.mc, kernels_.mr) * round_up(blocks.stage_n, kernels_.nr);
  const bool many_stages = blocks.stage_n < desc_.n || blocks.stage_k < blocks.k_blocks ||
                           (desc_.batch() > 1 && !per_matrix_);
  b_floats_ = blocks.stage_k * ceil_div(blocks.stage_n, kernels_.nr) * b_panel_;
  const int64_t teams = per_matrix_ ? threads_ : 1;
  const int64_t buffers = many_stages && !per_matrix_ ? 2 : 1;
  const int64_t bias_floats = desc_.bias ? round_up(std::max(desc_.m, desc_.n), kLine) : 0;
  scratch_bytes_ =
      4 * (bias_floats + teams * buffers * b_floats_ + threads_ * (a_floats_ + stage_floats_));
}

void PackedGemm::choose_blocks(const CpuInfo& cpu) {
  const int64_t mr = kernels_.mr, nr = kernels_.nr;
  GemmBlocks& blocks = blocks_;
  blocks.k_blocks = std::max<int64_t>(1, ceil_div(desc_.k, kLongestBlock));
  blocks.kc = round_up(ceil_div(std::max<int64_t>(desc_.k, 1), blocks.k_blocks), 8);
  blocks.k_blocks = std::max<int64_t>(1, ceil_div(desc_.k, blocks.kc));

  const int64_t column = 4 * blocks.kc;  // bytes of one packed column of B per k block
  if (staged_) {                         // sums leave scratch once: a stage holds all of k
    blocks.stage_k = blocks.k_blocks;
    const int64_t fitting = kStageBytes / (column * blocks.k_blocks) / nr * nr;
    blocks.stage_n = std::min(desc_.n, std::clamp<int64_t>(fitting, nr, 512));
  } else {
    const int64_t fitting = kStageBytes / column / nr * nr;
    blocks.stage_n = std::min(desc_.n, std::max(fitting, nr));
    blocks.stage_k = std::clamp<int64_t>(kStageBytes / (column * round_up(blocks.stage_n, nr)), 1,
                                         blocks.k_blocks);
  }
  const int64_t stages = ceil_div(blocks.k_blocks, blocks.stage_k);
  blocks.stage_k = ceil_div(blocks.k_blocks, stages);

  const int64_t panels = ceil_div(desc_.m, mr);
  const int64_t most = std::max<int64_t>(1, cpu.l2_bytes * 3 / 4 / (4 * blocks.kc * mr));
  const int64_t team = per_matrix_ ? 1 : threads_;
  blocks.m_tasks = std::min(panels, round_up(ceil_div(panels, most), team));
  blocks.mc = ceil_div(panels, blocks.m_tasks) * mr;
  // Few rows: cut columns as well, so that every thread has two pieces.
  blocks.n_tasks = 1;
  if (blocks.m_tasks < team) {
    blocks.n_tasks = std::min(ceil_div(blocks.stage_n, nr), ceil_div(2 * team, blocks.m_tasks));
  }
}

void PackedGemm::pack_stage(const Call& call, const void* b, int64_t n0, int64_t n1, int64_t kb0,
                            int64_t kb1, float* packed, const Team& team) const {
  (void)call;
  const int64_t nr = kernels_.nr, panels = ceil_div(n1 - n0, nr);
  // One piece of packing is a run of panels in one k block.
  const int64_t pieces = std::min<int64_t>(panels, std::max<int64_t>(1, team.size));
  for (int64_t kb = kb0; kb < kb1; ++kb) {
    const int64_t k0 = kb * blocks_.kc;
    for (int64_t piece = team.rank; piece < pieces; piece += team.size) {
      const int64_t p0 = part(panels, pieces, piece), p1 = part(panels, pieces, piece + 1);
      const int64_t lane = n0 + p0 * nr;
      kernels_.pack_b({.src = at(b, desc_.b_dtype, lane * desc_.b.col + k0 * desc_.b.row),
                       .dtype = desc_.b_dtype,
                       .lane_stride = desc_.b.col,
                       .k_stride = desc_.b.row,
                       .lanes = std::min(n1, n0 + p1 * nr) - lane,
                       .kc = std::min(blocks_.kc, desc_.k - k0),
                       .dst = packed + ((kb - kb0) * panels + p0) * b_panel_,
                       .panel_stride = b_panel_});
    }
  }
}

void PackedGemm::finish(const Call& call, const float* acc, int64_t acc_stride, void* c, int64_t m0,
                        int64_t m1, int64_t n0, int64_t n1, bool add_c) const {
  kernels_.finish({.acc = acc,
                   .acc_stride = acc_stride,
                   .c = at(c, desc_.c_dtype, m0 * desc_.c.row + n0 * desc_.c.col),
                   .dtype = desc_.c_dtype,
                   .row_stride = desc_.c.row,
                   .col_stride = desc_.n == 1 ? 1 : desc_.c.col,
                   .rows = m1 - m0,
                   .cols = n1 - n0,
                   .bias = call.bias ? call.bias + (swapped_ ? m0 : n0) : nullptr,
                   .bias_per_row = swapped_,
                   .add_c = add_c,
                   .activation = desc_.activation});
}

void PackedGemm::run_task(const Call& call, const void* a, void* c, const float* packed,
                          int64_t task, int64_t n0, int64_t n1, int64_t kb0, int64_t kb1,
                          const Team& team) const {
  const int64_t mr = kernels_.mr, nr = kernels_.nr;
  const int64_t row_panels = ceil_div(desc_.m, mr), col_panels = ceil_div(n1 - n0, nr);
  const int64_t mt = task / blocks_.n_tasks, nt = task % blocks_.n_tasks;
  const int64_t m0 = part(row_panels, blocks_.m_tasks, mt) * mr;
  const int64_t m1 = std::min(desc_.m, part(row_panels, blocks_.m_tasks, mt + 1) * mr);
  const int64_t j0 = part(col_panels, blocks_.n_tasks, nt);
  const int64_t j1 = part(col_panels, blocks_.n_tasks, nt + 1);
  float* own = call.scratch + team.thread * (a_floats_ + stage_floats_);
  float* sums = own + a_floats_;  // [mc, (j1 - j0) * nr] when staged
  const int64_t sums_stride = (j1 - j0) * nr;
  alignas(64) float edge[14 * 32];

  for (int64_t kb = kb0; kb < kb1; ++kb) {
    const int64_t k0 = kb * blocks_.kc;
    const int64_t kc = std::min(blocks_.kc, desc_.k - k0);
    const bool last = kb + 1 == blocks_.k_blocks;
    kernels_.pack_a({.src = at(a, desc_.a_dtype, m0 * desc_.a.row + k0 * desc_.a.col),
                     .dtype = desc_.a_dtype,
                     .lane_stride = desc_.a.row,
                     .k_stride = desc_.a.col,
                     .lanes = m1 - m0,
                     .kc = kc,
                     .dst = own,
                     .panel_stride = a_panel_});
    for (int64_t j = j0; j < j1; ++j) {
      const float* b_panel = packed + ((kb - kb0) * col_panels + j) * b_panel_;
      const int64_t n = n0 + j * nr, cols = std::min(nr, n1 - n);
      const int64_t tiles = ceil_div(m1 - m0, mr), lines = kc * nr / kLine;
      for (int64_t i = 0; i < tiles; ++i) {
        const int64_t m = m0 + i * mr, rows = std::min(mr, m1 - m);
        const float* a_panel = own + i * a_panel_;
        // Each tile fetches its share of the next panel of B: worth 2 to 3 % (measured).
        for (int64_t x = part(lines, tiles, i); x < part(lines, tiles, i + 1); ++x) {
          __builtin_prefetch(b_panel + b_panel_ + x * kLine, 0, 2);
        }
        if (staged_) {
          kernels_.tile(kc, a_panel, b_panel, sums + i * mr * sums_stride + (j - j0) * nr,
                        sums_stride, {.accumulate = kb > 0});
          continue;
        }
        const bool add = kb > 0 || desc_.accumulate;
        float* out = static_cast<float*>(c) + m * desc_.c.row + n;
        if (rows == mr && cols == nr) {
          TileEnd end{.accumulate = add};
          if (last && inside_tile_) {
            if (call.bias) end.bias = call.bias + n;
            end.relu = desc_.activation == Activation::relu;
          }
          kernels_.tile(kc, a_panel, b_panel, out, desc_.c.row, end);
          if (inside_tile_) continue;
        } else {
          kernels_.tile(kc, a_panel, b_panel, edge, nr, {});
          for (int64_t r = 0; r < rows; ++r) {
            float* line = out + r * desc_.c.row;
            for (int64_t x = 0; x < cols; ++x) line[x] = edge[r * nr + x] + (add ? line[x] : 0.0f);
          }
        }
        if (last && epilogue_) finish(call, out, desc_.c.row, c, m, m + rows, n, n + cols, false);
      }
    }
    if (staged_ && last) {
      finish(call, sums, sums_stride, c, m0, m1, n0 + j0 * nr, std::min(n1, n0 + j1 * nr),
             desc_.accumulate);
    }
  }
}

void PackedGemm::run_matrix(const Call& call, int64_t batch, Team& team) {
  const int64_t outer = batch / desc_.batch_inner, inner = batch % desc_.batch_inner;
  const void* a = at(call.a, desc_.a_dtype, outer * desc_.a.outer + inner * desc_.a.inner);
  const void* b = at(call.b, desc_.b_dtype, outer * desc_.b.outer + inner * desc_.b.inner);
  void* c = at(call.c, desc_.c_dtype, outer * desc_.c.outer + inner * desc_.c.inner);
  const int64_t tasks = blocks_.m_tasks * blocks_.n_tasks;
  for (int64_t n0 = 0; n0 < desc_.n; n0 += blocks_.stage_n) {
    const int64_t n1 = std::min(desc_.n, n0 + blocks_.stage_n);
    for (int64_t kb0 = 0; kb0 < blocks_.k_blocks; kb0 += blocks_.stage_k) {
      const int64_t kb1 = std::min(blocks_.k_blocks, kb0 + blocks_.stage_k);
      const int64_t turn = team.stages++ % 2;
      const float* packed;
      if (call.packed) {
        packed =
            static_cast<const float*>(call.packed) +
            (n0 / kernels_.nr * blocks_.k_blocks + kb0 * ceil_div(n1 - n0, kernels_.nr)) * b_panel_;
      } else {
        float* buffer = team.b_buffer + (team.size > 1 ? turn * b_floats_ : 0);
        pack_stage(call, b, n0, n1, kb0, kb1, buffer, team);
        packed = buffer;
      }
      if (team.size == 1) {
        for (int64_t task = 0; task < tasks; ++task) {
          run_task(call, a, c, packed, task, n0, n1, kb0, kb1, team);
        }
        continue;
      }
#pragma omp barrier
      // Everyone has left the stage before: its counter can serve the next one.
      if (team.rank == 0) next_[1 - turn].store(0, std::memory_order_relaxed);
      for (;;) {
        const int64_t task = next_[turn].fetch_add(1, std::memory_order_relaxed);
        if (task >= tasks) break;
        run_task(call, a, c, packed, task, n0, n1, kb0, kb1, team);
      }
    }
  }
}

int64_t PackedGemm::packed_b_bytes() const {
  if (swapped_ || desc_.batch() > 1) return 0;
  return 4 * blocks_.k_blocks * ceil_div(desc_.n, kernels_.nr) * b_panel_;
}

void PackedGemm::pack_b(const void* b, void* packed) const {
  float* out = static_cast<float*>(packed);
  const Team team{.rank = 0, .size = 1, .thread = 0, .b_buffer = nullptr};
  const Call call{};
  for (int64_t n0 = 0; n0 < desc_.n; n0 += blocks_.stage_n) {
    const int64_t n1 = std::min(desc_.n, n0 + blocks_.stage_n);
    pack_stage(call, b, n0, n1, 0, blocks_.k_blocks, out, team);
    out += blocks_.k_blocks * ceil_div(n1 - n0, kernels_.nr) * b_panel_;
  }
}

void PackedGemm::run(const void* a, const void* b, const void* packed, const void* bias, void* c,
                     void* scratch) {
  if (swapped_) std::swap(a, b);
  float* base = static_cast<float*>(scratch);
  const float* bias_values = nullptr;
  if (desc_.bias) {
    const int64_t count = swapped_ ? desc_.m : desc_.n;
    bias_values = static_cast<const float*>(bias);
    if (desc_.bias_dtype != DType::f32) {
      const auto* bits = static_cast<const uint16_t*>(bias);
      for (int64_t i = 0; i < count; ++i) {
        base[i] = desc_.bias_dtype == DType::bf16 ? from_bf16(bits[i]) : from_f16(bits[i]);
      }
      bias_values = base;
    }
    base += round_up(std::max(desc_.m, desc_.n), kLine);
  }
  float* b_buffers = base;
  const double useful = std::max(1.0, desc_.flops() / kFlopsPerThread);
  const int threads = static_cast<int>(std::min<double>(threads_, useful));
  const int64_t per_team = (scratch_bytes_ / 4 - (base - static_cast<float*>(scratch)) -
                            threads_ * (a_floats_ + stage_floats_)) /
                           (per_matrix_ ? threads_ : 1);
  base += per_team * (per_matrix_ ? threads_ : 1);
  const Call call{a, b, packed, bias_values, c, base};
  const int64_t batch = desc_.batch();
  if (threads == 1) {
    Team team{.rank = 0, .size = 1, .thread = 0, .b_buffer = b_buffers};
    for (int64_t i = 0; i < batch; ++i) run_matrix(call, i, team);
    return;
  }
  next_[0].store(0, std::memory_order_relaxed);
  next_[1].store(0, std::memory_order_relaxed);
#pragma omp parallel num_threads(threads)
  {
    const int rank = omp_get_thread_num(), size = omp_get_num_threads();
    if (per_matrix_) {
      Team team{.rank = 0, .size = 1, .thread = rank, .b_buffer = b_buffers + rank * per_team};
      for (;;) {
        const int64_t i = next_[0].fetch_add(1, std::memory_order_relaxed);
        if (i >= batch) break;
        run_matrix(call, i, team);
      }
    } else {
      Team team{.rank = rank, .size = size, .thread = rank, .b_buffer = b_buffers};
      for (int64_t i = 0; i < batch; ++i) run_matrix(call, i, team);
    }
  }
}

std::string PackedGemm::describe() const {
  return fmt::format("packed gemm {}{}, kc {} x {}, mc {}, stage {} x {} blocks, tasks {} x {}{}",
                     kernels_.label, swapped_ ? " transposed" : "", blocks_.kc, blocks_.k_blocks,
                     blocks_.mc, blocks_.stage_n, blocks_.stage_k, blocks_.m_tasks, blocks_.n_tasks,
                     per_matrix_ ? ", threads over the batch" : "");
}

}  // namespace espalier::cpu
