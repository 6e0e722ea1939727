// SPDX-License-Identifier: Apache-2.0
// What BertForMaskedLM computes, traced: post-norm layers, numerics of Hugging Face's model.
#pragma once

#include "espalier/models/bert.h"
#include "espalier/nn/context.h"

namespace espalier::models {

/// Integers [batch, seq] unless said otherwise; what is undefined has the value named here.
struct BertInputs {
  Tensor input_ids;
  Tensor token_type_ids;  // 0
  Tensor position_ids;    // 0, 1, ...; rows packed of several documents count each from 0
  Tensor attention_mask;  // bool, true: this key may be seen. All
  Tensor segments;        // i32: a token sees keys of its own segment only. One segment
};

/// Rows that have a label, out of all batch * seq: [count] each. Unused entries have a label
/// outside the vocabulary (-100) and any row.
struct BertLabels {
  Tensor rows;    // i32 or i64, row = batch entry * seq + position
  Tensor labels;  // i32 or i64
};

/// f32 scalars over the labels, so that batches combine.
struct BertLoss {
  Tensor sum;  // of the cross-entropies, nats
  Tensor count;
};

/// The encoder's output [batch, seq, hidden]. Hooks: embed (after its LayerNorm), and for layer i
/// resid_pre.i, attn_out.i and mlp_out.i (outputs of the two dense layers, before dropout and
/// residual), resid_mid.i and resid_post.i (after LayerNorm). Throws `user` for a sequence longer
/// than the table of positions.
Tensor bert_encode(const BertForMaskedLm& model, const BertInputs& inputs,
                   const nn::Context& context);

/// The head for masked tokens: hidden [..., hidden] -> logits [..., vocab].
Tensor bert_logits(const BertForMaskedLm& model, Tensor hidden);

/// Cross-entropy of the labelled rows; only these go through the head.
BertLoss bert_loss(const BertForMaskedLm& model, Tensor hidden, const BertLabels& labels);

/// The head's results for the labelled rows [count, vocab], and what follows from them.
Tensor bert_label_logits(const BertForMaskedLm& model, Tensor hidden, const BertLabels& labels);
BertLoss bert_loss(Tensor logits, Tensor labels);
/// How many labels no other token has a larger logit than, an f32 scalar.
Tensor bert_correct(Tensor logits, Tensor labels);

/// Essential work of one training step, FLOP: matmuls 6 x weights x tokens, attention
/// 12 x layers x seq^2 x hidden a sequence, the head for `labels` rows of the batch.
double bert_train_flops(const BertConfig& config, int64_t batch, int64_t seq, int64_t labels);

}  // namespace espalier::models
