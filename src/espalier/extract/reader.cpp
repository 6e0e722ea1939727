// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/reader.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "espalier/base/error.h"
#include "espalier/extract/read_window.h"
#include "espalier/extract/run_index.h"

namespace espalier::extract {
namespace {

/// Rows ahead of the one being copied that are asked into the cache.
constexpr size_t kAhead = 4;

/// Copies rows `rows` of `from` one after the other.
void gather(const std::byte* from, std::span<const int64_t> rows, int64_t row_bytes,
            std::byte* to) {
  for (size_t i = 0; i < rows.size(); ++i, to += row_bytes) {
    if (i + kAhead < rows.size()) {
      const std::byte* next = from + rows[i + kAhead] * row_bytes;
      for (int64_t line = 0; line < std::min<int64_t>(row_bytes, 512); line += 64) {
        __builtin_prefetch(next + line);
      }
    }
    std::memcpy(to, from + rows[i] * row_bytes, static_cast<size_t>(row_bytes));
  }
}

template <typename T>
void gather(const std::vector<T>& from, std::span<const int64_t> rows, std::span<T> to) {
  for (size_t i = 0; i < rows.size(); ++i) to[i] = from[static_cast<size_t>(rows[i])];
}

/// Makes the tensor new unless it has this dtype and shape.
void make(HostTensor& tensor, DType dtype, const Shape& wanted) {
  if (!tensor.defined() || tensor.dtype() != dtype || tensor.shape() != wanted) {
    tensor = HostTensor(dtype, wanted);
  }
}

void make(ReadBatch& batch, const ShardLayout& layout, int64_t rows) {
  batch.rows = rows;
  batch.activations.resize(layout.hooks.size());
  for (HostTensor& tensor : batch.activations) make(tensor, layout.dtype, {rows, layout.width});
  make(batch.token_ids, DType::i32, {rows});
  make(batch.positions, DType::i32, {rows});
  make(batch.samples, DType::i64, {rows});
}

/// Rows `rows` of the window to those of the batch that begin at `begin`.
void copy(const Window& window, std::span<const int64_t> rows, ReadBatch& batch, int64_t begin) {
  for (size_t hook = 0; hook < window.activations.size(); ++hook) {
    HostTensor& to = batch.activations[hook];
    const int64_t row_bytes = to.shape()[1] * size_of(to.dtype());
    gather(static_cast<const std::byte*>(window.activations[hook].data()), rows, row_bytes,
           static_cast<std::byte*>(to.data()) + begin * row_bytes);
  }
  const auto at = static_cast<size_t>(begin);
  gather(window.token_ids, rows, batch.token_ids.as<int32_t>().subspan(at));
  gather(window.positions, rows, batch.positions.as<int32_t>().subspan(at));
  gather(window.samples, rows, batch.samples.as<int64_t>().subspan(at));
}

/// The first `rows` rows in tensors of their own.
ReadBatch shortened(const ReadBatch& batch, const ShardLayout& layout, int64_t rows) {
  ReadBatch result;
  make(result, layout, rows);
  const auto copy = [](const HostTensor& from, HostTensor& to) {
    std::memcpy(to.data(), from.data(), static_cast<size_t>(to.bytes()));
  };
  for (size_t hook = 0; hook < result.activations.size(); ++hook) {
    copy(batch.activations[hook], result.activations[hook]);
  }
  copy(batch.token_ids, result.token_ids);
  copy(batch.positions, result.positions);
  copy(batch.samples, result.samples);
  return result;
}

ReadOptions checked(ReadOptions options) {
  ESPALIER_CHECK(options.batch > 0 && options.window_rows > 0 && options.block_rows > 0,
                 ErrorKind::user, "reader", "batch {}, window {} and block {} must be positive",
                 options.batch, options.window_rows, options.block_rows);
  return options;
}

}  // namespace

class RunReader::State {
 public:
  State(std::unique_ptr<Store> store, ReadOptions options)
      : store_(std::move(store)),
        o_(checked(std::move(options))),
        shards_(*store_, open_run(*store_, o_.partial).entries, o_.hooks),
        loader_(shards_,
                ReadOrder(shards_.entries(), o_.block_rows, o_.window_rows, o_.shuffle, o_.seed),
                o_.filter, o_.threads) {
    for (std::unique_ptr<Window>& window : windows_) {
      window = std::make_unique<Window>(layout(), loader_.order().most_rows());
    }
    start({});
  }

  const ShardLayout& layout() { return shards_.layout(); }
  int64_t tokens() const {
    int64_t sum = 0;
    for (const ManifestEntry& entry : shards_.entries()) sum += entry.tokens;
    return sum;
  }
  int64_t memory_bytes() {
    const int64_t tables = 2 * sizeof(int32_t) + 2 * sizeof(int64_t) + sizeof(uint8_t);
    return 2 * loader_.order().most_rows() *
           (layout().row_bytes() * std::ssize(layout().hooks) + tables);
  }
  const ReadPosition& position() const { return position_; }

  bool next(ReadBatch& batch) {
    int64_t filled = 0;
    while (filled < o_.batch) {
      loader_.wait(*windows_[0]);
      const auto rows =
          std::span<const int64_t>(windows_[0]->order).subspan(static_cast<size_t>(position_.row));
      if (rows.empty()) {
        const bool last = position_.window + 1 == loader_.order().windows();
        if (last && filled > 0) break;
        advance();
        if (last) return false;
        continue;
      }
      if (filled == 0) make(batch, layout(), o_.batch);
      const auto piece = rows.first(std::min(rows.size(), static_cast<size_t>(o_.batch - filled)));
      copy(*windows_[0], piece, batch, filled);
      filled += std::ssize(piece);
      position_.row += std::ssize(piece);
    }
    if (filled < o_.batch) batch = shortened(batch, layout(), filled);
    return true;
  }

  void seek(const ReadPosition& position) {
    const int64_t windows = loader_.order().windows();
    ESPALIER_CHECK(position.epoch >= 0 && position.window >= 0 && position.window < windows &&
                       position.row >= 0,
                   ErrorKind::user, "reader",
                   "epoch {}, window {}, row {} is no position of {} windows", position.epoch,
                   position.window, position.row, windows);
    for (const std::unique_ptr<Window>& window : windows_) loader_.finish(*window);
    start(position);
    loader_.wait(*windows_[0]);
    ESPALIER_CHECK(position.row <= std::ssize(windows_[0]->order), ErrorKind::user, "reader",
                   "row {} is no position in a window of {} rows; were the options the same?",
                   position.row, windows_[0]->order.size());
  }

 private:
  ReadPosition after(const ReadPosition& position) const {
    const bool last = position.window + 1 == loader_.order().windows();
    return last ? ReadPosition{position.epoch + 1, 0, 0}
                : ReadPosition{position.epoch, position.window + 1, 0};
  }
  void start(const ReadPosition& position) {
    position_ = position;
    const ReadPosition second = after(position);
    loader_.start(*windows_[0], position.epoch, position.window);
    loader_.start(*windows_[1], second.epoch, second.window);
  }
  /// To the next window; the one after it is read while that is handed out.
  void advance() {
    position_ = after(position_);
    std::swap(windows_[0], windows_[1]);
    const ReadPosition second = after(position_);
    loader_.start(*windows_[1], second.epoch, second.window);
  }

  std::unique_ptr<Store> store_;
  ReadOptions o_;
  ShardSet shards_;
  std::array<std::unique_ptr<Window>, 2> windows_;  // handed out, and read meanwhile
  WindowLoader loader_;                             // its threads end before what they fill
  ReadPosition position_;
};

RunReader::RunReader(const std::string& url, ReadOptions options)
    : RunReader(open_store(url), std::move(options)) {}
RunReader::RunReader(std::unique_ptr<Store> store, ReadOptions options)
    : state_(std::make_unique<State>(std::move(store), std::move(options))) {}
RunReader::~RunReader() = default;

const std::vector<std::string>& RunReader::hooks() const { return state_->layout().hooks; }
int64_t RunReader::width() const { return state_->layout().width; }
DType RunReader::dtype() const { return state_->layout().dtype; }
int64_t RunReader::tokens() const { return state_->tokens(); }
int64_t RunReader::memory_bytes() const { return state_->memory_bytes(); }
bool RunReader::next(ReadBatch& batch) { return state_->next(batch); }
ReadPosition RunReader::position() const { return state_->position(); }
void RunReader::seek(const ReadPosition& position) { state_->seek(position); }

}  // namespace espalier::extract
