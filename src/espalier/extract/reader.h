// SPDX-License-Identifier: Apache-2.0
// Reading a run's activations for training, shuffled across all shards in bounded memory.
//
//   RunReader reader("activations", {.hooks = {"resid_post.10"}, .batch = 4096, .seed = 1});
//   ReadBatch batch;
//   while (reader.next(batch)) train(batch.activations[0]);   // [4096, width] in the run's dtype
//
// Tokens are cut into blocks of neighbours. The order of all blocks is drawn anew for each epoch; a
// window of them is read, by several threads, while rows of the window before are handed out in a
// random order. So two windows are in memory, and a row's neighbours in a batch come from as many
// places as a window has blocks. The order is a function of the run, the seed, the sizes of blocks
// and windows, and the filter: not of the activations that are asked for (all get the same rows),
// of the batch or of threads.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "espalier/extract/frames.h"
#include "espalier/extract/store.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier::extract {

/// Rows that are read but not handed out. Nothing is left out of what is written.
struct RowFilter {
  /// Of any of the activations that are asked for. Attention sinks have norms far above the median,
  /// which `espalier inspect` shows.
  double max_norm = std::numeric_limits<double>::infinity();
  std::vector<int32_t> skip_tokens;  // ids, such as those of special tokens
  int64_t first_position = 0;        // of a sample; 1 leaves its first token out

  bool any() const {
    return max_norm < std::numeric_limits<double>::infinity() || !skip_tokens.empty() ||
           first_position > 0;
  }
};

struct ReadOptions {
  std::vector<std::string> hooks;  // globs; empty: all
  int64_t batch = 4096;            // rows; an epoch's last batch has fewer
  bool shuffle = true;             // false: in the order of the samples
  uint64_t seed = 0;
  int64_t window_rows = 65536;      // that are mixed with each other
  int64_t block_rows = kFrameRows;  // neighbours that stay in a window; more for an object store
  int threads = 4;                  // that read
  RowFilter filter;
  bool partial = false;  // take the shards that are done of a run that is not complete
};

/// Row i of each belongs together. Overwritten by the next call, where it has the same size.
struct ReadBatch {
  int64_t rows = 0;
  std::vector<HostTensor> activations;  // by hook: [rows, width]
  HostTensor token_ids, positions;      // [rows] i32
  HostTensor samples;                   // [rows] i64, index in the run
};

/// Where a reader is: with the same run and options, another one goes on from there.
struct ReadPosition {
  int64_t epoch = 0, window = 0;
  int64_t row = 0;  // of the window's rows that are handed out
  friend bool operator==(const ReadPosition&, const ReadPosition&) = default;
};

class RunReader {
 public:
  /// Opens a run's folder or URL and checks the sizes of its shards against the manifest. Throws
  /// `user` for what is no run and for a glob that matches nothing, `data` for a damaged run or one
  /// that is not complete.
  RunReader(const std::string& url, ReadOptions options);
  RunReader(std::unique_ptr<Store> store, ReadOptions options);
  ~RunReader();

  const std::vector<std::string>& hooks() const;
  int64_t width() const;
  DType dtype() const;
  int64_t tokens() const;  // before filtering
  /// Of both windows.
  int64_t memory_bytes() const;

  /// The next rows. False at the end of an epoch, once: after it the next epoch begins. Throws
  /// `data` for a shard that is damaged.
  bool next(ReadBatch& batch);
  /// Of the next row.
  ReadPosition position() const;
  /// Throws `user` for a position that the run does not have with these options.
  void seek(const ReadPosition& position);

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace espalier::extract
