// SPDX-License-Identifier: Apache-2.0
// Defines a small language model of bytes and trains it on one sentence.
#include <cstdio>
#include <string_view>

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
  Tensor operator()(Tensor bytes, const nn::Context& context) const {
    const Tensor x = embedding(bytes);
    return decoder(x + attention(x, context));
  }
};

int main(int argc, char** argv) {
  constexpr std::string_view kText = "an espalier is a tree trained along a plan";
  constexpr int64_t kSize = kText.size();
  const auto loss = [](const TinyLm& model, const train::Trace& trace) {
    const Tensor text = trace.batch("text", DType::u8, {1, kSize});
    const Tensor logits = model(slice(text, 1, 0, kSize - 1), trace.context);
    return mean(softmax_cross_entropy(logits, slice(text, 1, 1, kSize)), {0, 1});
  };
  const CompileOptions compile{.backend = argc > 1 ? argv[1] : "cpu"};
  train::Step step = train::make_train_step(TinyLm(), loss, train::adam({.learning_rate = 1e-2}),
                                            {.compile = compile});
  step.compile();
  step.initialize(/*seed=*/1);
  step.set_batch("text", kText.data());
  for (int i = 0; i <= 50; ++i) {
    step.run();
    if (i % 10 == 0) std::printf("step %2d  loss %.4f\n", i, step.loss());
  }
  return step.loss() < 0.5 ? 0 : 1;
}
