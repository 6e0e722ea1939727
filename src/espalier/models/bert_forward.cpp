// SPDX-License-Identifier: Apache-2.0
#include "espalier/models/bert_forward.h"

#include <fmt/format.h>

#include "espalier/base/error.h"

namespace espalier::models {
namespace {

using Scope = ir::Builder::Scope;

Tensor activate(BertActivation activation, Tensor x) {
  switch (activation) {
    case BertActivation::gelu:
      return gelu(x);
    case BertActivation::gelu_tanh:
      return gelu_tanh(x);
    case BertActivation::relu:
      break;
  }
  return relu(x);
}

Tensor embed(const BertForMaskedLm& model, const BertInputs& inputs, const nn::Context& context) {
  const BertEmbeddings& e = model.bert.embeddings;
  Scope scope(inputs.input_ids.builder(), "embeddings");
  const Tensor positions =
      inputs.position_ids.defined()
          ? e.position_embeddings(inputs.position_ids)
          : slice(e.position_embeddings.weight.value(), 0, 0, inputs.input_ids.size(1));
  const Tensor types = inputs.token_type_ids.defined()
                           ? e.token_type_embeddings(inputs.token_type_ids)
                           : slice(e.token_type_embeddings.weight.value(), 0, 0, 1);
  const Tensor x = e.layer_norm(e.word_embeddings(inputs.input_ids) + types + positions);
  return context.dropout(context.hook("embed", x), model.config.hidden_dropout_prob);
}

Tensor attend(const BertConfig& config, const BertSelfAttention& layer, Tensor x,
              const BertInputs& inputs, const nn::Context& context) {
  const Shape by_head{x.size(0), x.size(1), config.num_attention_heads, config.head_size()};
  const Tensor mixed = scaled_dot_product_attention(
      reshape(layer.query(x), by_head), reshape(layer.key(x), by_head),
      reshape(layer.value(x), by_head),
      {.dropout = context.training ? config.attention_probs_dropout_prob : 0.0,
       .key_mask = inputs.attention_mask,
       .segments_q = inputs.segments,
       .segments_k = inputs.segments,
       .rng = context.rng});
  return reshape(mixed, x.shape());
}

/// LayerNorm(residual + dropout(dense(x))); the output of dense is offered as hook `name`.
Tensor add_and_normalize(const BertOutput& layer, double rate, Tensor x, Tensor residual,
                         std::string_view name, const nn::Context& context) {
  const Tensor y = context.dropout(context.hook(name, layer.dense(x)), rate);
  return layer.layer_norm(residual + y);
}

Tensor run_layer(const BertConfig& config, const BertLayer& layer, Tensor x, size_t index,
                 const BertInputs& inputs, const nn::Context& context) {
  ir::Builder& builder = x.builder();
  const double rate = config.hidden_dropout_prob;
  context.hook(fmt::format("resid_pre.{}", index), x);
  {
    Scope scope(builder, "attention");
    const Tensor mixed = attend(config, layer.attention.self, x, inputs, context);
    x = add_and_normalize(layer.attention.output, rate, mixed, x, fmt::format("attn_out.{}", index),
                          context);
  }
  context.hook(fmt::format("resid_mid.{}", index), x);
  {
    Scope scope(builder, "mlp");
    const Tensor hidden = activate(config.hidden_act, layer.intermediate.dense(x));
    x = add_and_normalize(layer.output, rate, hidden, x, fmt::format("mlp_out.{}", index), context);
  }
  return context.hook(fmt::format("resid_post.{}", index), x);
}

/// Which labels are inside the vocabulary.
Tensor is_token(Tensor logits, Tensor labels) {
  const auto at_least = [&](double limit) {
    return compare(ir::Op::ge, labels, constant_like(labels, limit));
  };
  return logical_and(at_least(0.0), logical_not(at_least(static_cast<double>(logits.size(1)))));
}

}  // namespace

Tensor bert_encode(const BertForMaskedLm& model, const BertInputs& inputs,
                   const nn::Context& context) {
  const Tensor ids = inputs.input_ids;
  ESPALIER_CHECK(ids.rank() == 2 && ids.size(1) <= model.config.max_position_embeddings,
                 ErrorKind::user, "bert",
                 "input_ids must be [batch, seq] with seq at most max_position_embeddings = {}, "
                 "got {}",
                 model.config.max_position_embeddings, ids.type().str());
  Tensor x = embed(model, inputs, context);
  for (size_t i = 0; i < model.bert.encoder.layer.size(); ++i) {
    Scope scope(ids.builder(), fmt::format("layer.{}", i));
    x = run_layer(model.config, model.bert.encoder.layer[i], x, i, inputs, context);
  }
  return x;
}

Tensor bert_logits(const BertForMaskedLm& model, Tensor hidden) {
  Scope scope(hidden.builder(), "head");
  const BertPredictions& head = model.cls.predictions;
  const Tensor x = activate(model.config.hidden_act, head.transform.dense(hidden));
  return head.decoder(head.transform.layer_norm(x));
}

Tensor bert_label_logits(const BertForMaskedLm& model, Tensor hidden, const BertLabels& labels) {
  const int64_t rows = hidden.size(0) * hidden.size(1), width = hidden.size(2);
  return bert_logits(model, gather(reshape(hidden, {rows, width}), labels.rows));
}

BertLoss bert_loss(Tensor logits, Tensor labels) {
  Scope scope(logits.builder(), "loss");
  return {.sum = reduce_sum(softmax_cross_entropy(logits, labels), {0}),
          .count = reduce_sum(convert(is_token(logits, labels), DType::f32), {0})};
}

BertLoss bert_loss(const BertForMaskedLm& model, Tensor hidden, const BertLabels& labels) {
  return bert_loss(bert_label_logits(model, hidden, labels), labels.labels);
}

Tensor bert_correct(Tensor logits, Tensor labels) {
  Scope scope(logits.builder(), "loss");
  const Tensor token = iota(logits.builder(), labels.dtype(), logits.shape(), 1);
  const Tensor hit = compare(ir::Op::eq, token, broadcast(labels, logits.shape(), {0}));
  const Tensor of_label = reduce_sum(select(hit, logits, constant_like(logits, 0.0)), {1});
  const Tensor best = compare(ir::Op::ge, of_label, reduce_max(logits, {1}));
  return reduce_sum(convert(logical_and(best, is_token(logits, labels)), DType::f32), {0});
}

double bert_train_flops(const BertConfig& c, int64_t batch, int64_t seq, int64_t labels) {
  const auto width = static_cast<double>(c.hidden_size);
  const auto ffn = static_cast<double>(c.intermediate_size);
  const auto layers = static_cast<double>(c.num_hidden_layers);
  const auto tokens = static_cast<double>(batch * seq);
  const double weights = layers * (4.0 * width * width + 2.0 * width * ffn);
  const double head = width * width + width * static_cast<double>(c.vocab_size);
  return 6.0 * weights * tokens + 12.0 * layers * static_cast<double>(seq) * width * tokens +
         6.0 * head * static_cast<double>(labels);
}

}  // namespace espalier::models
