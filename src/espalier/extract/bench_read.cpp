// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/bench_read.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <optional>

#include "espalier/base/error.h"
#include "espalier/base/parallel.h"
#include "espalier/extract/run_index.h"
#include "espalier/io/file.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The shards' files; none of a URL.
std::vector<fs::path> files_of(Store& store, const RunIndex& index) {
  std::vector<fs::path> files;
  for (const ManifestEntry& entry : index.entries) {
    if (const auto file = store.file(shard_key(entry.shard))) files.push_back(*file);
  }
  return files;
}

void forget(const std::vector<fs::path>& files) {
  for (const fs::path& path : files) {
    const io::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() >= 0) posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
}

/// Bytes a second of the files in pieces of 4 MiB, past the page cache where the file system can.
double disk_rate(const std::vector<fs::path>& files, int threads, double seconds) {
  constexpr size_t kPiece = size_t{4} << 20, kAlignment = 4096;
  const Clock::time_point start = Clock::now();
  std::atomic<int64_t> bytes = 0;
  parallel_for(std::ssize(files), threads, [&](int64_t i) {
    const char* path = files[static_cast<size_t>(i)].c_str();
    io::FileDescriptor file(::open(path, O_RDONLY | O_CLOEXEC | O_DIRECT));
    if (file.get() < 0) file = io::FileDescriptor(::open(path, O_RDONLY | O_CLOEXEC));
    const std::unique_ptr<void, decltype(&std::free)> piece(std::aligned_alloc(kAlignment, kPiece),
                                                            std::free);
    ESPALIER_CHECK(piece != nullptr, ErrorKind::device, "memory", "cannot allocate {} bytes",
                   kPiece);
    for (off_t at = 0; since(start) < seconds;) {
      const ssize_t count = ::pread(file.get(), piece.get(), kPiece, at);
      if (count <= 0) return;
      at += count;
      bytes += count;
    }
  });
  return static_cast<double>(bytes) / since(start);
}

struct Pass {
  int64_t rows = 0;
  double seconds = 0.0;
};

/// Opens a reader and reads for at most so long and so many rows; none for all of an epoch.
Pass read(const ReadBenchOptions& o, std::optional<int64_t> rows, ReadBenchResult& result) {
  const Clock::time_point start = Clock::now();
  RunReader reader(o.run, o.read);
  result.hooks = reader.hooks();
  result.memory_bytes = reader.memory_bytes();
  result.row_bytes = std::ssize(reader.hooks()) * reader.width() * size_of(reader.dtype());
  Pass pass;
  ReadBatch batch;
  while (pass.rows < rows.value_or(reader.tokens()) && since(start) < o.seconds &&
         reader.next(batch)) {
    pass.rows += batch.rows;
  }
  pass.seconds = since(start);
  return pass;
}

}  // namespace

ReadBenchResult bench_read(const ReadBenchOptions& o) {
  const std::unique_ptr<Store> store = open_store(o.run);
  const std::vector<fs::path> files = files_of(*store, open_run(*store, o.read.partial));
  ReadBenchResult result;
  const auto rates = [&](const Pass& pass, double& rows, double& bytes) {
    rows = static_cast<double>(pass.rows) / pass.seconds;
    bytes = rows * static_cast<double>(result.row_bytes);
  };
  if (!files.empty()) {
    forget(files);
    result.disk_bytes_per_second = disk_rate(files, o.read.threads, o.seconds);
    forget(files);
  }
  const Pass first = read(o, std::nullopt, result);
  result.rows = first.rows;
  rates(first, result.rows_per_second, result.bytes_per_second);
  if (!files.empty()) {
    // The same rows again: they are in the page cache now.
    rates(read(o, first.rows, result), result.cached_rows_per_second,
          result.cached_bytes_per_second);
  }
  return result;
}

}  // namespace espalier::extract
