// SPDX-License-Identifier: Apache-2.0
// Files and folders that appear whole or not at all, whatever happens to the process or the
// machine: written under a temporary name beside the target, flushed, renamed, parent flushed.
// Destroyed without commit (or after an error), they remove what they wrote. A killed process
// leaves its temporary behind; remove_leftovers clears it at the next start.
#pragma once

#include <filesystem>
#include <string_view>

#include "espalier/io/file.h"

namespace espalier::io {

class AtomicFile {
 public:
  AtomicFile(std::filesystem::path target, FileContext context);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  OutputFile& out() { return out_; }
  /// The target now holds what was written, replacing any earlier file.
  void commit();
  /// The same, unless the target exists: then nothing changes and the result is false. Of several
  /// writers of one name, on any number of machines, exactly one succeeds.
  bool commit_new();

 private:
  std::filesystem::path target_;
  FileContext context_;
  OutputFile out_;
  bool renamed_ = false;
};

class AtomicFolder {
 public:
  AtomicFolder(std::filesystem::path target, FileContext context);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  /// Creates a file inside; sync_and_close it before commit.
  OutputFile create(std::string_view name) const;
  /// The target is now this folder. An earlier folder of that name is swapped out and removed.
  void commit();

 private:
  std::filesystem::path target_;
  FileContext context_;
  std::filesystem::path temporary_;
  bool renamed_ = false;
};

/// Writes `text` as the whole of `target`.
void write_file_atomically(const std::filesystem::path& target, std::string_view text,
                           FileContext context);

/// Removes a folder so that its name never stands for half of it.
void remove_folder(const std::filesystem::path& target, FileContext context);

/// The target that the writer of a temporary was to make, or an empty path for any other file.
std::filesystem::path target_of_temporary(const std::filesystem::path& path);

/// Removes the temporaries that killed processes left in `folder`; returns how many there were.
/// The caller is the only writer of the folder (FolderLock).
int64_t remove_leftovers(const std::filesystem::path& folder);

}  // namespace espalier::io
