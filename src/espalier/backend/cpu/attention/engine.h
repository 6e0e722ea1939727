// SPDX-License-Identifier: Apache-2.0
// Attention with the choices laid open: instruction set and tile sizes. attention.h makes them for
// the machine at hand; tests and tuning make their own.
#pragma once

#include "espalier/backend/cpu/attention/attention.h"
#include "espalier/backend/cpu/attention/tasks.h"
#include "espalier/backend/cpu/cpu_info.h"

namespace espalier::cpu {

/// Tile code for the instruction set in use.
const AttentionKernels& attention_kernels(Isa isa);

struct AttentionTiles {
  int64_t queries;  // a multiple of the kernels' panel
  int64_t keys;
};

/// Cache model, docs/decisions/attention-tiles.md.
AttentionTiles forward_tiles(const CpuInfo& cpu, int panel, int64_t head_dim);
AttentionTiles backward_tiles(const CpuInfo& cpu, int panel);

/// How one call is carried out.
struct AttentionPlan {
  const AttentionKernels& kernels;
  AttentionTiles tiles;
  bool copy_keys;  // tiles of k and v are copied (16-bit: converted) to contiguous f32 rows
  int threads;
};

AttentionPlan plan_forward(const AttentionParams& params, int threads);
AttentionPlan plan_backward(const AttentionParams& params, int threads);

int64_t forward_scratch(const AttentionParams& params, const AttentionPlan& plan);
int64_t backward_scratch(const AttentionParams& params, const AttentionPlan& plan);

void run_forward(const AttentionPlan& plan, const AttentionParams& params, const void* q,
                 const void* k, const void* v, void* out, float* lse, void* scratch);
void run_backward(const AttentionPlan& plan, const AttentionParams& params, const void* q,
                  const void* k, const void* v, const void* out, const float* lse, const void* dout,
                  void* dq, void* dk, void* dv, void* scratch);

}  // namespace espalier::cpu
