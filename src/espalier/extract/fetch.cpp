// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/fetch.h"

#include <algorithm>
#include <string>

#include "espalier/base/error.h"
#include "espalier/extract/sample_source.h"
#include "espalier/extract/store.h"
#include "espalier/io/file.h"

namespace espalier::extract {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPiece = int64_t{8} << 20;

void copy(Store& store, const std::string& key, int64_t size, const fs::path& to) {
  const io::FileContext context{.stage = "dataset", .next_step = "set TMPDIR to another folder"};
  io::create_folders(to.parent_path(), context);
  io::OutputFile file = io::OutputFile::create(to, context);
  std::vector<std::byte> bytes(static_cast<size_t>(std::min(size, kPiece)));
  for (int64_t at = 0; at < size; at += kPiece) {
    const auto piece = std::span(bytes).first(static_cast<size_t>(std::min(size - at, kPiece)));
    store.read(key, at, piece);
    file.write(piece);
  }
}

/// An object, or those right below a prefix.
fs::path fetch(const std::string& url, const fs::path& folder) {
  ESPALIER_CHECK(url.starts_with("s3://") || url.starts_with("gs://"), ErrorKind::user, "dataset",
                 "{}: a dataset is a file or a folder here, or at s3:// or gs://", url);
  check_store_url(url);
  const size_t bucket = url.find("://") + 3, slash = url.rfind('/');
  const std::string name = slash < bucket ? "" : url.substr(slash + 1);
  const auto store = open_store(name.empty() ? url : url.substr(0, slash));
  if (!name.empty()) {
    if (const auto size = store->size(name)) {
      copy(*store, name, *size, folder / name);
      return folder / name;
    }
  }
  const std::string prefix = name.empty() ? "" : name + "/";
  bool any = false;
  for (const std::string& key : store->list(prefix)) {
    const std::string file = key.substr(prefix.size());
    if (file.find('/') != std::string::npos || !is_dataset_file(file)) continue;
    copy(*store, key, store->size(key).value_or(0), folder / file);
    any = true;
  }
  ESPALIER_CHECK(any, ErrorKind::user, "dataset",
                 "{} is no object, and no .json or .jsonl file is below it; check --dataset", url);
  return folder;
}

}  // namespace

std::unique_ptr<ScratchFolder> fetch_datasets(std::vector<fs::path>& files) {
  std::unique_ptr<ScratchFolder> scratch;
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string url = files[i].string();
    if (url.find("://") == std::string::npos) continue;
    if (!scratch) scratch = std::make_unique<ScratchFolder>(fs::temp_directory_path(), "dataset");
    files[i] = fetch(url, scratch->path() / std::to_string(i));
  }
  return scratch;
}

}  // namespace espalier::extract
