// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/stages.h"

#include <algorithm>

namespace espalier::extract {
namespace {

constexpr std::array<std::string_view, kStages> kNames{
    "read", "prompt", "tokenize", "plan", "claim", "compute", "copy", "encode", "write", "commit"};

}  // namespace

std::string_view name(Stage stage) { return kNames[static_cast<size_t>(stage)]; }

StageReport report_stages(const StageTimes& times, double seconds, int64_t computing,
                          int64_t writing) {
  struct Lane {
    std::vector<Stage> stages;  // of one kind of thread
    int64_t threads;
  };
  const std::vector<Lane> lanes{{{Stage::read, Stage::prompt}, 1},
                                {{Stage::tokenize, Stage::plan}, 1},
                                {{Stage::claim}, 1},
                                {{Stage::compute, Stage::copy}, computing},
                                {{Stage::encode, Stage::write, Stage::commit}, writing}};
  StageReport report;
  double busiest = -1.0;
  for (const Lane& lane : lanes) {
    const double had = std::max(seconds, 1e-9) * static_cast<double>(lane.threads);
    double busy = 0.0;
    const auto longest = [&](Stage a, Stage b) { return times.seconds(a) < times.seconds(b); };
    for (Stage stage : lane.stages) {
      busy += times.seconds(stage) / had;
      report.stages.push_back(
          {std::string(name(stage)), times.seconds(stage), times.seconds(stage) / had});
    }
    if (busy <= busiest) continue;
    busiest = busy;
    report.limit = name(*std::max_element(lane.stages.begin(), lane.stages.end(), longest));
  }
  return report;
}

}  // namespace espalier::extract
