// SPDX-License-Identifier: Apache-2.0
// Where a run keeps its objects: a folder, or the prefix of an object store. Keys are relative
// paths with '/'. An object is there whole or not at all, and is durable when the call that makes
// it returns. Calls may come from several threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/io/byte_sink.h"

namespace espalier::extract {

/// An object being written; without commit nothing of it remains.
class ObjectWriter : public io::ByteSink {
 public:
  /// The object is there, in the place of an earlier one.
  virtual void commit() = 0;
};

class Store {
 public:
  virtual ~Store() = default;

  /// Makes `key` unless it exists: then nothing changes and the result is false. Of several callers
  /// anywhere, one succeeds.
  virtual bool create(const std::string& key, std::string_view bytes) = 0;
  /// Makes or replaces `key`.
  virtual void put(const std::string& key, std::string_view bytes) = 0;
  /// The bytes of `key`, or nothing when it is not there. Throws `data` for more than `limit`.
  virtual std::optional<std::string> get(const std::string& key, int64_t limit) = 0;
  /// Its size in bytes, or nothing when it is not there.
  virtual std::optional<int64_t> size(const std::string& key) = 0;
  /// Fills `out` with the bytes of `key` that begin at `offset`. Throws `data` when it is not there
  /// or ends before.
  virtual void read(const std::string& key, int64_t offset, std::span<std::byte> out) = 0;
  /// Removes `key` where it is there.
  virtual void remove(const std::string& key) = 0;
  /// Keys that begin with `prefix`, sorted.
  virtual std::vector<std::string> list(const std::string& prefix) = 0;
  /// Removes what killed writers left of objects whose keys begin with `prefix`. A writer that is
  /// still at work on one loses it: its commit throws.
  virtual void sweep(const std::string& prefix) = 0;
  /// For large objects.
  virtual std::unique_ptr<ObjectWriter> writer(const std::string& key) = 0;
  /// For messages: a path or URL.
  virtual std::string where(const std::string& key) const = 0;
  /// The file that holds `key`, where the store is a folder: then it can be mapped.
  virtual std::optional<std::filesystem::path> file(const std::string& key) const = 0;
};

/// The store of a folder's path, an "s3://bucket/prefix" or a "gs://bucket/prefix", with the
/// endpoint and the credentials of the environment (docs/env.md). Throws `user` for other URLs and
/// where credentials are missing. Makes nothing; the first call connects.
std::unique_ptr<Store> open_store(const std::string& url);

/// Throws `user` for what open_store refuses whatever the credentials are.
void check_store_url(const std::string& url);

/// A folder, made by the first call that writes. Any number of processes and machines may share it,
/// where its file system has hard links and atomic renames (local ones, NFS). Throws `user` for
/// keys that leave it.
std::unique_ptr<Store> open_folder_store(const std::filesystem::path& folder);

}  // namespace espalier::extract
