// SPDX-License-Identifier: Apache-2.0
// Plans from TOML, and the plans that have names.
#include <toml++/toml.h>
#include <algorithm>
#include <fstream>
#include <sstream>

#include "espalier/base/error.h"
#include "espalier/base/glob.h"
#include "espalier/base/text.h"
#include "espalier/shard/transform.h"

namespace espalier::shard {
namespace {

/// What a table of a plan file may hold.
const std::vector<std::string> kFileKeys{"plan", "rule"};
const std::vector<std::string> kPlanKeys{"name", "rule"};
const std::vector<std::string> kRuleKeys{"match", "apply", "optional"};

class Reader {
 public:
  explicit Reader(std::string_view label) : label_(label) {}

  std::vector<PlanText> read(const toml::table& file) const {
    check_keys(file, kFileKeys);
    std::vector<PlanText> plans;
    if (file.contains("rule")) plans.push_back({"", rules(*file.get("rule"))});
    if (const toml::node* list = file.get("plan")) {
      for (const toml::table* table : tables(*list, "plan")) {
        check_keys(*table, kPlanKeys);
        PlanText plan;
        if (const toml::node* name = table->get("name")) plan.name = text(*name, "name");
        if (const toml::node* list_of_rules = table->get("rule"))
          plan.rules = rules(*list_of_rules);
        plans.push_back(std::move(plan));
      }
    }
    const bool empty =
        std::all_of(plans.begin(), plans.end(), [](const PlanText& p) { return p.rules.empty(); });
    ESPALIER_CHECK(!empty, ErrorKind::data, "plan", "{} has no rule; write [[rule]] or [[plan]]",
                   label_);
    return plans;
  }

 private:
  std::string at(const toml::node& node) const {
    return fmt::format("{}:{}", label_, node.source().begin.line);
  }

  void check_keys(const toml::table& table, const std::vector<std::string>& known) const {
    for (const auto& [key, node] : table) {
      const std::string name(key.str());
      ESPALIER_CHECK(std::find(known.begin(), known.end(), name) != known.end(), ErrorKind::data,
                     "plan", "unknown key \"{}\" at {}{}", name, at(node),
                     nearest_hint(name, known));
    }
  }

  std::string text(const toml::node& node, std::string_view key) const {
    const auto value = node.value<std::string>();
    ESPALIER_CHECK(value.has_value(), ErrorKind::data, "plan", "\"{}\" must be a string at {}", key,
                   at(node));
    return *value;
  }

  std::vector<const toml::table*> tables(const toml::node& node, std::string_view key) const {
    std::vector<const toml::table*> result;
    const toml::array* list = node.as_array();
    const bool good = list != nullptr && std::all_of(list->begin(), list->end(),
                                                     [](const auto& n) { return n.is_table(); });
    ESPALIER_CHECK(good, ErrorKind::data, "plan", "\"{}\" must be a list of tables, [[{}]], at {}",
                   key, key, at(node));
    for (const toml::node& item : *list) result.push_back(item.as_table());
    return result;
  }

  std::vector<RuleText> rules(const toml::node& list) const {
    std::vector<RuleText> result;
    for (const toml::table* table : tables(list, "rule")) {
      check_keys(*table, kRuleKeys);
      RuleText rule;
      for (const std::string required : {"match", "apply"}) {
        ESPALIER_CHECK(table->contains(required), ErrorKind::data, "plan",
                       "the rule at {} has no \"{}\"", at(*table), required);
      }
      const toml::node& match = *table->get("match");
      rule.glob = text(match, "match");
      {
        ESPALIER_CONTEXT("{}", at(match));
        const Glob checked(rule.glob);
      }
      const toml::node& apply = *table->get("apply");
      const std::string transform = text(apply, "apply");
      ESPALIER_CONTEXT("{}", at(apply));
      rule.transform = Transform::parse(transform);
      if (const toml::node* optional = table->get("optional")) {
        ESPALIER_CHECK(optional->is_boolean(), ErrorKind::data, "plan",
                       "\"optional\" must be true or false at {}", at(*optional));
        rule.optional = optional->value_or(false);
      }
      result.push_back(std::move(rule));
    }
    return result;
  }

  std::string label_;
};

/// The plan of the measurements this project began with: Megatron's cuts for a BERT encoder.
PlanText bert_tensor_parallel() {
  const Transform column{.kind = TransformKind::column_parallel, .axis = "model"};
  const Transform row{.kind = TransformKind::row_parallel, .axis = "model"};
  return {"bert-tp",
          {{"*.intermediate.dense", column},
           {"*.output.dense", row},
           {"*.attention.self.query", column},
           {"*.attention.self.key", column},
           {"*.attention.self.value", column},
           {"*.attention.output.dense", row}}};
}

PlanText fully_sharded() {
  return {"fsdp", {{"*", {.kind = TransformKind::fully_shard, .axis = "data"}}}};
}

}  // namespace

std::vector<PlanText> parse_plans(std::string_view text, std::string_view label) {
  try {
    return Reader(label).read(toml::parse(text, std::string(label)));
  } catch (const toml::parse_error& error) {
    fail(ErrorKind::data, "plan", "{}:{} is not TOML: {}", label, error.source().begin.line,
         error.description());
  }
}

std::vector<PlanText> read_plan_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  ESPALIER_CHECK(file.good() && !std::filesystem::is_directory(path), ErrorKind::user, "plan",
                 "cannot read the plan file {}", path.string());
  std::stringstream text;
  text << file.rdbuf();
  return parse_plans(text.str(), path.string());
}

std::vector<PlanText> preset(std::string_view name) {
  const std::vector<std::string> names{"bert-tp", "fsdp", "bert-tp+fsdp"};
  if (name == names[0]) return {bert_tensor_parallel()};
  if (name == names[1]) return {fully_sharded()};
  if (name == names[2]) return {bert_tensor_parallel(), fully_sharded()};
  fail(ErrorKind::user, "plan", "no preset is called \"{}\"{}; there are {}", name,
       nearest_hint(name, names), fmt::join(names, ", "));
}

}  // namespace espalier::shard
