// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/check_case.h"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace espalier::train {

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

void check_load(Step& step, const CheckParameters& parameters) {
  step.compile();
  step.initialize(0);
  for (const auto& [path, values] : parameters) step.set_parameter(path, values);
}

void take_outputs(Step& step, CheckResults& results) {
  for (const ir::Output& output : step.graph().outputs()) {
    if (output.alias < 0) {
      results[output.name] = step.executable().output(output.name).to_doubles();
    }
  }
}

void take_parameters(Step& step, CheckResults& results) {
  for (const auto& [path, values] : step.parameters()) {
    results["after." + path] = values.to_doubles();
  }
}

}  // namespace espalier::train
