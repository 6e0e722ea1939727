// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "espalier/nn/linear.h"
#include "espalier/train/step.h"

int main() {
  using namespace espalier;
  const auto loss = [](const nn::Linear& model, const train::Trace& trace) -> train::Loss {
    const Tensor y = model(trace.batch("x", DType::f32, {2, 3}));
    return mean(y * y, {0, 1});
  };
  auto step = train::make_train_step(nn::Linear(3, 4), loss, train::adam());
  step.compile();
  step.initialize(/*seed=*/1);
  const float x[6] = {1, 2, 3, 4, 5, 6};
  step.set_batch("x", x);
  for (int i = 0; i < 5; ++i) step.run();
  std::printf("loss %g\n", step.loss());
}
