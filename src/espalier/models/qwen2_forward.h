// SPDX-License-Identifier: Apache-2.0
// What Qwen2ForCausalLM computes, traced.
#pragma once

#include "espalier/models/qwen2.h"
#include "espalier/nn/context.h"

namespace espalier::models {

/// Integers [batch, seq] unless said otherwise; what is undefined has the value named here.
struct Qwen2Inputs {
  Tensor input_ids;
  Tensor position_ids;    // 0, 1, ...; rows packed of several documents count each from 0
  Tensor attention_mask;  // bool, true: this key may be seen. All
  Tensor segments;        // i32: a token sees keys of its own segment only. One segment
};

/// The decoder's output after the last norm [batch, seq, hidden]. Hooks: embed, and for layer i
/// resid_pre.i, attn_out.i (after o_proj), resid_mid.i, mlp_out.i (after down_proj), resid_post.i;
/// final_norm.
Tensor qwen2_encode(const Qwen2ForCausalLm& model, const Qwen2Inputs& inputs,
                    const nn::Context& context);

/// hidden [..., hidden] -> logits [..., vocab].
Tensor qwen2_logits(const Qwen2ForCausalLm& model, Tensor hidden);

/// Loss summed over the labels and their number, f32 scalars.
struct Qwen2Loss {
  Tensor sum;
  Tensor count;
};

/// Cross-entropy of each position's logits against the next position's label, as Hugging Face
/// shifts them: labels [batch, seq], those outside the vocabulary (-100) count nothing.
Qwen2Loss qwen2_loss(const Qwen2ForCausalLm& model, Tensor hidden, Tensor labels);

/// Work of the layers for one forward pass without the head, FLOP: matmuls 2 x weights x tokens,
/// attention 4 x seq^2 x hidden a sequence and layer, counted half because it is causal.
double qwen2_forward_flops(const Qwen2Config& config, int64_t batch, int64_t seq);
/// Work of a training step: three times the forward pass of layers and head.
double qwen2_train_flops(const Qwen2Config& config, int64_t batch, int64_t seq);

}  // namespace espalier::models
