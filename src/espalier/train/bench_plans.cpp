// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bench_plans.h"

#include <algorithm>
#include <chrono>

#include "espalier/base/error.h"
#include "espalier/io/json.h"
#include "espalier/models/bert.h"
#include "espalier/models/workload.h"
#include "espalier/nn/shard_plan.h"
#include "espalier/train/module_opt.h"

namespace espalier::train {
namespace {

using models::BertForMaskedLm;

constexpr const char* kModels[] = {"bert-2l-256h", "bert-4l-512h",  "bert-4l-768h",
                                   "bert-8l-768h", "bert-12l-768h", "bert-100l-5120h"};
// Equinox's tree_at on a TPU host: 0.0682 ms a leaf and 0.08 ms.
constexpr double kLawSlope = 0.0682, kLawOffset = 0.08;

/// Milliseconds of run(prepared), median; prepare() is not timed.
template <typename Prepare, typename Run>
double median_ms(int64_t repeats, Prepare&& prepare, Run&& run) {
  std::vector<double> times;
  for (int64_t i = 0; i < repeats; ++i) {
    auto prepared = prepare();
    const auto start = std::chrono::steady_clock::now();
    auto result = run(std::move(prepared));
    times.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
            .count());
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2),
                   times.end());
  return times[times.size() / 2];
}

/// Replacements for the modules that the plan of the seeds transforms, six a layer.
std::vector<nn::Replacement> replacements_of(const BertForMaskedLm& model) {
  std::vector<nn::Replacement> all;
  for (size_t i = 0; i < model.bert.encoder.layer.size(); ++i) {
    const std::string layer = fmt::format("bert.encoder.layer.{}.", i);
    const models::BertLayer& l = model.bert.encoder.layer[i];
    all.emplace_back(layer + "attention.self.query", l.attention.self.query);
    all.emplace_back(layer + "attention.self.key", l.attention.self.key);
    all.emplace_back(layer + "attention.self.value", l.attention.self.value);
    all.emplace_back(layer + "attention.output.dense", l.attention.output.dense);
    all.emplace_back(layer + "intermediate.dense", l.intermediate.dense);
    all.emplace_back(layer + "output.dense", l.output.dense);
  }
  return all;
}

PlanBenchResult bench_one(const char* name, const PlanBenchOptions& options) {
  const models::BertConfig config = *models::named_bert(name);
  const shard::Mesh mesh({{"data", 1}, {"model", 4}});
  const shard::Mesh one_device({{"data", 1}, {"model", 1}});
  const std::vector<nn::Plan> plans = nn::plans_of(shard::preset("bert-tp"));
  const int64_t repeats = options.repeats;
  const auto nothing = [] { return 0; };
  PlanBenchResult r{.model = name};
  r.build_ms = median_ms(repeats, nothing, [&](int) { return BertForMaskedLm(config); });
  const BertForMaskedLm model(config);
  const auto copy = [&] { return BertForMaskedLm(model); };
  r.leaves = static_cast<int64_t>(nn::param_paths(model).size());
  r.hits = nn::apply_plans(model, mesh, plans).report.hit_count();
  r.resolve_apply_ms = median_ms(repeats, copy, [&](BertForMaskedLm tree) {
    return nn::apply_plans(std::move(tree), mesh, plans);
  });
  r.copy_ms = median_ms(repeats, nothing, [&](int) { return copy(); });

  const std::vector<nn::Replacement> all = replacements_of(model);
  r.transforms = static_cast<int64_t>(all.size());
  const std::vector<nn::Replacement> one(
      all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2),
      all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2 + 1));
  r.one_ms = median_ms(
      repeats, [&] { return std::vector(one); },
      [&](std::vector<nn::Replacement> list) { return nn::tree_at(model, std::move(list)); });
  using Both = std::pair<BertForMaskedLm, std::vector<nn::Replacement>>;
  r.one_in_place_ms = median_ms(
      repeats, [&] { return Both(model, one); },
      [&](Both both) { return nn::tree_at(std::move(both.first), std::move(both.second)); });
  r.one_walk_ms = median_ms(
      repeats, [&] { return std::vector(all); },
      [&](std::vector<nn::Replacement> list) { return nn::tree_at(model, std::move(list)); });
  r.one_by_one_ms = median_ms(
      std::min<int64_t>(3, repeats), [&] { return Both(model, all); },
      [](Both both) {
        for (nn::Replacement& next : both.second) {
          std::vector<nn::Replacement> single;
          single.push_back(std::move(next));
          both.first = nn::tree_at(both.first, std::move(single));
        }
        return std::move(both.first);
      });
  if (nn::param_count(model) <= options.module_opt_limit) {
    const auto make = [&](const std::vector<nn::Plan>& with) {
      return median_ms(3, copy, [&](BertForMaskedLm tree) {
        return make_module_opt(std::move(tree), adamw(), one_device, with, 0);
      });
    };
    r.module_opt_ms = make({});
    r.module_opt_plan_ms = make(plans);
  }
  return r;
}

}  // namespace

LinearFit fit_line(const std::vector<double>& x, const std::vector<double>& y) {
  const auto n = static_cast<double>(x.size());
  double mean_x = 0.0, mean_y = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    mean_x += x[i] / n;
    mean_y += y[i] / n;
  }
  double xx = 0.0, xy = 0.0, yy = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    xy += (x[i] - mean_x) * (y[i] - mean_y);
    yy += (y[i] - mean_y) * (y[i] - mean_y);
  }
  LinearFit fit;
  if (xx == 0.0) return fit;
  fit.slope = xy / xx;
  fit.offset = mean_y - fit.slope * mean_x;
  fit.r2 = yy == 0.0 ? 1.0 : xy * xy / (xx * yy);
  return fit;
}

std::vector<PlanBenchResult> bench_plans(const PlanBenchOptions& options,
                                         const std::function<void(const PlanBenchResult&)>& done) {
  ESPALIER_CHECK(options.repeats > 0, ErrorKind::user, "bench", "{} repeats measure nothing",
                 options.repeats);
  std::vector<PlanBenchResult> results;
  for (const char* name : kModels) {
    results.push_back(bench_one(name, options));
    if (done) done(results.back());
  }
  return results;
}

std::string plan_bench_json(const PlanBenchResult& r) {
  nlohmann::ordered_json line{{"bench", "plans"},
                              {"model", r.model},
                              {"leaves", r.leaves},
                              {"transforms", r.transforms},
                              {"hits", r.hits},
                              {"build_ms", r.build_ms},
                              {"resolve_apply_ms", r.resolve_apply_ms},
                              {"copy_ms", r.copy_ms},
                              {"one_ms", r.one_ms},
                              {"one_in_place_ms", r.one_in_place_ms},
                              {"one_by_one_ms", r.one_by_one_ms},
                              {"one_walk_ms", r.one_walk_ms}};
  if (r.module_opt_ms >= 0.0) {
    line["module_opt_ms"] = r.module_opt_ms;
    line["module_opt_plan_ms"] = r.module_opt_plan_ms;
  }
  return line.dump();
}

std::string plan_bench_text(const std::vector<PlanBenchResult>& results) {
  std::string text =
      fmt::format("{:<16} {:>6} {:>5} {:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10} {:>8}\n",
                  "ms", "leaves", "N", "hits", "build", "plan", "one", "in place", "N walk",
                  "N by one", "law, one", "us/leaf");
  std::vector<double> leaves, one;
  for (const PlanBenchResult& r : results) {
    const auto n = static_cast<double>(r.leaves);
    leaves.push_back(n);
    one.push_back(r.one_ms);
    text += fmt::format(
        "{:<16} {:>6} {:>5} {:>5} {:>9.4f} {:>9.4f} {:>9.4f} {:>9.4f} {:>9.4f} {:>10.3f} {:>10.2f} "
        "{:>8.3f}\n",
        r.model, r.leaves, r.transforms, r.hits, r.build_ms, r.resolve_apply_ms, r.one_ms,
        r.one_in_place_ms, r.one_walk_ms, r.one_by_one_ms, kLawSlope * n + kLawOffset,
        r.one_ms * 1e3 / n);
  }
  const LinearFit fit = fit_line(leaves, one);
  text += fmt::format(
      "\none replacement, the original kept: {:.4f} us a leaf {:+.4f} ms, R2 {:.4f}\n"
      "Equinox's tree_at on a TPU host:    {:.1f} us a leaf {:+.2f} ms, R2 0.9987\n",
      fit.slope * 1e3, fit.offset, fit.r2, kLawSlope * 1e3, kLawOffset);
  for (const PlanBenchResult& r : results) {
    if (r.module_opt_ms < 0.0) continue;
    text += fmt::format("make_module_opt of {}: {:.1f} ms without a plan, {:.1f} ms with bert-tp\n",
                        r.model, r.module_opt_ms, r.module_opt_plan_ms);
  }
  return text;
}

}  // namespace espalier::train
