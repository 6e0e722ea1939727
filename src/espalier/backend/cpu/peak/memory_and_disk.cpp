// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "espalier/backend/cpu/peak/peak.h"
#include "espalier/backend/cpu/peak/stopwatch.h"
#include "espalier/base/error.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier::cpu {
namespace {

/// A file without a name: gone when closed, however this process ends.
class UnnamedFile {
 public:
  explicit UnnamedFile(const std::string& folder) {
    std::string path = folder + "/espalier-peak-XXXXXX";
    fd_ = mkstemp(path.data());
    ESPALIER_CHECK(fd_ >= 0, ErrorKind::user, "peak",
                   "cannot write a test file in \"{}\": {}; name another folder", folder,
                   std::strerror(errno));
    unlink(path.c_str());
  }
  ~UnnamedFile() { close(fd_); }
  UnnamedFile(const UnnamedFile&) = delete;
  UnnamedFile& operator=(const UnnamedFile&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

MemoryPeak measure_memory(int threads, double seconds) {
  MemoryPeak peak;
  // Several times the last cache in all, so that little of one pass is left for the next.
  peak.bytes = std::clamp<int64_t>(2 * cpu_info().l3_bytes, int64_t{32} << 20, int64_t{128} << 20);
  const int64_t count = peak.bytes / 8;
  HostTensor arrays[3];
  for (HostTensor& array : arrays) array = HostTensor(DType::f64, {count});
  double* a = arrays[0].as<double>().data();
  double* b = arrays[1].as<double>().data();
  double* c = arrays[2].as<double>().data();
  double total = 0;
  for (int repeat = 0; repeat < 8; ++repeat) {
    Stopwatch all;
    const double bytes = static_cast<double>(peak.bytes);
    Stopwatch write;
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; ++i) a[i] = 1.0;
    peak.write = std::max(peak.write, bytes / write.seconds());
    Stopwatch triad;
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; ++i) a[i] = b[i] + 3.0 * c[i];
    peak.triad = std::max(peak.triad, 3 * bytes / triad.seconds());
    Stopwatch read;
    double sum = 0;
#pragma omp parallel for simd num_threads(threads) schedule(static) reduction(+ : sum)
    for (int64_t i = 0; i < count; ++i) sum += a[i];
    peak.read = std::max(peak.read, bytes / read.seconds());
    asm volatile("" : : "g"(sum) : "memory");
    total += all.seconds();
    if (repeat >= 2 && total > seconds) break;
  }
  return peak;
}

DiskPeak measure_disk(const std::string& folder, int64_t bytes) {
  constexpr int64_t kPiece = int64_t{4} << 20;
  constexpr double kLongest = 0.4;  // seconds for each direction
  const UnnamedFile file(folder);
  HostTensor piece(DType::u8, {kPiece});
  // Not compressible to nothing by the file system.
  uint32_t state = 1;
  for (uint8_t& byte : piece.as<uint8_t>()) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<uint8_t>(state >> 24);
  }
  DiskPeak peak;
  Stopwatch write_watch;
  while (peak.bytes < bytes && write_watch.seconds() < kLongest) {
    const ssize_t wrote = ::write(file.fd(), piece.data(), kPiece);
    ESPALIER_CHECK(wrote > 0, ErrorKind::user, "peak", "cannot write to \"{}\" after {} bytes: {}",
                   folder, peak.bytes, std::strerror(errno));
    peak.bytes += wrote;
  }
  fdatasync(file.fd());
  peak.write = static_cast<double>(peak.bytes) / write_watch.seconds();
  posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED);
  int64_t got = 0;
  Stopwatch read_watch;
  while (got < peak.bytes && read_watch.seconds() < kLongest) {
    const ssize_t more = ::pread(file.fd(), piece.data(), kPiece, got);
    if (more <= 0) break;
    got += more;
  }
  peak.read = static_cast<double>(got) / read_watch.seconds();
  return peak;
}

}  // namespace espalier::cpu
