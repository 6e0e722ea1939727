// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "espalier/base/crc32c.h"
#include "espalier/base/text.h"

namespace espalier::io {
namespace {
namespace fs = std::filesystem;

ErrorKind kind_of(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EIO:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return ErrorKind::device;
    default:
      return ErrorKind::user;
  }
}

std::string_view remedy(int error) {
  switch (error) {
    case ENOSPC:
      return "free some space or choose another folder";
    case EDQUOT:
      return "free some of your quota or choose another folder";
    case EFBIG:
      return "raise the file-size limit (ulimit -f)";
    case EACCES:
    case EPERM:
      return "check the permissions";
    case EROFS:
      return "choose a folder that is not mounted read-only";
    case EMFILE:
      return "raise the limit of open files (ulimit -n)";
    default:
      return "";
  }
}

/// open(2) again after a signal; -1 and errno on failure.
int open_retrying(const fs::path& path, int flags) {
  for (;;) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EINTR) return fd;
  }
}

int sync_retrying(int fd) {
  for (;;) {
    const int result = ::fsync(fd);
    if (result == 0 || errno != EINTR) return result;
  }
}
}  // namespace

void fail_errno(int error, const FileContext& context, std::string_view doing,
                const fs::path& path) {
  const ErrorKind kind = kind_of(error);
  const bool device = kind == ErrorKind::device && !context.device_step.empty();
  const std::string_view step = device ? context.device_step : context.next_step;
  std::string text = fmt::format("{}: {}, at {}", doing, std::strerror(error), path.string());
  for (const std::string_view hint : {remedy(error), step}) {
    if (!hint.empty()) text += fmt::format("; {}", hint);
  }
  throw Error(kind, context.stage, text);
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = other.release();
  }
  return *this;
}

int FileDescriptor::release() {
  const int fd = fd_;
  fd_ = -1;
  return fd;
}

OutputFile::OutputFile(fs::path path, fs::path shown, FileContext context, int flags)
    : path_(std::move(path)),
      shown_(shown.empty() ? path_ : std::move(shown)),
      context_(std::move(context)) {
  fd_ = FileDescriptor(open_retrying(path_, flags));
  if (!is_open()) fail_errno(errno, context_, "cannot create the file", shown_);
}

OutputFile OutputFile::create(fs::path path, FileContext context, fs::path shown) {
  return OutputFile(std::move(path), std::move(shown), std::move(context),
                    O_WRONLY | O_CREAT | O_EXCL);
}

OutputFile OutputFile::append(fs::path path, FileContext context) {
  return OutputFile(std::move(path), {}, std::move(context), O_WRONLY | O_CREAT | O_APPEND);
}

void OutputFile::write(std::span<const std::byte> bytes) {
  // Pieces that stay in the cache between the checksum and the copy into the kernel.
  constexpr size_t kPiece = size_t{1} << 20;
  const size_t total = bytes.size();
  while (!bytes.empty()) {
    const auto piece = bytes.first(std::min(kPiece, bytes.size()));
    const ssize_t done = ::write(fd_.get(), piece.data(), piece.size());
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) {
      const int error = done < 0 ? errno : EIO;
      fail_errno(error, context_,
                 fmt::format("cannot write {} ({} of them done, {} in the file)",
                             human_bytes(static_cast<int64_t>(total)), total - bytes.size(),
                             human_bytes(written_)),
                 shown_);
    }
    const auto count = static_cast<size_t>(done);
    crc_ = espalier::crc32c(piece.first(count), crc_);
    written_ += done;
    bytes = bytes.subspan(count);
  }
}

void OutputFile::sync_and_close() {
  const std::string doing =
      fmt::format("cannot flush the {} written to the device", human_bytes(written_));
  if (sync_retrying(fd_.get()) != 0) fail_errno(errno, context_, doing, shown_);
  // Linux frees the descriptor even when close is interrupted.
  if (::close(fd_.release()) != 0 && errno != EINTR) fail_errno(errno, context_, doing, shown_);
}

std::shared_ptr<MappedFile> MappedFile::open(const fs::path& path, FileContext context) {
  const FileDescriptor fd(open_retrying(path, O_RDONLY));
  if (fd.get() < 0) fail_errno(errno, context, "cannot open the file", path);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) fail_errno(errno, context, "cannot inspect", path);
  ESPALIER_CHECK(S_ISREG(status.st_mode), ErrorKind::user, context.stage,
                 "{} is not an ordinary file", path.string());
  const auto size = static_cast<size_t>(status.st_size);
  void* data = nullptr;
  if (size > 0) {
    data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd.get(), 0);
    if (data == MAP_FAILED) {
      fail_errno(errno, context, fmt::format("cannot map {} bytes", size), path);
    }
  }
  return std::shared_ptr<MappedFile>(new MappedFile(static_cast<std::byte*>(data), size));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

std::string read_text(const fs::path& path, int64_t limit, FileContext context) {
  const auto file = MappedFile::open(path, context);
  const auto bytes = file->bytes();
  ESPALIER_CHECK(std::cmp_less_equal(bytes.size(), limit), ErrorKind::data, context.stage,
                 "{} bytes where at most {} are allowed, at {}", bytes.size(), limit,
                 path.string());
  if (bytes.empty()) return {};
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void create_folders(const fs::path& path, FileContext context) {
  std::vector<fs::path> missing;
  std::error_code ignored;
  for (fs::path p = fs::absolute(path).lexically_normal(); !fs::exists(p, ignored);
       p = p.parent_path()) {
    if (p.has_filename()) missing.push_back(p);
    if (p == p.root_path()) break;
  }
  std::reverse(missing.begin(), missing.end());
  for (const fs::path& p : missing) {
    if (::mkdir(p.c_str(), 0777) != 0 && errno != EEXIST) {
      fail_errno(errno, context, "cannot create the folder", p);
    }
    sync_folder(p.parent_path(), context);
  }
  if (!fs::is_directory(path, ignored)) {
    fail_errno(ENOTDIR, context, "cannot create the folder", path);
  }
}

void sync_folder(const fs::path& path, FileContext context) {
  const FileDescriptor fd(open_retrying(path, O_RDONLY | O_DIRECTORY));
  if (fd.get() < 0) fail_errno(errno, context, "cannot open the folder", path);
  // EINVAL: a file system whose folders need no flush.
  if (sync_retrying(fd.get()) != 0 && errno != EINVAL) {
    fail_errno(errno, context, "cannot flush the folder to the device", path);
  }
}

FolderLock::FolderLock(const fs::path& folder, FileContext context) {
  const fs::path path = folder / ".lock";
  fd_ = FileDescriptor(open_retrying(path, O_RDWR | O_CREAT));
  if (fd_.get() < 0) fail_errno(errno, context, "cannot create the lock", path);
  if (::flock(fd_.get(), LOCK_EX | LOCK_NB) == 0) return;
  ESPALIER_CHECK(errno != EWOULDBLOCK, ErrorKind::user, context.stage,
                 "another process is writing into {}; wait for it or choose another folder",
                 folder.string());
  fail_errno(errno, context, "cannot lock", path);
}

}  // namespace espalier::io
