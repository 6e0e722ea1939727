// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/check_case.h"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace espalier::train {
namespace {

/// Compiles, and copies the parameters in.
void load(Step& step, const CheckParameters& parameters) {
  step.compile();
  step.initialize(0);
  for (const auto& [path, values] : parameters) step.set_parameter(path, values);
}

/// Adds the step's outputs that are not state.
void take_outputs(Step& step, CheckResults& results) {
  for (const ir::Output& output : step.graph().outputs()) {
    if (output.alias < 0) {
      results[output.name] = step.executable().output(output.name).to_doubles();
    }
  }
}

bool has_output(const Step& step, std::string_view name) {
  const std::vector<ir::Output>& outputs = step.graph().outputs();
  return std::any_of(outputs.begin(), outputs.end(),
                     [&](const ir::Output& output) { return output.name == name; });
}

}  // namespace

using nlohmann::json;

CheckSettings::CheckSettings(const std::filesystem::path& path) : label_(path.string()) {
  std::ifstream file(path);
  ESPALIER_CHECK(file.good(), ErrorKind::user, "check", "{} cannot be read", label_);
  values_ = io::try_parse_json(std::string(std::istreambuf_iterator<char>(file), {}));
  ESPALIER_CHECK(values_.is_object(), ErrorKind::data, "check", "{} is no JSON object", label_);
}

const json& CheckSettings::find(const std::string& key) const {
  const json* at = &values_;
  for (size_t begin = 0; begin <= key.size();) {
    const size_t end = std::min(key.find('.', begin), key.size());
    const auto found = at->is_object() ? at->find(key.substr(begin, end - begin)) : at->end();
    ESPALIER_CHECK(at->is_object() && found != at->end(), ErrorKind::data, "check",
                   "{}: {} is missing", label_, key);
    at = &*found;
    begin = end + 1;
  }
  return *at;
}

AdamOptions check_adam(const CheckSettings& settings) {
  const auto betas = settings.get<std::vector<double>>("optimizer.betas");
  ESPALIER_CHECK(betas.size() == 2, ErrorKind::data, "check",
                 "expected.json: optimizer.betas has {} numbers, not 2", betas.size());
  return {.learning_rate = settings.get<double>("optimizer.lr"),
          .beta1 = betas[0],
          .beta2 = betas[1],
          .epsilon = settings.get<double>("optimizer.eps")};
}

CheckParameters check_parameters(const std::filesystem::path& folder,
                                 const std::vector<nn::LeafEntry>& leaves) {
  const io::SafetensorsFile file = io::SafetensorsFile::open(folder / "model.safetensors");
  CheckParameters parameters;
  for (const auto& [path, leaf] : leaves) {
    parameters.emplace(path, file.tensor(path, leaf->dtype, leaf->shape));
  }
  return parameters;
}

CheckResults check_runs(Step forward, Step train, const CheckParameters& parameters, int64_t steps,
                        const std::function<void(Step&, CheckRun, int64_t)>& set_inputs) {
  CheckResults results;
  load(forward, parameters);
  set_inputs(forward, CheckRun::forward, 0);
  forward.run();
  take_outputs(forward, results);

  load(train, parameters);
  std::vector<double> losses, norms;
  for (int64_t s = 0; s < steps; ++s) {
    set_inputs(train, CheckRun::train, s);
    train.run();
    losses.push_back(train.loss());
    if (has_output(train, "grad_norm")) norms.push_back(train.scalar("grad_norm"));
    if (s == 0) take_outputs(train, results);
  }
  results["train.loss"] = std::move(losses);
  if (!norms.empty()) results["train.grad_norm"] = std::move(norms);
  for (const auto& [path, values] : train.parameters()) {
    results["after." + path] = values.to_doubles();
  }
  return results;
}

}  // namespace espalier::train
