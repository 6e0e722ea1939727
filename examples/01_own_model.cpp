// SPDX-License-Identifier: Apache-2.0
// Defines a model and trains it as one compiled graph: it learns "exclusive or".
#include "espalier/nn/linear.h"
#include "espalier/train/step.h"

using namespace espalier;
constexpr float kX[] = {0, 0, 0, 1, 1, 0, 1, 1};
constexpr float kY[] = {0, 1, 1, 0};

// README.md shows what follows; the test `layers` compares.
struct Mlp : nn::Module<Mlp> {
  nn::Linear up{2, 16}, down{16, 1};
  static constexpr auto fields = nn::fields(&Mlp::up, "up", &Mlp::down, "down");
  Tensor loss(const train::Trace& trace) const {
    const Tensor x = trace.batch("x", DType::f32, {4, 2}), y = trace.batch("y", DType::f32, {4, 1});
    return mean(abs(down(tanh(up(x))) - y), {0, 1});
  }
};
int main() {
  auto step = train::make_train_step(Mlp(), &Mlp::loss, train::adam({.learning_rate = 1e-2}));
  step.initialize(/*seed=*/1);
  for (const auto& [name, data] : {std::pair{"x", kX}, {"y", kY}}) step.set_batch(name, data);
  for (int i = 0; i < 500; ++i) step.run();  // forward, backward and update; allocates nothing
  return step.loss() < 0.1 ? 0 : 1;
}
