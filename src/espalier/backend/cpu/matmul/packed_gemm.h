// SPDX-License-Identifier: Apache-2.0
// Own matrix product: operands are packed (converted and transposed on the way) into panels that
// fit the caches, as in Goto & van de Geijn, https://doi.org/10.1145/1356052.1356053 and BLIS,
// https://doi.org/10.1145/2764454.
//
// Each element of C is a sum over k in fixed blocks and fixed order: results do not depend on the
// number of threads, nor on which of them computes what.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "espalier/backend/cpu/cpu_info.h"
#include "espalier/backend/cpu/matmul/gemm_kernels.h"
#include "espalier/backend/cpu/matmul/matmul_desc.h"
#include "espalier/backend/cpu/matmul/shared_block.h"

namespace espalier::cpu {

/// Sizes from the cache model (docs/decisions/matmul.md).
struct GemmBlocks {
  int64_t kc;  // one k block: long enough to hide the reading and writing of C
  int64_t k_blocks;
  int64_t mc;       // rows packed at a time: five eighths of L2
  int64_t stage_k;  // k blocks of B packed at a time, so that they stay in the last cache
  int64_t stage_n;  // columns of B packed at a time
  int64_t m_tasks;  // rows of C are cut into this many blocks per stage
};

class PackedGemm {
 public:
  PackedGemm(const MatmulDesc& desc, const GemmKernels& kernels, const CpuInfo& cpu, int threads);
  ~PackedGemm();

  int64_t scratch_bytes() const { return scratch_bytes_; }
  /// Bytes of one B packed beforehand; 0 where this product cannot use one.
  int64_t packed_b_bytes() const;
  std::string packed_layout() const;
  int64_t pack_scratch_bytes() const;
  void pack_b(const void* b, const void* second, DType from, void* packed, void* scratch) const;
  /// `packed` null: B is packed here, which is not for products with a constant B. Pointers may not
  /// overlap; scratch is 64-byte aligned.
  void run(const void* a, const void* b, const void* packed, const void* bias, void* c,
           void* scratch);
  std::string describe() const;
  const GemmBlocks& blocks() const { return blocks_; }

 private:
  struct Call;
  struct Team;
  struct Stage;
  struct Counters;
  void choose_blocks(const CpuInfo& cpu);
  void run_matrix(const Call& call, int64_t batch, Team& team);
  void pack_piece(const Stage& stage, const void* b, DType from, int64_t piece, float* packed,
                  int64_t panel_stride) const;
  void pack_constant(const Stage& stage, const void* b, DType from, int64_t piece, void* packed,
                     void* scratch) const;
  int64_t first_panel(const Stage& stage, int64_t piece) const;
  bool packed_b_allowed() const;
  const float* panel_of(const Stage& stage, int64_t index, int64_t kc) const;
  int64_t thread_floats() const { return a_floats_ + stage_floats_ + panel_floats_; }
  void run_blocks(const Stage& stage, const Team& team);
  void run_column(const Stage& stage, const BlockOfRows& block, int64_t column) const;
  void run_panel(const Stage& stage, const BlockOfRows& block, int64_t column, int64_t product,
                 float* sums) const;
  void finish(const Stage& stage, const float* acc, int64_t acc_stride, int64_t m0, int64_t m1,
              int64_t n0, int64_t n1, bool add_c) const;

  MatmulDesc desc_;  // columns of C contiguous where possible: operands swapped if need be
  bool swapped_ = false;
  int64_t products_ = 1;             // 2: C is made of two products with the same A
  bool constant_ = false;            // B comes packed
  bool staged_ = false;              // C is not plain f32 rows: sums are kept in scratch
  bool epilogue_ = false;            // bias or activation
  bool inside_tile_ = false;         // the tile itself can do all of the epilogue
  bool per_matrix_ = false;          // threads share out the batch instead of each matrix
  DType packed_dtype_ = DType::f32;  // of B packed beforehand; narrow panels are widened when used
  const GemmKernels& kernels_;
  int threads_;
  GemmBlocks blocks_{};
  int64_t a_panel_ = 0;  // floats of one packed panel of A
  int64_t b_panel_ = 0;
  int64_t a_floats_ = 0;      // per thread
  int64_t stage_floats_ = 0;  // per thread
  int64_t panel_floats_ = 0;  // per thread, room for a widened panel of B
  int64_t b_floats_ = 0;      // per team, both halves of the double buffer
  int64_t scratch_bytes_ = 0;
  std::atomic<int64_t> next_matrix_{0};
  std::unique_ptr<Counters[]> counters_;   // per team, two each
  std::unique_ptr<SharedBlock[]> shared_;  // per thread
};

}  // namespace espalier::cpu
