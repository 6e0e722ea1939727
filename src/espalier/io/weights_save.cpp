// SPDX-License-Identifier: Apache-2.0
// Saving: tensors are dealt to files by name, converted piece by piece on their way to disk.
#include <algorithm>
#include <cmath>

#include "espalier/base/checked.h"
#include "espalier/io/atomic.h"
#include "espalier/io/json.h"
#include "espalier/io/weights.h"
#include "espalier/io/weights_files.h"
#include "espalier/tensor/convert.h"

namespace espalier::io {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kStage = "weights";
constexpr int64_t kPiece = int64_t{1} << 20;  // elements converted at a time

using Tensors = std::map<std::string, HostTensor>;

int64_t saved_bytes(const std::string& name, const HostTensor& tensor, DType dtype) {
  return checked_mul(tensor.numel(), size_of(dtype), {ErrorKind::user, kStage, "bytes of " + name});
}

/// Names of the tensors of each file.
std::vector<std::vector<std::string>> deal(const Tensors& tensors,
                                           const SaveWeightsOptions& options) {
  std::vector<std::vector<std::string>> shards(1);
  int64_t size = 0;
  for (const auto& [name, tensor] : tensors) {
    const int64_t bytes = saved_bytes(name, tensor, options.dtype);
    if (!shards.back().empty() && size + bytes > options.max_shard_bytes) {
      shards.emplace_back();
      size = 0;
    }
    shards.back().push_back(name);
    size += bytes;
  }
  return shards;
}

void check_fits(const std::string& name, const HostTensor& from, int64_t first,
                const HostTensor& rounded) {
  for (int64_t i = 0; i < rounded.numel(); ++i) {
    const double value = from.get(first + i);
    ESPALIER_CHECK(!std::isfinite(value) || std::isfinite(rounded.get(i)), ErrorKind::user, kStage,
                   "{}[{}] = {} is beyond the range of {}; save as f32 or bf16", name, first + i,
                   value, espalier::name(rounded.dtype()));
  }
}

void write_shard(OutputFile out, const Tensors& tensors, const std::vector<std::string>& names,
                 DType dtype) {
  std::vector<SafetensorsSpec> specs;
  specs.reserve(names.size());
  for (const std::string& name : names) specs.push_back({name, dtype, tensors.at(name).shape()});
  SafetensorsWriter writer(out, std::move(specs));
  for (const SafetensorsSpec& spec : writer.order()) {
    const HostTensor& tensor = tensors.at(spec.name);
    for (int64_t first = 0; first < tensor.numel(); first += kPiece) {
      const int64_t count = std::min(kPiece, tensor.numel() - first);
      if (tensor.dtype() == dtype) {
        const auto* bytes = static_cast<const std::byte*>(tensor.data());
        writer.write(spec.name,
                     {bytes + first * size_of(dtype), static_cast<size_t>(count * size_of(dtype))});
        continue;
      }
      const HostTensor piece(dtype, {count});
      convert_values(tensor, first, piece);
      if (dtype == DType::f16) check_fits(spec.name, tensor, first, piece);
      writer.write(spec.name, {static_cast<const std::byte*>(piece.data()),
                               static_cast<size_t>(piece.bytes())});
    }
  }
  writer.finish();
  out.sync_and_close();
}

/// The folder is about to be replaced as a whole: it must hold nothing that would be missed.
void check_replaceable(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::exists(folder, ignored)) return;
  ESPALIER_CHECK(fs::is_directory(folder, ignored), ErrorKind::user, kStage,
                 "{} is a file; weights are saved as a folder", folder.string());
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    ESPALIER_CHECK(belongs_to_weights(name), ErrorKind::user, kStage,
                   "{} holds {}, which is no part of a saved model and would be lost; choose "
                   "another folder",
                   folder.string(), name);
  }
}

}  // namespace

void save_weights(const fs::path& folder, const Tensors& tensors,
                  const SaveWeightsOptions& options) {
  ESPALIER_CHECK(
      options.dtype == DType::f32 || options.dtype == DType::bf16 || options.dtype == DType::f16,
      ErrorKind::user, kStage, "weights are saved as f32, bf16 or f16, not {}",
      name(options.dtype));
  ESPALIER_CHECK(options.max_shard_bytes > 0, ErrorKind::user, kStage,
                 "a file of at most {} bytes holds no tensor", options.max_shard_bytes);
  const FileContext context{.stage = std::string(kStage)};
  const fs::path target = folder.has_filename() ? folder : folder.parent_path();
  check_replaceable(target);
  if (target.has_parent_path()) create_folders(target.parent_path(), context);
  const auto shards = deal(tensors, options);
  AtomicFolder made(target, context);
  nlohmann::ordered_json weight_map = nlohmann::ordered_json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file =
        shards.size() == 1 ? std::string(kWeightFile) : shard_name(i, shards.size());
    for (const std::string& tensor : shards[i]) weight_map[tensor] = file;
    write_shard(made.create(file), tensors, shards[i], options.dtype);
  }
  std::map<std::string, std::string> files = options.files;
  if (shards.size() > 1) {
    int64_t total = 0;
    for (const auto& [name, tensor] : tensors) total += saved_bytes(name, tensor, options.dtype);
    const nlohmann::ordered_json index{{"metadata", {{"total_size", total}}},
                                       {"weight_map", weight_map}};
    files[std::string(kWeightIndex)] = index.dump(2) + "\n";
  }
  for (const auto& [file, text] : files) {
    OutputFile out = made.create(file);
    out.write(text);
    out.sync_and_close();
  }
  made.commit();
}

}  // namespace espalier::io
