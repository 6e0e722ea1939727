// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/plan_job.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <set>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/models/bert.h"
#include "espalier/models/byte_lm.h"
#include "espalier/models/workload.h"
#include "espalier/train/module_opt.h"

namespace espalier::train {
using shard::TransformKind;

std::vector<std::string> model_axes(const std::vector<shard::PlanText>& plans) {
  std::set<std::string> axes;
  for (const shard::PlanText& plan : plans) {
    for (const shard::RuleText& rule : plan.rules) {
      const TransformKind kind = rule.transform.kind;
      if (kind == TransformKind::column_parallel || kind == TransformKind::row_parallel ||
          kind == TransformKind::tensor_parallel) {
        axes.insert(rule.transform.axis);
      }
    }
  }
  return {axes.begin(), axes.end()};
}

models::BertConfig bert_config_of(const std::string& model) {
  const std::optional<models::BertConfig> named = models::named_bert(model);
  if (named) return *named;
  const std::vector<std::string> names{"bert-base", "bert-100l-5120h", "byte-lm"};
  ESPALIER_CHECK(std::filesystem::exists(model), ErrorKind::user, "plan",
                 "\"{}\" is neither a file nor a model ({}; bert-LAYERSl-HIDDENh){}", model,
                 fmt::join(names, ", "), nearest_hint(model, names));
  return models::read_bert_config(std::filesystem::is_directory(model)
                                      ? std::filesystem::path(model) / "config.json"
                                      : std::filesystem::path(model));
}

namespace {

void validate(const PlanJobOptions& o) {
  ESPALIER_CHECK(o.batch > 0 && o.seq >= 0 && o.moments >= 0, ErrorKind::user, "plan",
                 "--batch {} must be positive, --seq {} and --moments {} not negative", o.batch,
                 o.seq, o.moments);
  ESPALIER_CHECK(o.labelled >= 0.0 && o.labelled <= 1.0, ErrorKind::user, "plan",
                 "--labelled {} is outside [0, 1]", o.labelled);
}

/// Calls fn(abstract tree, workload(seq), largest seq, heads).
template <typename Fn>
auto with_model(const PlanJobOptions& o, Fn&& fn) {
  validate(o);
  if (o.model == "byte-lm") {
    models::ByteLmConfig config;
    if (o.seq > 0) config.seq_len = o.seq;
    return fn(models::ByteLm(config), config.seq_len, config.heads,
              [config](int64_t) { return models::byte_lm_workload(config); });
  }
  const models::BertConfig config = bert_config_of(o.model);
  const int64_t seq = o.seq > 0 ? o.seq : std::min<int64_t>(512, config.max_position_embeddings);
  ESPALIER_CHECK(seq <= config.max_position_embeddings, ErrorKind::user, "plan",
                 "{} positions are more than the {} of {}", seq, config.max_position_embeddings,
                 o.model);
  return fn(models::BertForMaskedLm(config), seq, config.num_attention_heads,
            [&, c = config](int64_t s) { return models::bert_workload(c, s, o.labelled); });
}

}  // namespace

PlanAnswer plan_model(const PlanJobOptions& options) {
  return with_model(options, [&](auto model, int64_t seq, int64_t heads, const auto& work) {
    auto placed = nn::apply_plans(std::move(model), options.mesh, nn::plans_of(options.plans));
    PlanAnswer answer{.model = options.model,
                      .mesh = options.mesh,
                      .device = options.device,
                      .batch = options.batch,
                      .seq = seq,
                      .dtype = options.dtype,
                      .params = nn::explain(placed.model, placed.report, options.mesh),
                      .report = std::move(placed.report),
                      .cost = {}};
    std::vector<shard::CostParam> params;
    params.reserve(answer.params.size());
    for (const nn::ParamPlacement& p : answer.params) {
      params.push_back({p.path, p.shape, p.dtype, p.trainable, p.spec});
    }
    const std::vector<std::string> axes = model_axes(options.plans);
    for (const std::string& axis : axes) {
      if (heads % options.mesh.size(axis) == 0) continue;
      answer.report.note(
          fmt::format("axis {} of {} devices does not divide the {} attention heads: "
                      "some of them are cut, which costs more than is counted here",
                      axis, options.mesh.size(axis), heads));
    }
    answer.cost = shard::estimate(params, work(seq), options.mesh, options.device,
                                  {.batch = options.batch,
                                   .compute_dtype = options.dtype,
                                   .moments = options.moments,
                                   .model_axes = axes});
    return answer;
  });
}

std::vector<SweepRow> sweep(const PlanJobOptions& options, int64_t devices) {
  std::vector<std::string> axes{"data"};
  for (const std::string& axis : model_axes(options.plans)) axes.push_back(axis);
  for (const shard::PlanText& plan : options.plans) {
    for (const shard::RuleText& rule : plan.rules) {
      const std::string& axis = rule.transform.axis;
      if (!axis.empty() && std::find(axes.begin(), axes.end(), axis) == axes.end()) {
        axes.push_back(axis);
      }
    }
  }
  if (axes.size() == 1) axes.emplace_back("model");
  std::vector<SweepRow> rows;
  for (shard::Mesh& mesh : shard::factorizations(devices, axes)) {
    PlanJobOptions one = options;
    one.mesh = mesh;
    SweepRow& row = rows.emplace_back(SweepRow{mesh, {}, {}});
    try {
      row.cost = plan_model(one).cost;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::user) throw;
      row.error = error.what();
    }
  }
  const bool none =
      std::all_of(rows.begin(), rows.end(), [](const SweepRow& r) { return !r.error.empty(); });
  // An error that no mesh escapes is not about meshes.
  if (none)
    plan_model([&] {
      auto one = options;
      one.mesh = rows.front().mesh;
      return one;
    }());
  std::stable_sort(rows.begin(), rows.end(), [](const SweepRow& a, const SweepRow& b) {
    const auto key = [](const SweepRow& r) {
      return std::tuple(!r.error.empty(), !r.cost.fits, r.cost.step_seconds);
    };
    return key(a) < key(b);
  });
  return rows;
}

SaveRankResult save_rank(const PlanJobOptions& options, int64_t rank, uint64_t seed,
                         const std::string& path) {
  options.mesh.check_rank(rank);
  return with_model(options, [&](auto model, int64_t, int64_t, const auto&) {
    const auto placed =
        nn::apply_plans(std::move(model), options.mesh, nn::plans_of(options.plans));
    const Optimizer optimizer = options.moments == 0 ? sgd() : adamw();
    const auto start = std::chrono::steady_clock::now();
    const std::vector<ShardSpec> specs =
        shard_specs(abstract_params(placed.model), optimizer, options.mesh, rank);
    save_shards(path, specs, options.mesh, rank, seed);
    SaveRankResult result;
    result.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (const ShardSpec& spec : specs) {
      const auto numel = static_cast<double>(spec.region.size.numel());
      ++result.tensors;
      result.bytes += numel * static_cast<double>(size_of(spec.dtype));
      if (spec.name == nn::input_name(spec.path)) result.values += numel;
    }
    return result;
  });
}

}  // namespace espalier::train
