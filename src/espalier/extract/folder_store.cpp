// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "espalier/base/error.h"
#include "espalier/extract/store.h"
#include "espalier/extract/store_key.h"
#include "espalier/io/atomic.h"

namespace espalier::extract {
namespace {
namespace fs = std::filesystem;

const io::FileContext kContext{.stage = "store",
                               .next_step = "check the folder of the run",
                               .device_step = "the run continues from there with the same command"};

class FileWriter final : public ObjectWriter {
 public:
  explicit FileWriter(const fs::path& path) : path_(path.string()), file_(path, kContext) {}
  using ObjectWriter::write;
  void write(std::span<const std::byte> bytes) override { file_.out().write(bytes); }
  void commit() override { file_.commit(); }
  std::string label() const override { return path_; }

 private:
  std::string path_;
  io::AtomicFile file_;
};

class FolderStore final : public Store {
 public:
  explicit FolderStore(fs::path folder) : folder_(std::move(folder)) {}

  bool create(const std::string& key, std::string_view bytes) override {
    io::AtomicFile file(target(key), kContext);
    file.out().write(bytes);
    return file.commit_new();
  }

  void put(const std::string& key, std::string_view bytes) override {
    io::write_file_atomically(target(key), bytes, kContext);
  }

  std::optional<std::string> get(const std::string& key, int64_t limit) override {
    const fs::path path = path_of(key);
    const std::optional<io::FileDescriptor> file = open_if_there(path);
    if (!file) return std::nullopt;
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) io::fail_errno(errno, kContext, "cannot look at", path);
    ESPALIER_CHECK(status.st_size <= limit, ErrorKind::data, "store",
                   "{} bytes where at most {} are allowed, at {}", status.st_size, limit,
                   path.string());
    std::string bytes(static_cast<size_t>(status.st_size), '\0');
    read_at(*file, path, 0, std::as_writable_bytes(std::span(bytes)));
    return bytes;
  }

  std::optional<int64_t> size(const std::string& key) override {
    struct stat status {};
    if (::stat(path_of(key).c_str(), &status) == 0) return status.st_size;
    if (errno == ENOENT) return std::nullopt;
    io::fail_errno(errno, kContext, "cannot look at", path_of(key));
  }

  void read(const std::string& key, int64_t offset, std::span<std::byte> out) override {
    const fs::path path = path_of(key);
    const std::optional<io::FileDescriptor> file = open_if_there(path);
    ESPALIER_CHECK(file.has_value(), ErrorKind::data, "store", "{} is missing", path.string());
    read_at(*file, path, offset, out);
  }

  void remove(const std::string& key) override {
    if (::unlink(path_of(key).c_str()) != 0 && errno != ENOENT) {
      io::fail_errno(errno, kContext, "cannot remove", path_of(key));
    }
  }

  std::vector<std::string> list(const std::string& prefix) override {
    std::vector<std::string> keys;
    for (const fs::path& path : files_below(prefix)) {
      if (path.filename().string().starts_with('.')) continue;
      std::string key = key_of(path);
      if (key.starts_with(prefix)) keys.push_back(std::move(key));
    }
    std::sort(keys.begin(), keys.end());
    return keys;
  }

  void sweep(const std::string& prefix) override {
    for (const fs::path& path : files_below(prefix)) {
      const fs::path target = io::target_of_temporary(path);
      if (!target.empty() && key_of(target).starts_with(prefix)) ::unlink(path.c_str());
    }
  }

  std::unique_ptr<ObjectWriter> writer(const std::string& key) override {
    return std::make_unique<FileWriter>(target(key));
  }

  std::string where(const std::string& key) const override { return (folder_ / key).string(); }
  std::optional<fs::path> file(const std::string& key) const override { return path_of(key); }

 private:
  /// In one call: an object may be removed by another worker at any time.
  static std::optional<io::FileDescriptor> open_if_there(const fs::path& path) {
    io::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() >= 0) return file;
    if (errno != ENOENT) io::fail_errno(errno, kContext, "cannot open the file", path);
    return std::nullopt;
  }
  static void read_at(const io::FileDescriptor& file, const fs::path& path, int64_t offset,
                      std::span<std::byte> out) {
    for (size_t done = 0; done < out.size();) {
      const ssize_t count = ::pread(file.get(), out.data() + done, out.size() - done,
                                    offset + static_cast<int64_t>(done));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) io::fail_errno(errno, kContext, "cannot read", path);
      ESPALIER_CHECK(count > 0, ErrorKind::data, "store", "{} ends at {}, before {} + {}",
                     path.string(), offset + static_cast<int64_t>(done), offset, out.size());
      done += static_cast<size_t>(count);
    }
  }
  fs::path path_of(const std::string& key) const {
    check_key(key, folder_.string());
    return (folder_ / key).lexically_normal();
  }
  std::string key_of(const fs::path& path) const {
    return path.lexically_relative(folder_).generic_string();
  }
  /// Files of the folder that its last '/' ends: among them everything whose key begins with
  /// `prefix`. Hidden ones too.
  std::vector<fs::path> files_below(const std::string& prefix) const {
    const size_t slash = prefix.rfind('/');
    const fs::path start = slash == std::string::npos ? folder_ : path_of(prefix.substr(0, slash));
    std::vector<fs::path> files;
    std::error_code error;
    fs::recursive_directory_iterator at(start, error);
    if (error.value() == ENOENT) return files;
    for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
      std::error_code gone;  // an object may vanish while others are listed
      if (at->is_regular_file(gone)) files.push_back(at->path());
    }
    if (error) io::fail_errno(error.value(), kContext, "cannot list", start);
    return files;
  }
  /// The path, with its folder made.
  fs::path target(const std::string& key) const {
    fs::path path = path_of(key);
    io::create_folders(path.parent_path(), kContext);
    return path;
  }

  fs::path folder_;
};

}  // namespace

std::unique_ptr<Store> open_folder_store(const fs::path& folder) {
  return std::make_unique<FolderStore>(folder.lexically_normal());
}

}  // namespace espalier::extract
