// SPDX-License-Identifier: Apache-2.0
// Files through checked system calls: every failure is an Error that names the call's purpose, the
// path, the cause and the next step. A full disk, a quota, a file-size limit and an I/O error are
// `device`; a missing or forbidden path is `user`. A process that wants a file-size limit reported
// (EFBIG) instead of dying ignores SIGXFSZ.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "espalier/base/error.h"
#include "espalier/io/byte_sink.h"

namespace espalier::io {

/// Who writes or reads, for messages: "[stage] ... ; next_step".
struct FileContext {
  std::string stage = "file";
  std::string next_step = {};
  /// In the place of next_step where the device failed, not the path that was given.
  std::string device_step = {};
};

/// Throws the Error for `error` (an errno value): "[stage] doing: cause, at path; next step".
[[noreturn]] void fail_errno(int error, const FileContext& context, std::string_view doing,
                             const std::filesystem::path& path);

/// An owned file descriptor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor();
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  int get() const { return fd_; }
  int release();

 private:
  int fd_ = -1;
};

/// A file being written from its start or its end. Nothing is buffered here: when write returns,
/// the bytes survive the death of the process.
class OutputFile final : public ByteSink {
 public:
  /// Creates `path`, which must not exist. Errors call the file `shown`, the name that it will have
  /// in the end; empty: `path`.
  static OutputFile create(std::filesystem::path path, FileContext context,
                           std::filesystem::path shown = {});
  /// Opens `path` (created when missing) so that every write lands at its end.
  static OutputFile append(std::filesystem::path path, FileContext context);

  /// Writes everything, through short writes and signals.
  using ByteSink::write;
  void write(std::span<const std::byte> bytes) override;
  std::string label() const override { return shown_.string(); }
  /// Bytes written through this object, and their CRC-32C.
  int64_t written() const { return written_; }
  uint32_t crc32c() const { return crc_; }
  /// Flushes to the device (fsync) and closes; after it the bytes survive a power failure.
  void sync_and_close();
  bool is_open() const { return fd_.get() >= 0; }
  const std::filesystem::path& path() const { return path_; }

 private:
  OutputFile(std::filesystem::path path, std::filesystem::path shown, FileContext context,
             int flags);
  std::filesystem::path path_, shown_;
  FileContext context_;
  FileDescriptor fd_;
  int64_t written_ = 0;
  uint32_t crc_ = 0;
};

/// A whole file mapped into memory. Pages are private: writing to them copies, the file stays as it
/// is. Shrinking the file while it is mapped kills readers (SIGBUS); files of this project are
/// replaced by rename, never cut.
class MappedFile {
 public:
  static std::shared_ptr<MappedFile> open(const std::filesystem::path& path, FileContext context);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<std::byte> bytes() { return {data_, size_}; }

 private:
  MappedFile(std::byte* data, size_t size) : data_(data), size_(size) {}
  std::byte* data_;
  size_t size_;
};

/// The text of a file of at most `limit` bytes; a larger one is a `data` error.
std::string read_text(const std::filesystem::path& path, int64_t limit, FileContext context);

/// mkdir -p; new folders are flushed to the device.
void create_folders(const std::filesystem::path& path, FileContext context);

/// Flushes the names in a folder to the device.
void sync_folder(const std::filesystem::path& path, FileContext context);

/// Held while one process writes into a folder; another one's attempt is a `user` error.
/// Freed by the system when the process ends, however it ends.
class FolderLock {
 public:
  FolderLock(const std::filesystem::path& folder, FileContext context);

 private:
  FileDescriptor fd_;
};

}  // namespace espalier::io
