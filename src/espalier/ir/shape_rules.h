// SPDX-License-Identifier: Apache-2.0
// Shape rules of the op table. Each checks operand types and attributes and returns result types.
#pragma once

#include "espalier/ir/op.h"

namespace espalier::ir {

using Types = std::vector<TensorType>;

// Leaves, elementwise (shape_rules_elementwise.cpp).
Types leaf_rule(const OpUse& use);
Types iota_rule(const OpUse& use);
Types random_rule(const OpUse& use);
Types same_rule(const OpUse& use);
Types float_rule(const OpUse& use);
Types logical_rule(const OpUse& use);
Types convert_rule(const OpUse& use);
Types compare_rule(const OpUse& use);
Types select_rule(const OpUse& use);

// Movement, reductions, contractions, rows (shape_rules_structure.cpp).
Types broadcast_rule(const OpUse& use);
Types reshape_rule(const OpUse& use);
Types transpose_rule(const OpUse& use);
Types slice_rule(const OpUse& use);
Types concat_rule(const OpUse& use);
Types pad_rule(const OpUse& use);
Types reduce_rule(const OpUse& use);
Types dot_rule(const OpUse& use);
Types matmul_rule(const OpUse& use);
Types gather_rule(const OpUse& use);
Types scatter_add_rule(const OpUse& use);

// Composites (shape_rules_composite.cpp).
Types layer_norm_rule(const OpUse& use);
Types rms_norm_rule(const OpUse& use);
Types softmax_rule(const OpUse& use);
Types cross_entropy_rule(const OpUse& use);
Types attention_rule(const OpUse& use);
Types attention_grad_rule(const OpUse& use);

// On a mesh (shape_rules_mesh.cpp).
Types axis_index_rule(const OpUse& use);
Types shard_slice_rule(const OpUse& use);
Types all_reduce_rule(const OpUse& use);
Types all_gather_rule(const OpUse& use);
Types reduce_scatter_rule(const OpUse& use);
/// Attributes whole and cut come together; each size of `local` divides that of the whole.
void check_piece(const OpUse& use, const Shape& local);

}  // namespace espalier::ir
