// SPDX-License-Identifier: Apache-2.0
// Packing of B: panels of nr columns for each block of k, one after the other. A product of two
// matrices has a panel of the one, then a panel of the other.
#include "espalier/backend/cpu/matmul/packed_gemm_parts.h"
#include "espalier/base/error.h"

namespace espalier::cpu {

/// The first panel that a piece of packing makes, counted in its stage.
int64_t PackedGemm::first_panel(const Stage& stage, int64_t piece) const {
  const int64_t pieces = ceil_div(stage.columns, kPackPiece);
  return piece / pieces * stage.columns + piece % pieces * kPackPiece;
}

void PackedGemm::pack_piece(const Stage& stage, const void* b, DType from, int64_t piece,
                            float* packed, int64_t panel_stride) const {
  const int64_t nr = kernels_.nr, pieces = ceil_div(stage.columns, kPackPiece);
  const int64_t kb = stage.kb0 + piece / pieces, k0 = kb * blocks_.kc;
  const int64_t p0 = piece % pieces * kPackPiece;
  const int64_t p1 = std::min(stage.columns, p0 + kPackPiece);
  const int64_t lane = stage.n0 + p0 * nr;
  kernels_.pack_b({.src = at(b, from, lane * desc_.b.col + k0 * desc_.b.row),
                   .dtype = from,
                   .lane_stride = desc_.b.col,
                   .k_stride = desc_.b.row,
                   .lanes = std::min(stage.n1, stage.n0 + p1 * nr) - lane,
                   .kc = std::min(blocks_.kc, desc_.k - k0),
                   .dst = packed,
                   .panel_stride = panel_stride});
}

/// Panel `index` of a stage in f32: where it lies, or widened into this thread's room.
const float* PackedGemm::panel_of(const Stage& stage, int64_t index, int64_t kc) const {
  if (stage.packed_dtype == DType::f32) {
    return static_cast<const float*>(stage.packed) + index * b_panel_;
  }
  kernels_.widen(static_cast<const uint16_t*>(stage.packed) + index * b_panel_, stage.packed_dtype,
                 kc * kernels_.nr, stage.own_panel);
  return stage.own_panel;
}

bool PackedGemm::packed_b_allowed() const { return !swapped_ && desc_.batch() == 1; }

int64_t PackedGemm::packed_b_bytes() const {
  if (!packed_b_allowed()) return 0;
  return size_of(packed_dtype_) * blocks_.k_blocks * ceil_div(desc_.n, kernels_.nr) * products_ *
         b_panel_;
}

std::string PackedGemm::packed_layout() const {
  return fmt::format("{}{} wide panels of {}, {} x {} in stages of {}, k blocks of {}, {} apart",
                     products_ == 2 ? "pairs of " : "", kernels_.nr, espalier::name(packed_dtype_),
                     desc_.k, desc_.n, blocks_.stage_n, blocks_.kc, b_panel_);
}

int64_t PackedGemm::pack_scratch_bytes() const {
  return packed_dtype_ == DType::f32 ? 0 : 4 * kPackPiece * b_panel_;
}

void PackedGemm::pack_b(const void* b, const void* second, DType from, void* packed,
                        void* scratch) const {
  const Call call{};
  Stage stage{.call = call, .packed_dtype = packed_dtype_, .kb0 = 0, .kb1 = blocks_.k_blocks};
  int64_t first = 0;  // panel of the stage, of each matrix
  for (stage.n0 = 0; stage.n0 < desc_.n; stage.n0 += blocks_.stage_n) {
    stage.n1 = std::min(desc_.n, stage.n0 + blocks_.stage_n);
    stage.columns = ceil_div(stage.n1 - stage.n0, kernels_.nr);
    const int64_t pieces = ceil_div(stage.columns, kPackPiece) * blocks_.k_blocks;
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const int64_t panel = (first + first_panel(stage, piece)) * products_;
      pack_constant(stage, b, from, piece, at(packed, packed_dtype_, panel * b_panel_), scratch);
      if (products_ == 1) continue;
      pack_constant(stage, second, from, piece, at(packed, packed_dtype_, (panel + 1) * b_panel_),
                    scratch);
    }
    first += blocks_.k_blocks * stage.columns;
  }
}

/// A piece of one matrix in the type that packed panels have.
void PackedGemm::pack_constant(const Stage& stage, const void* b, DType from, int64_t piece,
                               void* packed, void* scratch) const {
  const int64_t stride = products_ * b_panel_;
  if (packed_dtype_ == DType::f32) {
    return pack_piece(stage, b, from, piece, static_cast<float*>(packed), stride);
  }
  auto* wide = static_cast<float*>(scratch);
  pack_piece(stage, b, from, piece, wide, b_panel_);
  const int64_t pieces = ceil_div(stage.columns, kPackPiece);
  const int64_t panels = std::min(kPackPiece, stage.columns - piece % pieces * kPackPiece);
  const int64_t kb = piece / pieces, kc = std::min(blocks_.kc, desc_.k - kb * blocks_.kc);
  for (int64_t p = 0; p < panels; ++p) {
    kernels_.narrow(wide + p * b_panel_, packed_dtype_, kc * kernels_.nr,
                    static_cast<uint16_t*>(packed) + p * stride);
  }
}

}  // namespace espalier::cpu
