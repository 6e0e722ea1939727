// SPDX-License-Identifier: Apache-2.0
// Shards: the activations of a range of samples in one safetensors file, valid tokens only.
//
//   HOOK           [tokens, width]   each wanted activation: "resid_post.10", f32, bf16 or f16
//   token_ids      [tokens] i32
//   position       [tokens] i32      in the whole sample
//   sample_index   [tokens] i64      of the run
//   offsets        [samples + 1] i64 where each sample's tokens begin
//
// and, compressed, instead of each activation:
//
//   HOOK           [bytes] u8        its frames (frames.h), one after the other
//   HOOK.frames    [frames + 1] i64  where each begins in them
//
// Metadata: format, hooks (a JSON list), dtype, width, compression, frame_rows, first_sample, and
// JSON lists of sample_ids, lengths and augmentations. The bytes are a function of the samples and
// the model: not of workers, threads, or the order in which shards are made.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "espalier/extract/frames.h"
#include "espalier/extract/manifest.h"
#include "espalier/extract/sample_source.h"
#include "espalier/extract/store.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier::extract {

inline constexpr std::string_view kShardFormat = "espalier-activations-1";
/// What a compressed activation's name plus this names is the index of its frames.
inline constexpr std::string_view kFramesSuffix = ".frames";

struct ShardOptions {
  Compression compression = Compression::none;
  int threads = 1;  // that compress; 0: as many as there are processors
  /// Store NaN and infinity instead of refusing them.
  bool keep_not_finite = false;
};

/// One shard being filled.
class Shard {
 public:
  /// `first_sample` is the index of samples[0] in the run; `samples` outlive the shard.
  Shard(int64_t index, int64_t first_sample, std::span<const Sample> samples,
        std::vector<std::string> hooks, int64_t width, DType dtype, ShardOptions options = {});

  int64_t tokens() const { return offsets_.back(); }
  /// Takes one sample's rows [length, width] of an activation in f32, rounding to the dtype. Each
  /// hook of each sample once, in any order, on any threads at a time. False when a rounded value
  /// is NaN or infinite.
  bool put(size_t hook, int64_t sample, const float* rows);
  /// Throws `data` when such a value was put, naming the first by hook, sample and token, unless
  /// the options keep them. commit does it too.
  void check_finite() const;
  /// Compresses what was put, giving its memory back hook by hook; nothing for `none`. What commit
  /// does first, for callers that time the two.
  void encode();
  /// Writes the file and then the manifest's object with its size and SHA-256. False when another
  /// worker had made the same before and it was not damaged. A note of damage is gone afterwards.
  bool commit(Store& store);

 private:
  struct NotFinite {
    int64_t sample = 0, token = 0, values = 0;
    size_t hook = 0;
  };
  struct Tensor;
  /// All tensors but the activations, by name.
  std::vector<Tensor> tables() const;
  std::vector<Tensor> activations() const;
  std::vector<std::pair<std::string, std::string>> metadata() const;
  bool encoded() const { return !frames_.empty(); }

  int64_t index_, first_sample_, width_;
  std::span<const Sample> samples_;
  std::vector<std::string> hooks_;
  DType dtype_;
  ShardOptions options_;
  std::vector<int64_t> offsets_;
  std::vector<HostTensor> activations_;                      // by hook
  std::vector<std::vector<std::vector<std::byte>>> frames_;  // by hook, when compressed
  std::atomic<int64_t> put_ = 0;
  std::mutex mutex_;
  std::optional<NotFinite> not_finite_;  // the first
};

}  // namespace espalier::extract
