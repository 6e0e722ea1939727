// SPDX-License-Identifier: Apache-2.0
// The rows of the matmul's table: each says why it declines a product, or makes a plan for it.
#pragma once

#include <memory>
#include <string>

#include "espalier/backend/cpu/matmul/matmul.h"

namespace espalier::cpu {

struct MatmulPlan {
  std::unique_ptr<Matmul> matmul;
  std::string description;
};

/// Empty: accepts.
std::string onednn_declines(const MatmulDesc& desc, Isa isa);
MatmulPlan make_onednn_matmul(const MatmulDesc& desc, Isa isa, int threads);

MatmulPlan make_packed_matmul(const MatmulDesc& desc, Isa isa, int threads);
/// The same with the wide tile's code on AVX2 registers, for tests.
MatmulPlan make_wide_matmul(const MatmulDesc& desc, Isa isa, int threads);

}  // namespace espalier::cpu
