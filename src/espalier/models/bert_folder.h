// SPDX-License-Identifier: Apache-2.0
// BERT from and to Hugging Face folders: config.json and weights. What is saved opens in
// `transformers` as it is.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "espalier/io/weights.h"
#include "espalier/models/bert.h"

namespace espalier::models {

/// Old names of norms, what is left out (position ids, pooler, next-sentence head), and the prefix
/// that files of the bare encoder lack.
io::WeightNames bert_weight_names();

struct BertFolder {
  BertConfig config;
  io::LoadedWeights weights;
};

/// What a folder may lack.
enum class BertHeadIs { required, optional };

/// Reads config.json and finds the weights; see io::load_weights for what is refused. With an
/// optional head, parameters cls.* that are not there are in weights.missing (files of the bare
/// encoder), and the caller gives them initial values.
BertFolder load_bert(const std::filesystem::path& folder, BertHeadIs head = BertHeadIs::required);

/// Writes config.json and the weights, with options.files (a tokenizer) beside them. `tensors` has
/// every leaf of the tree by path; throws `internal` when it does not.
void save_bert(const std::filesystem::path& folder, const BertConfig& config,
               const std::map<std::string, HostTensor>& tensors,
               io::SaveWeightsOptions options = {});

struct ConvertResult {
  int64_t tensors = 0, parameters = 0;
  std::vector<std::string> ignored;  // tensors of the folder that no parameter stands for
};

/// Loads a folder and saves it with other options; files of the tokenizer go along.
ConvertResult convert_bert(const std::filesystem::path& from, const std::filesystem::path& to,
                           io::SaveWeightsOptions options);

}  // namespace espalier::models
