// SPDX-License-Identifier: Apache-2.0
// Weights in the layout of Hugging Face's folders: `model.safetensors`, or shards that
// `model.safetensors.index.json` lists, beside a config.json.
//
// What a model wants is a list of names, dtypes and shapes, so any family uses this: nn/weights.h
// makes the list from a module tree. Files are mapped; a tensor's bytes are read when it is copied.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "espalier/io/safetensors.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier::io {

/// One parameter that a model has.
struct WantedTensor {
  std::string path;
  DType dtype = DType::f32;
  Shape shape;
  /// Further names of the same values (a decoder tied to an embedding). A file may have any of
  /// them; those it has must agree.
  std::vector<std::string> also = {};
};

/// How the files of a family name what its trees have.
struct WeightNames {
  /// Files saved from the bare encoder lack this prefix: "bert.".
  std::string base_prefix = {};
  /// Endings of old files and what they became: {".gamma", ".weight"}.
  std::vector<std::pair<std::string, std::string>> endings = {};
  /// Globs of tensors that no parameter stands for: buffers, heads that the model lacks. They are
  /// under the names of the tree, so with prefix and new endings.
  std::vector<std::string> ignored = {};
  /// Globs of parameters that a file may lack; the caller gives them initial values.
  std::vector<std::string> optional = {};
};

struct LoadedWeights {
  /// By path, with the dtype of the file: F32, BF16, F16 or F64. Views of the files' pages, which
  /// they keep alive.
  std::map<std::string, HostTensor> tensors;
  std::vector<std::string> missing;           // optional ones that the files lack
  std::vector<std::string> ignored;           // names in the files
  std::set<std::string, std::less<>> mapped;  // paths of tensors that lie in a file's pages

  /// Gives the memory of a mapped tensor back to the system; its pages are read from the file again
  /// when they are touched. Does nothing to others. From any thread.
  void release(std::string_view path) const;
};

/// Finds everything in `path`: a folder, or one .safetensors file. One `data` error lists all
/// tensors that are missing, not known, of another shape, of a type that holds no real numbers, in
/// conflict with a tensor they are tied to, or misplaced by the index, each with the nearest name.
/// `unsupported` for folders with weights in other formats only.
LoadedWeights load_weights(const std::filesystem::path& path,
                           const std::vector<WantedTensor>& wanted, const WeightNames& names = {});

struct SaveWeightsOptions {
  DType dtype = DType::f32;  // of all tensors; f32, bf16 or f16
  /// A file holds no more bytes of tensors than this, unless a single tensor has more.
  int64_t max_shard_bytes = 5'000'000'000;
  /// Other files of the folder by name: config.json, tokenizer.json.
  std::map<std::string, std::string> files = {};
};

/// Writes `folder` with model.safetensors or shards and their index, in place of an earlier folder
/// of the kind; it appears whole or not at all. Values are rounded to nearest even. Throws `user`
/// for a folder that holds anything else than a saved model, and for finite values that f16 cannot
/// hold, naming them.
void save_weights(const std::filesystem::path& folder,
                  const std::map<std::string, HostTensor>& tensors,
                  const SaveWeightsOptions& options = {});

}  // namespace espalier::io
