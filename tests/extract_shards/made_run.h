// SPDX-License-Identifier: Apache-2.0
// A run with known activations, made without a model.
#pragma once

#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "espalier/extract/manifest.h"
#include "espalier/extract/shard.h"

namespace espalier::extract {

struct MadeRunOptions {
  int64_t samples = 40, shard_samples = 7, longest = 60, width = 24;
  std::vector<std::string> hooks{"resid_post.0", "resid_post.1"};
  DType dtype = DType::bf16;
  ShardOptions shard;
};

class MadeRun {
 public:
  explicit MadeRun(MadeRunOptions options) : o_(std::move(options)) {
    std::mt19937 random(11);
    for (int64_t s = 0; s < o_.samples; ++s) {
      Sample sample{.id = "task_" + std::to_string(s), .augmentation = R"({"turns":1})"};
      const auto length = 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(o_.longest));
      for (int64_t i = 0; i < length; ++i) {
        sample.tokens.push_back(static_cast<int32_t>(random() % 1000));
      }
      firsts_.push_back(tokens_);
      tokens_ += length;
      samples_.push_back(std::move(sample));
    }
    // Values of the size of activations, with one channel that stands out.
    std::normal_distribution<float> normal;
    for (size_t hook = 0; hook < o_.hooks.size(); ++hook) {
      std::vector<float>& all = values_.emplace_back(static_cast<size_t>(tokens_ * o_.width));
      for (size_t i = 0; i < all.size(); ++i) {
        const bool outlier = static_cast<int64_t>(i) % o_.width == 3;
        all[i] = normal(random) * (outlier ? 40.0f : 1.0f);
      }
    }
  }

  const MadeRunOptions& options() const { return o_; }
  const std::vector<Sample>& samples() const { return samples_; }
  int64_t tokens() const { return tokens_; }
  int64_t first_token(int64_t sample) const { return firsts_[static_cast<size_t>(sample)]; }
  int64_t shards() const { return (o_.samples + o_.shard_samples - 1) / o_.shard_samples; }
  /// In f32, before rounding; may be changed before the run is written.
  float& value(size_t hook, int64_t token, int64_t channel) {
    return values_[hook][static_cast<size_t>(token * o_.width + channel)];
  }

  /// A shard with everything put.
  std::unique_ptr<Shard> shard(int64_t index, const ShardOptions& options) {
    const int64_t first = index * o_.shard_samples;
    const int64_t count = std::min(o_.shard_samples, o_.samples - first);
    const auto samples =
        std::span(samples_).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    auto shard =
        std::make_unique<Shard>(index, first, samples, o_.hooks, o_.width, o_.dtype, options);
    for (int64_t s = count - 1; s >= 0; --s) {
      for (size_t hook = 0; hook < o_.hooks.size(); ++hook) {
        shard->put(hook, s, &value(hook, first_token(first + s), 0));
      }
    }
    return shard;
  }

  void write(Store& store) {
    store.put("run.json", R"({"format": "espalier-run-1", "batch_size": 4})"
                          "\n");
    std::string all;
    for (int64_t i = 0; i < shards(); ++i) {
      shard(i, o_.shard)->commit(store);
      all += store.get(manifest_key(i), 4096).value();
    }
    store.put("manifest.jsonl", all);
  }

 private:
  MadeRunOptions o_;
  std::vector<Sample> samples_;
  std::vector<int64_t> firsts_;
  std::vector<std::vector<float>> values_;  // by hook
  int64_t tokens_ = 0;
};

}  // namespace espalier::extract
