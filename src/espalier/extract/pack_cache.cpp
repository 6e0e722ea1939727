// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/pack_cache.h"

#include <algorithm>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/version.h"
#include "espalier/io/file.h"
#include "espalier/io/safetensors.h"
#include "espalier/io/sha256.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;

std::string identity(const fs::path& model) {
  std::vector<fs::path> files;
  if (fs::is_directory(model)) {
    for (const auto& entry : fs::directory_iterator(model)) {
      if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
    }
  } else {
    files.push_back(model);
  }
  std::sort(files.begin(), files.end());
  std::string text = fmt::format("{}\n", version());
  for (const fs::path& file : files) {
    text += fmt::format("{} {} {}\n", fs::canonical(file).string(), fs::file_size(file),
                        fs::last_write_time(file).time_since_epoch().count());
  }
  return io::sha256_hex(text);
}

}  // namespace

PackCache::PackCache(fs::path folder, const fs::path& model) {
  if (!folder.empty()) file_ = folder / fmt::format("{}.safetensors", identity(model));
}

void PackCache::load(PackedWeights& packed) {
  if (file_.empty() || !fs::exists(file_)) return;
  try {
    const auto tensors = io::SafetensorsFile::open(file_).tensors();
    packed.adopt(tensors);
    kept_ = tensors.size();
  } catch (const Error& error) {
    // It is made again, and replaced.
    if (error.kind() != ErrorKind::data) throw;
  }
}

void PackCache::save(const PackedWeights& packed) {
  if (file_.empty()) return;
  const std::map<std::string, HostTensor> all = packed.all();
  if (all.size() <= kept_) return;
  io::create_folders(file_.parent_path(), {.stage = "extract", .next_step = "check --pack-cache"});
  io::save_safetensors(file_, all);
  kept_ = all.size();
}

}  // namespace espalier::extract
