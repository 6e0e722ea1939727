// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/generate.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/rng.h"

namespace espalier::train {
namespace {
constexpr uint64_t kSampleStream = 0x67656e6572617465ull;
}

int64_t sample(std::span<const float> logits, double temperature, int64_t top_k, double uniform) {
  for (const float logit : logits) {
    ESPALIER_CHECK(!std::isnan(logit), ErrorKind::data, "generate",
                   "the model's output is no number; was its training stopped by a NaN?");
  }
  std::vector<int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto value = [&](int64_t i) { return logits[static_cast<size_t>(i)]; };
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return value(a) > value(b); });
  if (temperature == 0.0) return order.front();
  if (top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(top_k)));
  std::vector<double> weights;
  double total = 0.0;
  for (const int64_t i : order) {
    weights.push_back(std::exp(
        (static_cast<double>(value(i)) - static_cast<double>(value(order[0]))) / temperature));
    total += weights.back();
  }
  double left = uniform * total;
  for (size_t i = 0; i < weights.size(); ++i) {
    left -= weights[i];
    if (left < 0.0) return order[i];
  }
  return order.back();
}

std::string generate(Step& logits_step, int64_t seq_len, std::string_view prompt,
                     const GenerateOptions& options, const std::function<bool(char)>& on_byte) {
  ESPALIER_CHECK(options.temperature >= 0.0, ErrorKind::user, "generate",
                 "--temperature {} must not be negative", options.temperature);
  ESPALIER_CHECK(options.top_k >= 0, ErrorKind::user, "generate", "--top-k {} must not be negative",
                 options.top_k);
  ESPALIER_CHECK(options.length >= 0, ErrorKind::user, "generate",
                 "--length {} must not be negative", options.length);
  std::string text(prompt);
  std::vector<uint8_t> row(static_cast<size_t>(seq_len));
  logits_step.set_batch("bytes", row.data());
  for (int64_t made = 0; made < options.length; ++made) {
    const size_t context = std::min(text.size(), row.size() - 1);
    std::fill(row.begin(), row.end(), uint8_t{0});
    std::memcpy(row.data(), text.data() + text.size() - context, context);
    logits_step.run();
    const HostTensor logits = logits_step.executable().output("logits");
    // Position i predicts byte i from the bytes before it.
    std::vector<float> next(static_cast<size_t>(logits.shape()[2]));
    for (size_t i = 0; i < next.size(); ++i) {
      next[i] = static_cast<float>(logits.get(static_cast<int64_t>(context * next.size() + i)));
    }
    const RngKey key = rng_key(options.seed, static_cast<uint64_t>(made), kSampleStream);
    const auto byte = static_cast<char>(
        sample(next, options.temperature, options.top_k, static_cast<double>(rng_uniform(key, 0))));
    text += byte;
    if (on_byte && on_byte(byte)) break;
  }
  return text;
}

}  // namespace espalier::train
