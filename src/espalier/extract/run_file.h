// SPDX-License-Identifier: Apache-2.0
// run.json: everything a run's bytes depend on, so that two runs never mix.
#pragma once

#include "espalier/extract/job.h"
#include "espalier/extract/reader_model.h"
#include "espalier/extract/store.h"
#include "espalier/io/json.h"

namespace espalier::extract {

/// Settings, and checksums of the model's, the tokenizer's and the dataset's files.
nlohmann::ordered_json describe_run(const ExtractOptions& options, const ReaderModel& model);

/// Writes run.json, or compares with the one that is there: `user` error naming what differs.
void claim_run(Store& store, const nlohmann::ordered_json& run);

}  // namespace espalier::extract
