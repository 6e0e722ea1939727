// SPDX-License-Identifier: Apache-2.0
// Defines a small language model of bytes and trains it on one sentence.
#include <cstdio>
#include <string>

#include "espalier/nn/embedding.h"
#include "espalier/nn/self_attention.h"
#include "espalier/train/step.h"

using namespace espalier;

struct TinyLm : nn::Module<TinyLm> {
  nn::Embedding embedding{256, 32, nn::Init::normal(1.0)};
  nn::SelfAttention attention{{.width = 32, .heads = 4, .causal = true}};
  nn::Linear decoder{32, 256};
  static constexpr auto fields = nn::fields(&TinyLm::embedding, "embedding", &TinyLm::attention,
                                            "attention", &TinyLm::decoder, "decoder");
};

int main() {
  const std::string text = "an espalier is a tree trained along a plan";
  const auto size = static_cast<int64_t>(text.size());
  const auto loss = [=](const TinyLm& model, const train::Trace& trace) {
    const Tensor bytes = trace.batch("text", DType::u8, {1, size});
    const Tensor x = model.embedding(slice(bytes, 1, 0, size - 1));
    const Tensor logits = model.decoder(x + model.attention(x, trace.context));
    return mean(softmax_cross_entropy(logits, slice(bytes, 1, 1, size)), {0, 1});
  };
  auto step = train::make_train_step(TinyLm(), loss, train::adam({.learning_rate = 1e-2}));
  step.initialize(/*seed=*/1);
  step.set_batch("text", text.data());
  for (int i = 0; i <= 50; ++i) {
    step.run();
    if (i % 10 == 0) std::printf("step %2d  loss %.4f\n", i, step.loss());
  }
  return step.loss() < 0.5 ? 0 : 1;
}
