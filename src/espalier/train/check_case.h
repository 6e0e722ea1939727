// SPDX-License-Identifier: Apache-2.0
// One folder of a parity check, read, and the way to compute everything in it. A model's file
// (check_byte_lm.cpp, check_bert.cpp, check_qwen2.cpp) reads; check.cpp compares.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/io/json.h"
#include "espalier/io/safetensors.h"
#include "espalier/train/check.h"
#include "espalier/train/step.h"

namespace espalier::train {

/// Values of a JSON object, with errors that name file and key.
class CheckSettings {
 public:
  explicit CheckSettings(const std::filesystem::path& path);
  bool has(std::string_view key) const { return values_.contains(key); }
  /// "optimizer.lr" is the key lr of the object at optimizer.
  template <typename T>
  T get(const std::string& key) const {
    const nlohmann::json& value = find(key);
    try {
      return value.get<T>();
    } catch (const nlohmann::json::exception&) {
      fail(ErrorKind::data, "check", "{}: {} = {} is of another type", label_, key, value.dump());
    }
  }
  const std::string& label() const { return label_; }

 private:
  const nlohmann::json& find(const std::string& key) const;
  nlohmann::json values_;
  std::string label_;
};

using CheckResults = std::map<std::string, std::vector<double>>;
using CheckParameters = std::map<std::string, HostTensor>;

struct CheckCase {
  std::string model;
  CheckParameters parameters;
  /// Everything of expected.safetensors as this library computes it.
  std::function<CheckResults(const CheckParameters&, const CompileOptions&)> compute;
  std::vector<std::string> inputs;  // tensors of expected.safetensors that are no results
  double longest_sum = 1.0;         // of products or terms, forward and backward
  AdamOptions adam;
  int64_t steps = 0;
  /// Elements of `what` that are parameters with a gradient of zero: [begin, end), else empty.
  std::function<std::pair<size_t, size_t>(const std::string& what, size_t elements)> key_bias =
      [](const std::string&, size_t) {
        return std::pair<size_t, size_t>{0, 0};
      };
  /// The reference computed everything in double.
  bool exact = true;
  /// Not empty: 1 for each row of logits and hook.* that is compared; the others are padding.
  std::vector<uint8_t> rows = {};
};

/// Reads a folder of one kind of model; `options` may choose how the model is written.
using ReadCheckCase = CheckCase(const std::filesystem::path& folder, const CheckSettings& settings,
                                const io::SafetensorsFile& expected, const CheckOptions& options);
ReadCheckCase read_byte_lm_case, read_bert_case, read_qwen2_case;

/// Adam's options at the key "optimizer" of the settings.
AdamOptions check_adam(const CheckSettings& settings);
/// The values of a model's leaves from folder/model.safetensors.
CheckParameters check_parameters(const std::filesystem::path& folder,
                                 const std::vector<nn::LeafEntry>& leaves);

/// Which of the two steps of a check a batch is for; a forward pass has no labels.
enum class CheckRun : uint8_t { forward, train };

/// Results of both steps from the given parameters: the outputs of one forward run; of `steps`
/// training runs the outputs of the first, train.loss (and train.grad_norm where the step has one)
/// of each, and after.PATH of every parameter. `set_inputs` is called before each run, with the
/// number of training runs before it.
CheckResults check_runs(Step forward, Step train, const CheckParameters& parameters, int64_t steps,
                        const std::function<void(Step&, CheckRun, int64_t run)>& set_inputs);

}  // namespace espalier::train
