// SPDX-License-Identifier: Apache-2.0
// Windows of rows, and the threads that fill them. Internal to the reader.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "espalier/extract/read_order.h"
#include "espalier/extract/reader.h"
#include "espalier/extract/shard_file.h"

namespace espalier::extract {

/// The shards of a run, each opened when it is first read.
class ShardSet {
 public:
  /// Checks the sizes of all, and opens the first.
  ShardSet(Store& store, std::vector<ManifestEntry> entries, std::vector<std::string> globs);
  /// Throws `data` unless it has the activations of the first.
  const ShardFile& at(int64_t shard);
  const ShardLayout& layout() { return at(0).layout(); }
  std::span<const ManifestEntry> entries() const { return entries_; }

 private:
  Store& store_;
  std::vector<ManifestEntry> entries_;
  std::vector<std::string> globs_;
  std::unique_ptr<std::once_flag[]> opened_;
  std::vector<std::unique_ptr<ShardFile>> files_;
};

/// Rows of some blocks, in memory.
struct Window {
  Window(const ShardLayout& layout, int64_t most_rows);

  int64_t epoch = 0, window = 0;
  std::vector<Block> blocks;
  std::vector<int64_t> begins;          // row of each block
  std::vector<HostTensor> activations;  // by hook
  std::vector<int32_t> token_ids, positions;
  std::vector<int64_t> samples;
  std::vector<uint8_t> keep;   // by row, where there is a filter
  std::vector<int64_t> order;  // rows that are handed out

  // Guarded by the loader.
  size_t started = 0, finished = 0;  // blocks
  std::exception_ptr error;
};

class WindowLoader {
 public:
  WindowLoader(ShardSet& shards, ReadOrder order, const RowFilter& filter, int threads);
  ~WindowLoader();

  const ReadOrder& order() const { return order_; }
  /// Begins to fill `window`, which stays where it is until it is full.
  void start(Window& window, int64_t epoch, int64_t number);
  /// Waits until it is full. Throws what went wrong, each time.
  void wait(Window& window);
  /// The same, whatever went wrong.
  void finish(Window& window);

 private:
  void work();
  void load(Window& window, size_t block, FrameDecoder& decoder, std::vector<float>& row);
  void filter(Window& window, int64_t begin, int64_t rows, std::vector<float>& row) const;
  void put_in_order(Window& window) const;

  ShardSet& shards_;
  ReadOrder order_;
  const RowFilter& filter_;
  std::mutex mutex_;
  std::condition_variable more_, full_;
  std::deque<Window*> queue_;  // with blocks that nobody has started
  bool stop_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace espalier::extract
