// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/check.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <span>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/io/safetensors.h"
#include "espalier/models/byte_lm.h"
#include "espalier/train/step.h"

namespace espalier::train {
namespace {

using nlohmann::json;
using Results = std::map<std::string, std::vector<double>>;

constexpr double kExactBound = 1e-9;
constexpr double kSmallestScale = 1e-3;
constexpr double kSpread = 4.0;
constexpr uint64_t kPerturbedRuns = 4;

json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  ESPALIER_CHECK(file.good(), ErrorKind::data, "check", "{} cannot be read", path.string());
  json parsed = json::parse(file, nullptr, false);
  ESPALIER_CHECK(parsed.is_object(), ErrorKind::data, "check", "{} is no JSON object",
                 path.string());
  return parsed;
}

/// Values of expected.json, with errors that name file and key.
class Settings {
 public:
  Settings(json values, std::string label) : values_(std::move(values)), label_(std::move(label)) {}
  template <typename T>
  T get(const std::string& key) const {
    const json* at = &values_;
    for (size_t begin = 0; begin <= key.size();) {
      const size_t end = std::min(key.find('.', begin), key.size());
      const auto found = at->is_object() ? at->find(key.substr(begin, end - begin)) : at->end();
      ESPALIER_CHECK(at->is_object() && found != at->end(), ErrorKind::data, "check",
                     "{}: {} is missing", label_, key);
      at = &*found;
      begin = end + 1;
    }
    try {
      return at->get<T>();
    } catch (const json::exception&) {
      fail(ErrorKind::data, "check", "{}: {} = {} is of another type", label_, key, at->dump());
    }
  }

 private:
  json values_;
  std::string label_;
};

struct ByteLmCase {
  models::ByteLmConfig config;
  models::ByteLmVariant variant;
  int64_t batch, steps;
  AdamOptions adam;
  std::map<std::string, HostTensor> parameters;
  std::vector<uint8_t> bytes;  // [steps, batch, seq]

  /// Longest sum of products or terms in forward and backward pass.
  double longest_sum() const {
    return static_cast<double>(
        std::max({config.width * 3, config.ffn, config.vocab, config.seq_len * batch}));
  }
};

ByteLmCase read_byte_lm(const std::filesystem::path& folder, const Settings& settings,
                        const io::SafetensorsFile& expected, const CheckOptions& options) {
  ByteLmCase c;
  c.config = {.vocab = settings.get<int64_t>("vocab"),
              .width = settings.get<int64_t>("hidden"),
              .heads = settings.get<int64_t>("heads"),
              .ffn = settings.get<int64_t>("ffn"),
              .layers = settings.get<int64_t>("layers"),
              .seq_len = settings.get<int64_t>("seq"),
              .dropout = 0.0,
              .norm_epsilon = settings.get<double>("norm_eps")};
  c.variant = models::parse_byte_lm_variant(options.variant);
  c.batch = settings.get<int64_t>("batch");
  c.steps = settings.get<int64_t>("steps");
  const auto optimizer = settings.get<std::string>("optimizer.name");
  ESPALIER_CHECK(optimizer == "adam", ErrorKind::unsupported, "check",
                 "expected.json: optimizer \"{}\" is not adam", optimizer);
  const auto betas = settings.get<std::vector<double>>("optimizer.betas");
  ESPALIER_CHECK(betas.size() == 2, ErrorKind::data, "check",
                 "expected.json: optimizer.betas has {} numbers, not 2", betas.size());
  c.adam = {.learning_rate = settings.get<double>("optimizer.lr"),
            .beta1 = betas[0],
            .beta2 = betas[1],
            .epsilon = settings.get<double>("optimizer.eps")};

  const io::SafetensorsFile model = io::SafetensorsFile::open(folder / "model.safetensors");
  const models::ByteLm shapes(c.config);
  nn::for_each_param(shapes, [&](std::string_view path, const nn::Param& p) {
    c.parameters.emplace(path, model.tensor(path, p.dtype, p.shape));
  });
  const HostTensor bytes =
      expected.tensor("input_bytes", DType::i64, Shape{c.steps, c.batch, c.config.seq_len});
  for (int64_t byte : bytes.as<int64_t>()) {
    ESPALIER_CHECK(byte >= 0 && byte < c.config.vocab, ErrorKind::data, "check",
                   "{}:input_bytes: {} is outside the vocabulary of {}", expected.label(), byte,
                   c.config.vocab);
    c.bytes.push_back(static_cast<uint8_t>(byte));
  }
  return c;
}

void take_outputs(Step& step, Results& results) {
  for (const ir::Output& output : step.graph().outputs()) {
    if (output.alias < 0) {
      results[output.name] = step.executable().output(output.name).to_doubles();
    }
  }
}

void load(Step& step, const ByteLmCase& c) {
  step.compile();
  step.initialize(0);
  for (const auto& [path, values] : c.parameters) step.set_parameter(path, values);
}

/// Everything of expected.safetensors as this library computes it.
Results compute(const ByteLmCase& c, const CompileOptions& compile) {
  const auto input = [&](const Trace& trace) {
    return models::byte_lm_input(trace.builder, c.batch, c.config.seq_len);
  };
  Results results;
  Step forward = make_forward(
      models::ByteLm(c.config),
      [&](const models::ByteLm& model, const Trace& trace) -> NamedTensors {
        return {{"logits", byte_lm_logits(model, c.variant, input(trace), trace.context)}};
      },
      {.compile = compile, .hooks = {"*"}});
  load(forward, c);
  forward.set_batch("bytes", c.bytes.data());
  forward.run();
  take_outputs(forward, results);

  Step train = make_train_step(models::ByteLm(c.config),
                               [&](const models::ByteLm& model, const Trace& trace) {
                                 const Tensor bytes = input(trace);
                                 const Tensor logits =
                                     byte_lm_logits(model, c.variant, bytes, trace.context);
                                 return byte_lm_loss(c.variant, logits, bytes);
                               },
                               adam(c.adam), {.compile = compile, .gradients = true});
  load(train, c);
  std::vector<double> losses;
  for (int64_t s = 0; s < c.steps; ++s) {
    train.set_batch("bytes", c.bytes.data() + s * c.batch * c.config.seq_len);
    train.run();
    losses.push_back(train.loss());
    if (s == 0) take_outputs(train, results);
  }
  results["train.loss"] = losses;
  for (const auto& [path, values] : train.parameters()) {
    results["after." + path] = values.to_doubles();
  }
  return results;
}

/// |got - want| of each element.
std::vector<double> differences(std::span<const double> got, std::span<const double> want) {
  std::vector<double> result(want.size());
  for (size_t i = 0; i < want.size(); ++i) result[i] = std::abs(got[i] - want[i]);
  return result;
}

/// The largest; NaN when any is.
double largest(std::span<const double> values) {
  double result = 0.0;
  for (double v : values) {
    if (!(v <= result)) result = v;
    if (std::isnan(v)) return v;
  }
  return result;
}

/// How far each element of each result was from the expected one in the worst of several runs.
class Deviations {
 public:
  void add(const Results& got, const io::SafetensorsFile& expected) {
    for (const auto& [what, values] : got) {
      if (!expected.contains(what)) continue;
      const std::vector<double> apart = differences(values, expected.tensor(what).to_doubles());
      std::vector<double>& worst = worst_[what];
      worst.resize(apart.size());
      for (size_t i = 0; i < apart.size(); ++i) worst[i] = std::max(worst[i], apart[i]);
    }
  }
  const std::vector<double>& at(const std::string& what) const { return worst_.at(what); }

 private:
  std::map<std::string, std::vector<double>> worst_;
};

/// The results when each parameter is off by up to one rounding of the type; what it was off is
/// taken out of the parameters after training.
Results compute_perturbed(const ByteLmCase& c, const CompileOptions& compile, uint64_t sample) {
  ByteLmCase moved = c;
  const double unit = unit_roundoff(compile.compute_dtype);
  for (auto& [path, values] : moved.parameters) {
    std::vector<float> noise(static_cast<size_t>(values.numel()));
    fill(nn::Init::uniform(unit), sample, path, 0, noise);
    values = values.clone();
    for (size_t i = 0; i < noise.size(); ++i) values.as<float>()[i] *= 1.0f + noise[i];
  }
  Results results = compute(moved, compile);
  for (const auto& [path, values] : moved.parameters) {
    std::vector<double>& after = results.at("after." + path);
    for (size_t i = 0; i < after.size(); ++i) {
      const auto e = static_cast<int64_t>(i);
      after[i] += c.parameters.at(path).get(e) - values.get(e);
    }
  }
  return results;
}

double scale_of(std::span<const double> want) {
  double largest = kSmallestScale;
  for (double w : want) largest = std::max(largest, std::abs(w));
  return largest;
}

/// How far Adam can move a parameter whatever its gradients are. With weights w of the gradients in
/// the mean and u of their squares in the variance, both corrected for bias, a step is at most
/// lr sqrt(sum w^2 / u) by Cauchy and Schwarz: within 5 % of lr in the first ten steps.
double farthest_move(const AdamOptions& adam, int64_t steps) {
  double moved = 0.0;
  for (int64_t t = 1; t <= steps; ++t) {
    const auto weight = [&](double beta, int64_t i) {
      return (1.0 - beta) * std::pow(beta, static_cast<double>(t - i)) /
             (1.0 - std::pow(beta, static_cast<double>(t)));
    };
    double sum = 0.0;
    for (int64_t i = 1; i <= t; ++i) {
      sum += weight(adam.beta1, i) * weight(adam.beta1, i) / weight(adam.beta2, i);
    }
    moved += adam.learning_rate.peak * std::sqrt(sum);
  }
  return moved;
}

bool is_key_bias(const std::string& what) {
  return what.starts_with("after.") && what.ends_with("attention.qkv.bias");
}

CheckReport check_byte_lm(const std::filesystem::path& folder, const Settings& settings,
                          const CheckOptions& options) {
  const io::SafetensorsFile expected = io::SafetensorsFile::open(folder / "expected.safetensors");
  const ByteLmCase c = read_byte_lm(folder, settings, expected, options);
  const bool exact = options.backend == "interp" && options.dtype == DType::f32;
  const Results got = compute(c, {.backend = options.backend,
                                  .compute_dtype = options.dtype,
                                  .fuse = options.fuse,
                                  .flash = options.flash,
                                  .threads = options.threads,
                                  .cache_dir = options.cache_dir});
  Deviations one_rounding, narrow_rounding;
  if (!exact) {
    CompileOptions reference{.backend = "interp-f32", .flash = options.flash};
    one_rounding.add(compute(c, reference), expected);
    narrow_rounding = one_rounding;
    if (options.dtype != DType::f32) {
      reference.compute_dtype = options.dtype;
      narrow_rounding = {};
      narrow_rounding.add(compute(c, reference), expected);
      for (uint64_t sample = 1; sample <= kPerturbedRuns; ++sample) {
        narrow_rounding.add(compute_perturbed(c, reference, sample), expected);
      }
    }
  }

  CheckReport report{"byte_lm", {}};
  const double sums = std::sqrt(0.5 * c.longest_sum());
  const double moved = farthest_move(c.adam, c.steps);
  for (const io::SafetensorsEntry& entry : expected.entries()) {
    const std::string& what = entry.name;
    if (what == "input_bytes") continue;
    const std::vector<double> want = expected.tensor(what).to_doubles();
    const auto at = got.find(what);
    ESPALIER_CHECK(at != got.end() && at->second.size() == want.size(), ErrorKind::data, "check",
                   "{}:{} has {} numbers, this model {}", expected.label(), what, want.size(),
                   at == got.end() ? "none of that name" : std::to_string(at->second.size()));
    const double scale = scale_of(want);
    const auto add_row = [&](const std::string& name, size_t begin, size_t end, double bound) {
      const auto part = [&](const std::vector<double>& all) {
        return std::span(all).subspan(begin, end - begin);
      };
      if (bound < 0.0) {
        bound = kSpread *
                (largest(part(narrow_rounding.at(what))) +
                 sums * largest(part(one_rounding.at(what)))) /
                scale;
      }
      const std::vector<double> apart = differences(at->second, want);
      report.rows.push_back({name, largest(part(apart)) / scale, bound});
    };
    const double bound = exact ? kExactBound : -1.0;
    if (is_key_bias(what)) {
      const auto width = static_cast<size_t>(c.config.width);
      add_row(what + "[query]", 0, width, bound);
      add_row(what + "[key]", width, 2 * width, moved / scale);
      add_row(what + "[value]", 2 * width, 3 * width, bound);
    } else {
      add_row(what, 0, want.size(), bound);
    }
  }
  return report;
}

}  // namespace

bool CheckReport::pass() const {
  return std::all_of(rows.begin(), rows.end(), [](const CheckRow& row) { return row.pass(); });
}

const CheckRow& CheckReport::worst() const {
  const auto used = [](const CheckRow& row) {
    const double share = row.deviation / row.bound;
    return std::isnan(share) ? std::numeric_limits<double>::infinity() : share;
  };
  return *std::max_element(rows.begin(), rows.end(),
                           [&](const CheckRow& a, const CheckRow& b) { return used(a) < used(b); });
}

CheckReport check_folder(const std::filesystem::path& folder, const CheckOptions& options) {
  const bool own = std::filesystem::exists(folder / "expected.json");
  const std::filesystem::path about = folder / (own ? "expected.json" : "config.json");
  const Settings settings(read_json(about), about.string());
  const auto model = settings.get<std::string>("model_type");
  ESPALIER_CHECK(model == "byte_lm", ErrorKind::unsupported, "check",
                 "{}: there is no check for model_type \"{}\"; nearest: byte_lm", about.string(),
                 model);
  return check_byte_lm(folder, settings, options);
}

}  // namespace espalier::train
