// SPDX-License-Identifier: Apache-2.0
// run.json: everything a run's bytes depend on, so that two runs never mix.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "espalier/extract/job.h"
#include "espalier/extract/store.h"
#include "espalier/io/hash_cache.h"
#include "espalier/io/json.h"

namespace espalier::extract {

/// Where the tokenizer's files are; a byte LM has none.
std::filesystem::path tokenizer_files(const ExtractOptions& options);

/// Settings, and checksums of the model's, the tokenizer's and the dataset's files. `hooks` are the
/// activations' names; options.shard_tokens is what is in force.
nlohmann::ordered_json describe_run(const ExtractOptions& options,
                                    const std::vector<std::string>& hooks,
                                    const io::HashCache& hashes);

/// The text of run.json.
std::string run_file_text(const nlohmann::ordered_json& run);
/// Writes run.json, or compares with the one that is there: `user` error naming what differs.
void claim_run(Store& store, const nlohmann::ordered_json& run);
/// False when there is none; else compares as above.
bool compare_run(Store& store, const nlohmann::ordered_json& run);

}  // namespace espalier::extract
