// SPDX-License-Identifier: Apache-2.0
// What the attacked runs read: a tiny Qwen2 with random weights, ARC tasks, texts and token lists,
// and which samples must come out of them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace espalier::torture {

/// A sample that a run must hold exactly once, perhaps cut into windows.
struct WantedSample {
  std::string id;
  std::vector<int32_t> tokens;  // where they are known without a tokenizer
};

struct Inputs {
  std::filesystem::path model, tokenizer;
  std::vector<std::filesystem::path> files;  // of the dataset
  std::vector<std::string> arguments;  // of `espalier extract`, all but --output and how to lease
  std::vector<WantedSample> samples;   // in the order of the run
};

/// Writes model and data below `folder`. `size` scales the data: a run has about `size` thousand
/// tokens.
Inputs make_inputs(const std::filesystem::path& folder, int64_t size, uint64_t seed);

}  // namespace espalier::torture
