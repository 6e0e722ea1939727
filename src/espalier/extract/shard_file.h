// SPDX-License-Identifier: Apache-2.0
// A shard being read, in parts, from wherever it is: its header first, then any rows of any
// activation, compressed or not. What cannot be true is a `data` error that names the shard.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/extract/frames.h"
#include "espalier/extract/manifest.h"
#include "espalier/extract/store.h"
#include "espalier/tensor/dtype.h"

namespace espalier::extract {

/// Bytes [begin, begin + bytes) of a file.
struct ByteRange {
  int64_t begin = 0, bytes = 0;
};

/// What a shard's header says, checked against itself and the size of the file.
struct ShardLayout {
  DType dtype = DType::f32;
  Compression compression = Compression::none;
  int64_t width = 0, tokens = 0, samples = 0, first_sample = 0;
  std::vector<std::string> hooks;
  std::vector<std::string> sample_ids;  // by sample
  std::vector<ByteRange> activations;   // by hook
  std::vector<ByteRange> frame_tables;  // by hook; none unless compressed
  ByteRange token_ids, position, sample_index, offsets;

  int64_t row_bytes() const { return width * size_of(dtype); }
};

/// `header` is the JSON between the length and the data of a file of `file_bytes` bytes.
ShardLayout parse_shard_header(std::string_view header, const std::string& label,
                               int64_t file_bytes);

/// The places in `hooks` of those that a glob matches, each once, in their order; all of them for
/// no globs. Throws `user` for a glob that matches none, with the nearest.
std::vector<size_t> select_hooks(std::span<const std::string> hooks,
                                 std::span<const std::string> globs);

class ShardFile {
 public:
  /// Reads the header, and of a compressed shard the tables of its frames. The shard must have the
  /// size, tokens and samples of its manifest entry. `store` outlives this.
  ShardFile(Store& store, const ManifestEntry& entry);
  /// The same with the activations that a glob matches only, and without the names of samples: what
  /// is kept of thousands of shards.
  ShardFile(Store& store, const ManifestEntry& entry, std::span<const std::string> globs);

  const ShardLayout& layout() const { return layout_; }
  const std::string& label() const { return label_; }

  /// Rows [first, first + count) of activation `hook` of the layout, into count * row_bytes bytes.
  /// Any number of threads may read, each with its decoder.
  void rows(size_t hook, int64_t first, int64_t count, std::span<std::byte> out,
            FrameDecoder& decoder) const;
  /// The same of the tables.
  std::vector<int32_t> token_ids(int64_t first, int64_t count) const;
  std::vector<int32_t> positions(int64_t first, int64_t count) const;
  std::vector<int64_t> sample_indices(int64_t first, int64_t count) const;
  /// All [samples + 1] of them.
  std::vector<int64_t> offsets() const;
  /// Of a compressed shard: where its frames begin in the bytes of activation `hook`, and the end.
  std::span<const int64_t> frames(size_t hook) const { return frames_[hook]; }

  /// Names for messages: "FILE:resid_post.3", "FILE:resid_post.3 frame 7".
  std::string where(size_t hook) const;
  std::string where(size_t hook, int64_t frame) const;

 private:
  template <typename T>
  std::vector<T> table(const ByteRange& range, int64_t first, int64_t count) const;
  void read_header(const ManifestEntry& entry);
  void read_frame_tables();

  Store& store_;
  std::string key_, label_;
  ShardLayout layout_;
  std::vector<std::vector<int64_t>> frames_;  // by hook
};

}  // namespace espalier::extract
