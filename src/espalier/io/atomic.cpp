// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/atomic.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <random>
#include <vector>

namespace espalier::io {
namespace {
namespace fs = std::filesystem;
constexpr std::string_view kMark = ".tmp-";

fs::path parent_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

/// A hidden name beside `target` that no other writer uses: processes of several machines may share
/// the folder and even their process numbers, so a random number tells them apart.
fs::path temporary_name(const fs::path& target) {
  std::random_device random;
  return parent_of(target) / fmt::format(".{}{}{}-{:08x}{:08x}", target.filename().string(), kMark,
                                         ::getpid(), random(), random());
}

}  // namespace

AtomicFile::AtomicFile(fs::path target, FileContext context)
    : target_(std::move(target)),
      context_(std::move(context)),
      out_(OutputFile::create(temporary_name(target_), context_, target_)) {}

AtomicFile::~AtomicFile() {
  if (!renamed_) ::unlink(out_.path().c_str());
}

bool AtomicFile::commit_new() {
  out_.sync_and_close();
  if (::link(out_.path().c_str(), target_.c_str()) != 0) {
    const int error = errno;
    // Of a writer that slept for long, the others may have swept the temporary away.
    std::error_code ignored;
    if (error == EEXIST || (error == ENOENT && fs::exists(target_, ignored))) return false;
    fail_errno(error, context_, "cannot give the finished file its name", target_);
  }
  sync_folder(parent_of(target_), context_);
  return true;
}

void AtomicFile::commit() {
  out_.sync_and_close();
  if (::rename(out_.path().c_str(), target_.c_str()) != 0) {
    fail_errno(errno, context_, "cannot rename the finished file to its name", target_);
  }
  renamed_ = true;
  sync_folder(parent_of(target_), context_);
}

AtomicFolder::AtomicFolder(fs::path target, FileContext context)
    : target_(std::move(target)),
      context_(std::move(context)),
      temporary_(temporary_name(target_)) {
  if (::mkdir(temporary_.c_str(), 0777) != 0) {
    fail_errno(errno, context_, "cannot create the folder", target_);
  }
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!renamed_) fs::remove_all(temporary_, ignored);
}

OutputFile AtomicFolder::create(std::string_view name) const {
  return OutputFile::create(temporary_ / name, context_, target_ / name);
}

void AtomicFolder::commit() {
  sync_folder(temporary_, context_);
  const char* doing = "cannot rename the finished folder to its name";
  bool swapped = false;  // plain rename refuses a target folder that holds something
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    if (errno != ENOTEMPTY && errno != EEXIST) fail_errno(errno, context_, doing, target_);
    if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) ==
        0) {
      swapped = true;
    } else {
      // No exchange here (some network file systems): the name is free for a moment between the
      // two.
      remove_folder(target_, context_);
      if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
        fail_errno(errno, context_, doing, target_);
      }
    }
  }
  renamed_ = true;
  sync_folder(parent_of(target_), context_);
  std::error_code ignored;
  if (swapped) fs::remove_all(temporary_, ignored);
}

void write_file_atomically(const fs::path& target, std::string_view text, FileContext context) {
  AtomicFile file(target, std::move(context));
  file.out().write(text);
  file.commit();
}

void remove_folder(const fs::path& target, FileContext context) {
  const fs::path temporary = temporary_name(target);
  if (::rename(target.c_str(), temporary.c_str()) != 0) {
    fail_errno(errno, context, "cannot remove the folder", target);
  }
  std::error_code error;
  fs::remove_all(temporary, error);
  if (error) fail_errno(error.value(), context, "cannot remove the folder", temporary);
}

fs::path target_of_temporary(const fs::path& path) {
  const std::string name = path.filename().string();
  const size_t mark = name.rfind(kMark);
  if (!name.starts_with('.') || mark == std::string::npos) return {};
  return path.parent_path() / name.substr(1, mark - 1);
}

int64_t remove_leftovers(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (!target_of_temporary(entry.path()).empty()) found.push_back(entry.path());
  }
  for (const fs::path& path : found) fs::remove_all(path, error);
  return static_cast<int64_t>(found.size());
}

}  // namespace espalier::io
