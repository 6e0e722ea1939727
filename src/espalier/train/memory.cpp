// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/memory.h"

#include <malloc.h>

#include <fstream>
#include <string>

namespace espalier::train {
namespace {

/// A line "NAME:   12345 kB" of /proc/self/status; 0 where there is none.
int64_t status_bytes(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name + ":")) return std::stoll(line.substr(name.size() + 1)) * 1024;
  }
  return 0;
}

}  // namespace

int64_t resident_bytes() { return status_bytes("VmRSS"); }

int64_t peak_resident_bytes() { return status_bytes("VmHWM"); }

bool reset_peak_resident() {
  // "5" resets the high-water mark (proc(5)).
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good();
}

void release_free_memory() { malloc_trim(0); }

}  // namespace espalier::train
