// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>

#include "espalier/extract/stages.h"
#include "espalier/extract/store.h"

namespace espalier::extract {

/// A store whose shards are counted and timed: the stages `write` and `commit`, whose time is taken
/// out of the stage `encode` that they happen in.
class MeteredStore final : public Store {
 public:
  MeteredStore(std::unique_ptr<Store> store, StageTimes& times)
      : store_(std::move(store)), times_(times) {}

  bool create(const std::string& key, std::string_view bytes) override {
    if (!key.starts_with("manifest/")) return store_->create(key, bytes);
    const Timer timer(times_, Stage::commit);
    return store_->create(key, bytes);
  }
  void put(const std::string& key, std::string_view bytes) override { store_->put(key, bytes); }
  std::optional<std::string> get(const std::string& key, int64_t limit) override {
    return store_->get(key, limit);
  }
  std::optional<int64_t> size(const std::string& key) override { return store_->size(key); }
  void read(const std::string& key, int64_t offset, std::span<std::byte> out) override {
    store_->read(key, offset, out);
  }
  void remove(const std::string& key) override { store_->remove(key); }
  std::vector<std::string> list(const std::string& prefix) override { return store_->list(prefix); }
  void sweep(const std::string& prefix) override { store_->sweep(prefix); }
  std::unique_ptr<ObjectWriter> writer(const std::string& key) override {
    return std::make_unique<Writer>(store_->writer(key), *this);
  }
  std::string where(const std::string& key) const override { return store_->where(key); }
  std::optional<std::filesystem::path> file(const std::string& key) const override {
    return store_->file(key);
  }

  /// Bytes of large objects that were committed.
  int64_t bytes() const { return bytes_; }

 private:
  class Timer {
   public:
    Timer(StageTimes& times, Stage stage) : times_(times), stage_(stage) {}
    ~Timer() {
      const auto time = std::chrono::steady_clock::now() - begin_;
      times_.add(stage_, time);
      times_.add(Stage::encode, -time);
    }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

   private:
    StageTimes& times_;
    Stage stage_;
    std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  };

  class Writer final : public ObjectWriter {
   public:
    Writer(std::unique_ptr<ObjectWriter> writer, MeteredStore& store)
        : writer_(std::move(writer)), store_(store) {}
    using ObjectWriter::write;
    void write(std::span<const std::byte> bytes) override {
      const Timer timer(store_.times_, Stage::write);
      writer_->write(bytes);
      count_ += static_cast<int64_t>(bytes.size());
    }
    void commit() override {
      const Timer timer(store_.times_, Stage::commit);
      writer_->commit();
      store_.bytes_ += count_;
    }
    std::string label() const override { return writer_->label(); }

   private:
    std::unique_ptr<ObjectWriter> writer_;
    MeteredStore& store_;
    int64_t count_ = 0;
  };

  std::unique_ptr<Store> store_;
  StageTimes& times_;
  std::atomic<int64_t> bytes_ = 0;
};

}  // namespace espalier::extract
