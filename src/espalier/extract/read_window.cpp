// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/read_window.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "espalier/base/error.h"
#include "espalier/base/parallel.h"
#include "espalier/extract/statistics.h"
#include "espalier/tensor/convert.h"

namespace espalier::extract {
namespace {
/// Requests for sizes at a time: an object store answers each in tens of milliseconds.
constexpr int kSizeThreads = 16;
}  // namespace

ShardSet::ShardSet(Store& store, std::vector<ManifestEntry> entries, std::vector<std::string> globs)
    : store_(store),
      entries_(std::move(entries)),
      globs_(std::move(globs)),
      opened_(std::make_unique<std::once_flag[]>(entries_.size())),
      files_(entries_.size()) {
  parallel_for(std::ssize(entries_), kSizeThreads, [&](int64_t i) {
    const ManifestEntry& entry = entries_[static_cast<size_t>(i)];
    const std::string key = shard_key(entry.shard);
    const std::optional<int64_t> size = store_.size(key);
    ESPALIER_CHECK(size.has_value(), ErrorKind::data, "reader",
                   "{} is missing; espalier verify notes it and the same extract command makes it "
                   "again",
                   store_.where(key));
    ESPALIER_CHECK(
        *size == entry.bytes, ErrorKind::data, "reader",
        "{} has {} bytes, the manifest {}; espalier verify notes it and the same extract "
        "command makes it again",
        store_.where(key), *size, entry.bytes);
  });
  at(0);
}

const ShardFile& ShardSet::at(int64_t shard) {
  const auto i = static_cast<size_t>(shard);
  std::call_once(opened_[i], [&] {
    auto file = std::make_unique<ShardFile>(store_, entries_[i], globs_);
    if (i > 0) {
      const ShardLayout &first = files_[0]->layout(), &here = file->layout();
      ESPALIER_CHECK(
          here.hooks == first.hooks && here.dtype == first.dtype && here.width == first.width,
          ErrorKind::data, "reader", "{} holds other activations than the first shard",
          file->label());
    }
    files_[i] = std::move(file);
  });
  return *files_[i];
}

Window::Window(const ShardLayout& layout, int64_t most_rows)
    : token_ids(static_cast<size_t>(most_rows)),
      positions(token_ids.size()),
      samples(token_ids.size()),
      keep(token_ids.size()) {
  for (size_t hook = 0; hook < layout.hooks.size(); ++hook) {
    activations.emplace_back(layout.dtype, Shape{most_rows, layout.width});
  }
}

WindowLoader::WindowLoader(ShardSet& shards, ReadOrder order, const RowFilter& filter, int threads)
    : shards_(shards), order_(std::move(order)), filter_(filter) {
  for (int i = 0; i < thread_count(threads); ++i) threads_.emplace_back([this] { work(); });
}

WindowLoader::~WindowLoader() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  more_.notify_all();
}

void WindowLoader::start(Window& window, int64_t epoch, int64_t number) {
  window.epoch = epoch;
  window.window = number;
  window.blocks = order_.blocks(epoch, number);
  window.begins = {0};
  for (const Block& block : window.blocks) {
    window.begins.push_back(window.begins.back() + block.rows);
  }
  window.started = window.finished = 0;
  window.error = nullptr;
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(&window);
  }
  more_.notify_all();
}

void WindowLoader::finish(Window& window) {
  std::unique_lock lock(mutex_);
  full_.wait(lock, [&] { return window.finished == window.blocks.size(); });
}

void WindowLoader::wait(Window& window) {
  finish(window);
  if (window.error) std::rethrow_exception(window.error);
}

void WindowLoader::work() {
  FrameDecoder decoder;
  std::vector<float> row(static_cast<size_t>(shards_.layout().width));
  std::unique_lock lock(mutex_);
  for (;;) {
    more_.wait(lock, [&] { return stop_ || !queue_.empty(); });
    if (stop_) return;
    Window& window = *queue_.front();
    const size_t block = window.started++;
    if (window.started == window.blocks.size()) queue_.pop_front();
    const bool wanted = !window.error;
    lock.unlock();
    std::exception_ptr error;
    try {
      if (wanted) load(window, block, decoder, row);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error && !window.error) window.error = error;
    if (window.finished + 1 == window.blocks.size()) {
      // Nobody else touches the window now.
      lock.unlock();
      if (!window.error) put_in_order(window);
      lock.lock();
      ++window.finished;
      full_.notify_all();
    } else {
      ++window.finished;
    }
  }
}

void WindowLoader::load(Window& window, size_t number, FrameDecoder& decoder,
                        std::vector<float>& row) {
  const Block& block = window.blocks[number];
  const int64_t begin = window.begins[number];
  const auto at = static_cast<size_t>(begin);
  const ShardFile& file = shards_.at(block.shard);
  const int64_t row_bytes = file.layout().row_bytes();
  for (size_t hook = 0; hook < window.activations.size(); ++hook) {
    auto* to = static_cast<std::byte*>(window.activations[hook].data()) + begin * row_bytes;
    file.rows(hook, block.first, block.rows, {to, static_cast<size_t>(block.rows * row_bytes)},
              decoder);
  }
  const auto ids = file.token_ids(block.first, block.rows);
  const auto positions = file.positions(block.first, block.rows);
  const auto samples = file.sample_indices(block.first, block.rows);
  std::copy(ids.begin(), ids.end(), window.token_ids.data() + at);
  std::copy(positions.begin(), positions.end(), window.positions.data() + at);
  std::copy(samples.begin(), samples.end(), window.samples.data() + at);
  if (filter_.any()) filter(window, begin, block.rows, row);
}

void WindowLoader::filter(Window& window, int64_t begin, int64_t rows,
                          std::vector<float>& row) const {
  const std::vector<int32_t>& skip = filter_.skip_tokens;
  const auto width = static_cast<int64_t>(row.size());
  for (int64_t r = begin; r < begin + rows; ++r) {
    const auto at = static_cast<size_t>(r);
    bool keep = window.positions[at] >= filter_.first_position &&
                std::find(skip.begin(), skip.end(), window.token_ids[at]) == skip.end();
    for (size_t hook = 0;
         keep && hook < window.activations.size() && std::isfinite(filter_.max_norm); ++hook) {
      const HostTensor& values = window.activations[hook];
      const auto* from =
          static_cast<const std::byte*>(values.data()) + r * width * size_of(values.dtype());
      widen_values(from, values.dtype(), width, row.data());
      keep = norm_of(row) <= filter_.max_norm;
    }
    window.keep[at] = keep ? 1 : 0;
  }
}

void WindowLoader::put_in_order(Window& window) const {
  const int64_t rows = window.begins.back();
  std::vector<int64_t> kept;
  if (filter_.any()) {
    for (int64_t r = 0; r < rows; ++r) {
      if (window.keep[static_cast<size_t>(r)] != 0) kept.push_back(r);
    }
  } else {
    kept.resize(static_cast<size_t>(rows));
    std::iota(kept.begin(), kept.end(), 0);
  }
  window.order = order_.rows(window.epoch, window.window, std::ssize(kept));
  for (int64_t& row : window.order) row = kept[static_cast<size_t>(row)];
}

}  // namespace espalier::extract
