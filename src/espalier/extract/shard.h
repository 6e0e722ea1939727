// SPDX-License-Identifier: Apache-2.0
// Shards: the activations of a range of samples in one safetensors file, valid tokens only.
//
//   HOOK           [tokens, width]   each wanted activation: "resid_post.10", f32, bf16 or f16
//   token_ids      [tokens] i32
//   position       [tokens] i32      in the whole sample
//   sample_index   [tokens] i64      of the run
//   offsets        [samples + 1] i64 where each sample's tokens begin
//
// and as metadata the ids, augmentations and first sample. The bytes are a function of the samples
// and the model: not of workers, threads, or the order in which shards are made.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "espalier/extract/sample_source.h"
#include "espalier/extract/store.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier::extract {

/// "shards/shard-00000012.safetensors"
std::string shard_key(int64_t index);
/// "manifest/00000012.json": there when the shard is done.
std::string manifest_key(int64_t index);

/// One shard being filled.
class Shard {
 public:
  /// `first_sample` is the index of samples[0] in the run.
  Shard(int64_t index, int64_t first_sample, std::span<const Sample> samples,
        std::vector<std::string> hooks, int64_t width, DType dtype);

  int64_t tokens() const { return offsets_.back(); }
  /// Copies one sample's rows [length, width] of an activation in f32, rounding to the dtype.
  void put(size_t hook, int64_t sample, const float* rows);
  /// Writes the file and then, unless another worker already did, the manifest's object with its
  /// size and SHA-256. False when that was there.
  bool commit(Store& store) const;

 private:
  int64_t index_, first_sample_, width_;
  std::span<const Sample> samples_;
  std::vector<std::string> hooks_;
  DType dtype_;
  std::vector<int64_t> offsets_;
  std::vector<HostTensor> activations_;  // by hook
};

/// What a manifest object says.
struct ManifestEntry {
  int64_t shard = 0, first_sample = 0, samples = 0, tokens = 0, bytes = 0;
  std::string sha256;
};
/// Throws `data` for text that is no entry.
ManifestEntry parse_manifest_entry(std::string_view json, std::string_view label);

}  // namespace espalier::extract
