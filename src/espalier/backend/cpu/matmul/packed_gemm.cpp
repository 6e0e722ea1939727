// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/matmul/packed_gemm.h"

#include <omp.h>

#include <algorithm>
#include <utility>

#include "espalier/backend/cpu/matmul/packed_gemm_parts.h"
#include "espalier/base/error.h"

namespace espalier::cpu {
namespace {

constexpr int64_t kStageBytes = int64_t{8} << 20;  // packed B kept in the last-level cache
constexpr int64_t kLongestBlock = 512;             // k of one block
constexpr int64_t kLongestConstantBlock = 1024;    // the same where B is packed beforehand
constexpr int64_t kTurns = 3;                      // stages whose counters are alive
constexpr double kFlopsPerThread = 1e6;            // below, waking a thread costs more than it does

}  // namespace

PackedGemm::~PackedGemm() = default;

PackedGemm::PackedGemm(const MatmulDesc& desc, const GemmKernels& kernels, const CpuInfo& cpu,
                       int threads)
    : desc_(desc), kernels_(kernels), threads_(threads) {
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
  products_ = desc_.activation == Activation::swiglu ? 2 : 1;
  ESPALIER_CHECK(products_ == 1 ||
                     (desc_.b_constant && packed_b_allowed() && !desc_.bias && !desc_.accumulate),
                 ErrorKind::internal, "matmul", "a gated product needs packed matrices: {}",
                 desc_.str());
  staged_ = products_ == 2 || desc_.c_dtype != DType::f32 || (desc_.c.col != 1 && desc_.n > 1);
  constant_ = desc_.b_constant && packed_b_allowed();
  if (constant_) packed_dtype_ = desc_.b_dtype;
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
  if (staged_) {  // one k block: a column's sums leave at once
    const int64_t columns = blocks.k_blocks > 1 ? ceil_div(blocks.stage_n, kernels_.nr) : 1;
    stage_floats_ = round_up(blocks.mc, kernels_.mr) * columns * products_ * kernels_.nr;
  }
  if (packed_dtype_ != DType::f32) panel_floats_ = b_panel_;
  const bool many_stages = blocks.stage_n < desc_.n || blocks.stage_k < blocks.k_blocks ||
                           (desc_.batch() > 1 && !per_matrix_);
  if (!constant_) b_floats_ = blocks.stage_k * ceil_div(blocks.stage_n, kernels_.nr) * b_panel_;
  const int64_t teams = per_matrix_ ? threads_ : 1;
  const int64_t buffers = many_stages && !per_matrix_ ? 2 : 1;
  const int64_t bias_floats = desc_.bias ? round_up(std::max(desc_.m, desc_.n), kLine) : 0;
  scratch_bytes_ = 4 * (bias_floats + teams * buffers * b_floats_ + threads_ * thread_floats());
  counters_ = std::make_unique<Counters[]>(kTurns * teams);
  shared_ = std::make_unique<SharedBlock[]>(threads_);
}

void PackedGemm::choose_blocks(const CpuInfo& cpu) {
  const int64_t mr = kernels_.mr, nr = kernels_.nr;
  GemmBlocks& blocks = blocks_;
  const int64_t longest = constant_ ? kLongestConstantBlock : kLongestBlock;
  blocks.k_blocks = std::max<int64_t>(1, ceil_div(desc_.k, longest));
  blocks.kc = round_up(ceil_div(std::max<int64_t>(desc_.k, 1), blocks.k_blocks), 8);
  blocks.k_blocks = std::max<int64_t>(1, ceil_div(desc_.k, blocks.kc));

  const int64_t column = 4 * blocks.kc;  // bytes of one packed column of B per k block
  if (constant_) {  // nothing is packed on the way: C is finished block of rows by block of rows
    blocks.stage_k = blocks.k_blocks;
    blocks.stage_n = desc_.n;
  } else if (staged_) {  // sums leave scratch once: a stage holds all of k
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
  const int64_t most = std::max<int64_t>(1, cpu.l2_bytes * 5 / 8 / (4 * blocks.kc * mr));
  blocks.m_tasks = ceil_div(panels, most);
  blocks.mc = ceil_div(panels, blocks.m_tasks) * mr;
}

void PackedGemm::finish(const Stage& stage, const float* acc, int64_t acc_stride, int64_t m0,
                        int64_t m1, int64_t n0, int64_t n1, bool add_c) const {
  const float* bias = stage.call.bias;
  kernels_.finish({.acc = acc,
                   .second = products_ == 2 ? acc + blocks_.mc * kernels_.nr : nullptr,
                   .acc_stride = acc_stride,
                   .c = at(stage.c, desc_.c_dtype, m0 * desc_.c.row + n0 * desc_.c.col),
                   .dtype = desc_.c_dtype,
                   .row_stride = desc_.c.row,
                   .col_stride = desc_.n == 1 ? 1 : desc_.c.col,
                   .rows = m1 - m0,
                   .cols = n1 - n0,
                   .bias = bias ? bias + (swapped_ ? m0 : n0) : nullptr,
                   .bias_per_row = swapped_,
                   .add_c = add_c,
                   .activation = desc_.activation});
}

void PackedGemm::run_column(const Stage& stage, const BlockOfRows& block, int64_t column) const {
  const int64_t mc = blocks_.mc, nr = kernels_.nr, n = stage.n0 + column * nr;
  float* sums = stage.own_sums;
  if (blocks_.k_blocks > 1) sums = block.sums + column * products_ * mc * nr;
  for (int64_t p = 0; p < products_; ++p) run_panel(stage, block, column, p, sums + p * mc * nr);
  if (!staged_ || block.kb + 1 < blocks_.k_blocks) return;
  finish(stage, sums, nr, block.m0, block.m1, n, std::min(n + nr, stage.n1), desc_.accumulate);
}

/// Rows of a block times one panel of B; into `sums` where they are kept there.
void PackedGemm::run_panel(const Stage& stage, const BlockOfRows& block, int64_t column,
                           int64_t product, float* sums) const {
  const int64_t mr = kernels_.mr, nr = kernels_.nr;
  const int64_t kb = block.kb, kc = std::min(blocks_.kc, desc_.k - kb * blocks_.kc);
  const bool last = kb + 1 == blocks_.k_blocks;
  const int64_t index = ((kb - stage.kb0) * stage.columns + column) * products_ + product;
  const float* b_panel = panel_of(stage, index, kc);
  const auto* next =
      static_cast<const char*>(at(stage.packed, stage.packed_dtype, (index + 1) * b_panel_));
  const int64_t next_bytes = kc * nr * size_of(stage.packed_dtype);
  const int64_t n = stage.n0 + column * nr, cols = std::min(nr, stage.n1 - n);
  const int64_t tiles = ceil_div(block.m1 - block.m0, mr);
  alignas(64) float edge[14 * 32];
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t m = block.m0 + i * mr, rows = std::min(mr, block.m1 - m);
    const float* a_panel = block.a + i * a_panel_;
    // The first tiles fetch the next panel of B.
    const int64_t fetched = i * (kc / kFetchEvery) * kLine * 4;
    const TileFetch fetch =
        fetched < next_bytes ? TileFetch{next + fetched, 64} : TileFetch{b_panel, 0};
    if (staged_) {
      kernels_.tile(kc, a_panel, b_panel, sums + i * mr * nr, nr, {.accumulate = kb > 0}, fetch);
      continue;
    }
    const bool add = kb > 0 || desc_.accumulate;
    float* out = static_cast<float*>(stage.c) + m * desc_.c.row + n;
    if (rows == mr && cols == nr) {
      TileEnd end{.accumulate = add};
      if (last && inside_tile_) {
        if (stage.call.bias) end.bias = stage.call.bias + n;
        end.relu = desc_.activation == Activation::relu;
      }
      kernels_.tile(kc, a_panel, b_panel, out, desc_.c.row, end, fetch);
      if (inside_tile_) continue;
    } else {
      kernels_.tile(kc, a_panel, b_panel, edge, nr, {}, fetch);
      for (int64_t r = 0; r < rows; ++r) {
        float* line = out + r * desc_.c.row;
        for (int64_t x = 0; x < cols; ++x) line[x] = edge[r * nr + x] + (add ? line[x] : 0.0f);
      }
    }
    if (last && epilogue_) finish(stage, out, desc_.c.row, m, m + rows, n, n + cols, false);
  }
}

void PackedGemm::run_blocks(const Stage& stage, const Team& team) {
  const int64_t mr = kernels_.mr, panels = ceil_div(desc_.m, mr), tasks = blocks_.m_tasks;
  SharedBlock* shared = &shared_[team.first_thread];
  SharedBlock& own = shared[team.rank];
  float* packed_a = stage.call.scratch + team.thread() * thread_floats();
  BlockOfRows block{.a = packed_a, .sums = packed_a + a_floats_};
  BlockOfRows taken;
  int64_t remaining;
  const auto rows_of = [&](int64_t task, int64_t* m0, int64_t* m1) {
    *m0 = part(panels, tasks, task) * mr;
    *m1 = std::min(desc_.m, part(panels, tasks, task + 1) * mr);
  };
  const auto source = [&](int64_t m0, int64_t kb) {
    return at(stage.a, desc_.a_dtype, m0 * desc_.a.row + kb * blocks_.kc * desc_.a.col);
  };
  int64_t next = stage.counters->block.fetch_add(1, std::memory_order_relaxed);
  while (next < tasks) {
    rows_of(next, &block.m0, &block.m1);
    next = stage.counters->block.fetch_add(1, std::memory_order_relaxed);
    for (block.kb = stage.kb0; block.kb < stage.kb1; ++block.kb) {
      const int64_t kc = std::min(blocks_.kc, desc_.k - block.kb * blocks_.kc);
      kernels_.pack_a({.src = source(block.m0, block.kb),
                       .dtype = desc_.a_dtype,
                       .lane_stride = desc_.a.row,
                       .k_stride = desc_.a.col,
                       .lanes = block.m1 - block.m0,
                       .kc = kc,
                       .dst = packed_a,
                       .panel_stride = a_panel_});
      own.open(block, stage.columns);
      while (own.take(&taken, &remaining)) {
        run_column(stage, taken, stage.columns - remaining);
        own.finish_column();
      }
      while (!own.finished()) __builtin_ia32_pause();
    }
    stage.counters->finished.fetch_add(1, std::memory_order_release);
  }
  // Nothing left to start: help the others.
  while (stage.counters->finished.load(std::memory_order_acquire) < tasks) {
    bool helped = false;
    for (int i = 1; i < team.size; ++i) {
      SharedBlock& other = shared[(team.rank + i) % team.size];
      if (!other.take(&taken, &remaining)) continue;
      run_column(stage, taken, stage.columns - remaining);
      other.finish_column();
      helped = true;
      break;
    }
    if (!helped) __builtin_ia32_pause();
  }
}

void PackedGemm::run_matrix(const Call& call, int64_t batch, Team& team) {
  const int64_t outer = batch / desc_.batch_inner, inner = batch % desc_.batch_inner;
  const void* b = at(call.b, desc_.b_dtype, outer * desc_.b.outer + inner * desc_.b.inner);
  Stage stage{
      .call = call,
      .a = at(call.a, desc_.a_dtype, outer * desc_.a.outer + inner * desc_.a.inner),
      .c = at(call.c, desc_.c_dtype, outer * desc_.c.outer + inner * desc_.c.inner),
      .own_sums = call.scratch + team.thread() * thread_floats() + a_floats_,
      .packed_dtype = call.packed ? packed_dtype_ : DType::f32,
  };
  stage.own_panel = stage.own_sums + stage_floats_;
  Counters* counters = &counters_[kTurns * team.first_thread];
  for (stage.n0 = 0; stage.n0 < desc_.n; stage.n0 += blocks_.stage_n) {
    stage.n1 = std::min(desc_.n, stage.n0 + blocks_.stage_n);
    stage.columns = ceil_div(stage.n1 - stage.n0, kernels_.nr);
    for (stage.kb0 = 0; stage.kb0 < blocks_.k_blocks; stage.kb0 += blocks_.stage_k) {
      stage.kb1 = std::min(blocks_.k_blocks, stage.kb0 + blocks_.stage_k);
      const int64_t turn = team.stages++;
      stage.counters = &counters[turn % kTurns];
      if (call.packed) {
        stage.packed = at(call.packed, packed_dtype_,
                          (stage.n0 / kernels_.nr * blocks_.k_blocks + stage.kb0 * stage.columns) *
                              products_ * b_panel_);
      } else {
        float* buffer = team.b_buffer + (team.size > 1 ? turn % 2 * b_floats_ : 0);
        const int64_t pieces = ceil_div(stage.columns, kPackPiece) * (stage.kb1 - stage.kb0);
        for (;;) {
          const int64_t piece = stage.counters->piece.fetch_add(1, std::memory_order_relaxed);
          if (piece >= pieces) break;
          pack_piece(stage, b, desc_.b_dtype, piece, buffer + first_panel(stage, piece) * b_panel_,
                     b_panel_);
        }
        stage.packed = buffer;
      }
      if (team.size > 1) {
#pragma omp barrier
      }
      // Everyone has left the stage before: its counters can serve the next but one.
      if (team.rank == 0) counters[(turn + 2) % kTurns].reset();
      run_blocks(stage, team);
    }
  }
}

void PackedGemm::run(const void* a, const void* b, const void* packed, const void* bias, void* c,
                     void* scratch) {
  ESPALIER_CHECK(packed != nullptr || !constant_, ErrorKind::internal, "matmul",
                 "B was to be packed beforehand: {}", desc_.str());
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
  const int64_t per_team =
      (scratch_bytes_ / 4 - (base - static_cast<float*>(scratch)) - threads_ * thread_floats()) /
      (per_matrix_ ? threads_ : 1);
  base += per_team * (per_matrix_ ? threads_ : 1);
  const Call call{a, b, packed, bias_values, c, base};
  const int64_t batch = desc_.batch();
  const int64_t sets = kTurns * (per_matrix_ ? threads_ : 1);
  for (int64_t i = 0; i < sets; ++i) counters_[i].reset();
  if (threads == 1) {
    Team team{.rank = 0, .size = 1, .first_thread = 0, .b_buffer = b_buffers};
    for (int64_t i = 0; i < batch; ++i) run_matrix(call, i, team);
    return;
  }
  next_matrix_.store(0, std::memory_order_relaxed);
#pragma omp parallel num_threads(threads)
  {
    const int rank = omp_get_thread_num(), size = omp_get_num_threads();
    if (per_matrix_) {
      Team team{
          .rank = 0, .size = 1, .first_thread = rank, .b_buffer = b_buffers + rank * per_team};
      for (;;) {
        const int64_t i = next_matrix_.fetch_add(1, std::memory_order_relaxed);
        if (i >= batch) break;
        run_matrix(call, i, team);
      }
    } else {
      Team team{.rank = rank, .size = size, .first_thread = 0, .b_buffer = b_buffers};
      for (int64_t i = 0; i < batch; ++i) run_matrix(call, i, team);
    }
  }
}

std::string PackedGemm::describe() const {
  return fmt::format("packed gemm {}{}, kc {} x {}, mc {}, stage {} x {} blocks, {} row blocks{}",
                     kernels_.label, swapped_ ? " transposed" : "", blocks_.kc, blocks_.k_blocks,
                     blocks_.mc, blocks_.stage_n, blocks_.stage_k, blocks_.m_tasks,
                     per_matrix_ ? ", threads over the batch" : "");
}

}  // namespace espalier::cpu
