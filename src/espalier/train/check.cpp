// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/train/check_case.h"

namespace espalier::train {
namespace {

struct CheckKind {
  std::string_view model_type;
  ReadCheckCase* read;
};
constexpr CheckKind kKinds[] = {
    {"byte_lm", read_byte_lm_case}, {"bert", read_bert_case}, {"qwen2", read_qwen2_case}};

constexpr std::string_view kAfter = "after.";
constexpr double kExactBound = 1e-9;
constexpr double kSmallestScale = 1e-3;
constexpr double kSpread = 4.0;
constexpr uint64_t kPerturbedRuns = 4;

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

/// What of a result is compared: all of it, or the rows that are no padding.
std::vector<double> compared(const CheckCase& c, const std::string& what,
                             std::vector<double> values) {
  if (c.rows.empty() || !(what == "logits" || what.starts_with("hook."))) return values;
  ESPALIER_CHECK(!values.empty() && values.size() % c.rows.size() == 0, ErrorKind::data, "check",
                 "{} has {} numbers, which is no row for each of {} tokens", what, values.size(),
                 c.rows.size());
  const size_t width = values.size() / c.rows.size();
  std::vector<double> kept;
  for (size_t i = 0; i < c.rows.size() * width; ++i) {
    if (c.rows[i / width] != 0) kept.push_back(values[i]);
  }
  return kept;
}

/// How far each element of each result was from that of the same model in double, in the worst of
/// several runs. The expected numbers have no part in it: a wrong model must not widen its bound.
class Deviations {
 public:
  void add(const CheckCase& c, const CheckResults& got, const CheckResults& in_double) {
    for (const auto& [what, values] : got) {
      const std::vector<double> apart =
          differences(compared(c, what, values), compared(c, what, in_double.at(what)));
      std::vector<double>& worst = worst_[what];
      worst.resize(apart.size());
      for (size_t i = 0; i < apart.size(); ++i) worst[i] = std::max(worst[i], apart[i]);
    }
  }
  std::span<const double> at(const std::string& what) const { return worst_.at(what); }

 private:
  std::map<std::string, std::vector<double>> worst_;
};

/// The results when each parameter is off by up to one rounding of the type, of f32 by up to two,
/// since it is f32 that holds them; what it was off is taken out of the parameters after training.
CheckResults compute_perturbed(const CheckCase& c, const CompileOptions& compile, uint64_t sample) {
  CheckParameters moved = c.parameters;
  const double most =
      std::max(unit_roundoff(compile.compute_dtype), 2.0 * unit_roundoff(DType::f32));
  for (auto& [path, values] : moved) {
    std::vector<float> noise(static_cast<size_t>(values.numel()));
    fill(nn::Init::uniform(most), sample, path, 0, noise);
    values = values.clone();
    for (size_t i = 0; i < noise.size(); ++i) {
      float& value = values.as<float>()[i];
      value = static_cast<float>(double{value} * (1.0 + double{noise[i]}));
    }
  }
  CheckResults results = c.compute(moved, compile);
  for (const auto& [path, values] : moved) {
    std::vector<double>& after = results.at(std::string(kAfter) + path);
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

CompileOptions compile_of(const CheckOptions& o) {
  return {.backend = o.backend,
          .compute_dtype = o.dtype,
          .fuse = o.fuse,
          .flash = o.flash,
          .threads = o.threads,
          .cache_dir = o.cache_dir};
}

/// What roundings explain, as check.h derives it.
class Bounds {
 public:
  /// `got` are the results of these options; where nothing rounds, they are the model's in double.
  Bounds(const CheckCase& c, const CheckOptions& options, const CheckResults& got)
      : narrow_(options.dtype != DType::f32),
        ours_rounds_(narrow_ || options.backend != "interp"),
        theirs_rounds_(!c.exact),
        sums_(std::sqrt(0.5 * c.longest_sum)),
        farthest_(farthest_move(c.adam, c.steps)) {
    if (exact()) return;
    CompileOptions compile{.backend = "interp", .flash = options.flash};
    const CheckResults in_double = ours_rounds_ ? c.compute(c.parameters, compile) : got;
    compile.backend = "interp-f32";
    const auto worst_of_runs = [&] {
      Deviations result;
      result.add(c, c.compute(c.parameters, compile), in_double);
      for (uint64_t sample = 1; sample <= kPerturbedRuns; ++sample) {
        result.add(c, compute_perturbed(c, compile, sample), in_double);
      }
      return result;
    };
    in_f32_ = worst_of_runs();
    compile.compute_dtype = options.dtype;
    if (narrow_) narrowed_ = worst_of_runs();
  }
  /// Of key biases after training.
  double key_bias(double scale) const { return farthest_ / scale; }
  /// Of elements [begin, end) of a result whose largest value is `scale`, stored in `stored`.
  double at(const std::string& what, size_t begin, size_t end, double scale,
            const std::string& stored) const {
    if (exact()) return kExactBound;
    const auto once = [&](const Deviations& run) {
      return largest(run.at(what).subspan(begin, end - begin));
    };
    const double f32 = once(in_f32_);
    double bound = 0.0;
    if (ours_rounds_) bound += kSpread * ((narrow_ ? once(narrowed_) : f32) + sums_ * f32);
    if (theirs_rounds_) bound += kSpread * (f32 + sums_ * f32);
    if (what.starts_with(kAfter)) bound = std::min(bound, 2.0 * farthest_);
    const auto dtype = io::dtype_from_safetensors(stored);
    return bound / scale + (dtype ? unit_roundoff(*dtype) : 0.0);
  }

 private:
  bool exact() const { return !ours_rounds_ && !theirs_rounds_; }

  bool narrow_, ours_rounds_, theirs_rounds_;
  double sums_;
  double farthest_;  // apart are two runs of the optimizer at most twice that
  Deviations in_f32_, narrowed_;
};

CheckReport compare(const CheckCase& c, const io::SafetensorsFile& expected,
                    const CheckOptions& options) {
  const CheckResults got = c.compute(c.parameters, compile_of(options));
  const Bounds bounds(c, options, got);
  CheckReport report{c.model, {}};
  for (const io::SafetensorsEntry& entry : expected.entries()) {
    const std::string& what = entry.name;
    if (std::find(c.inputs.begin(), c.inputs.end(), what) != c.inputs.end()) continue;
    const std::vector<double> all = expected.tensor(what).to_doubles();
    const auto at = got.find(what);
    ESPALIER_CHECK(at != got.end() && at->second.size() == all.size(), ErrorKind::data, "check",
                   "{}:{} has {} numbers, this model {}", expected.label(), what, all.size(),
                   at == got.end() ? "none of that name" : std::to_string(at->second.size()));
    const std::vector<double> want = compared(c, what, all);
    ESPALIER_CHECK(!want.empty(), ErrorKind::data, "check", "{}:{} holds no number to compare",
                   expected.label(), what);
    const std::vector<double> apart = differences(compared(c, what, at->second), want);
    const double scale = scale_of(want);
    const auto add_row = [&](const std::string& name, size_t begin, size_t end, double bound) {
      const auto part = std::span(apart).subspan(begin, end - begin);
      report.rows.push_back({name, largest(part) / scale, bound});
    };
    const auto add_rounded = [&](const std::string& name, size_t begin, size_t end) {
      if (begin < end) {
        add_row(name, begin, end, bounds.at(what, begin, end, scale, entry.dtype));
      }
    };
    const auto [begin, end] = c.key_bias(what, want.size());
    if (begin == end) {
      add_rounded(what, 0, want.size());
      continue;
    }
    add_row(end - begin < want.size() ? what + "[key]" : what, begin, end, bounds.key_bias(scale));
    add_rounded(what + "[query]", 0, begin);
    add_rounded(what + "[value]", end, want.size());
  }
  ESPALIER_CHECK(!report.rows.empty(), ErrorKind::data, "check", "{} holds no results to compare",
                 expected.label());
  return report;
}

}  // namespace

bool CheckRow::pass() const { return deviation <= bound && std::isfinite(bound); }

bool CheckReport::pass() const {
  return std::all_of(rows.begin(), rows.end(), [](const CheckRow& row) { return row.pass(); });
}

const CheckRow& CheckReport::worst() const {
  const auto used = [](const CheckRow& row) {
    if (row.deviation == 0.0) return 0.0;
    const double share = row.deviation / row.bound;
    return std::isnan(share) ? std::numeric_limits<double>::infinity() : share;
  };
  return *std::max_element(rows.begin(), rows.end(),
                           [&](const CheckRow& a, const CheckRow& b) { return used(a) < used(b); });
}

CheckReport check_folder(const std::filesystem::path& folder, const CheckOptions& options) {
  const bool own = std::filesystem::exists(folder / "expected.json");
  const CheckSettings settings(folder / (own ? "expected.json" : "config.json"));
  const auto model = settings.get<std::string>("model_type");
  std::vector<std::string> known;
  for (const CheckKind& kind : kKinds) known.emplace_back(kind.model_type);
  const auto kind = std::find(known.begin(), known.end(), model);
  ESPALIER_CHECK(kind != known.end(), ErrorKind::unsupported, "check",
                 "{}: there is no check for model_type \"{}\"{}; there are {}", settings.label(),
                 model, nearest_hint(model, known), fmt::join(known, ", "));
  const io::SafetensorsFile expected = io::SafetensorsFile::open(folder / "expected.safetensors");
  const CheckCase c =
      kKinds[static_cast<size_t>(kind - known.begin())].read(folder, settings, expected, options);
  return compare(c, expected, options);
}

}  // namespace espalier::train
