// SPDX-License-Identifier: Apache-2.0
// Defines a model, trains it as one compiled graph, and reads the loss: it learns y = sum of x.
#include <cstdio>

#include "espalier/base/rng.h"
#include "espalier/nn/linear.h"
#include "espalier/train/step.h"

using namespace espalier;

struct Mlp : nn::Module<Mlp> {
  nn::Linear up{8, 32}, down{32, 1};
  static constexpr auto fields = nn::fields(&Mlp::up, "up", &Mlp::down, "down");
  Tensor operator()(Tensor x) const { return down(relu(up(x))); }
};

int main() {
  const auto loss = [](const Mlp& model, const train::Trace& trace) -> train::Loss {
    const Tensor x = trace.batch("x", DType::f32, {16, 8});
    const Tensor error = model(x) - reduce_sum(x, {1}, true);
    return mean(error * error, {0, 1});
  };
  auto step = train::make_train_step(Mlp(), loss, train::adam({.learning_rate = 1e-2}));
  step.compile();
  step.initialize(/*seed=*/1);
  float x[16 * 8];
  step.set_batch("x", x);
  for (int i = 0; i < 300; ++i) {
    for (uint64_t j = 0; j < 16 * 8; ++j) x[j] = rng_uniform(rng_key(7, i, 0), j) - 0.5f;
    step.run();
    if (i % 100 == 0) std::printf("step %d: loss %.4f\n", i, step.loss());
  }
  std::printf("loss %.5f\n", step.loss());
  return step.loss() < 0.05 ? 0 : 1;
}
