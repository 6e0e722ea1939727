// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/text_task.h"

#include <cmath>

#include "espalier/base/error.h"
#include "espalier/train/run_report.h"

namespace espalier::train {

TextTask::TextTask(const TextOptions& options, const LearnTokenizer& learn)
    : options_(options),
      data_(ByteData::open(options.data)),
      tokenizer_(open_run_tokenizer(options, data_, learn)) {}

void TextTask::read_text() {
  documents_ = read_documents(data_, tokenizer_.tokenizer);
  trained_ = documents_to_train(*documents_, options_.holdout_or_default());
}

void TextTask::measure_entropy(const std::vector<bool>& counted) {
  entropy_ = unigram_entropy(*documents_, trained_, documents_->size(), counted);
}

CheckpointSection TextTask::data(int64_t next) const {
  CheckpointSection section = rows().section(next);
  section["source"] = data_.source();
  section["holdout"] = options_.holdout_or_default();
  return section;
}

std::map<std::string, std::string> TextTask::files() const {
  std::map<std::string, std::string> files = tokenizer_.files;
  files["config.json"] = config_json();
  return files;
}

std::string TextTask::model_line(int64_t parameters) const {
  return fmt::format(
      "{:.2f} M parameters; {}, batch {}{} x {}", static_cast<double>(parameters) * 1e-6,
      long_name(options_.compile.compute_dtype), options_.batch_size,
      options_.accumulate > 1 ? fmt::format(" in {} parts", options_.accumulate) : "",
      options_.seq_len);
}

std::vector<std::string> TextTask::describe() const {
  std::vector<std::string> lines{model_text()};
  if (!start_.tensors.empty()) {
    std::string line =
        fmt::format("starts from {} tensors of {}", start_.tensors.size(), options_.from);
    if (!start_.missing.empty()) {
      line +=
          fmt::format("; not there, so from initial values: {}", fmt::join(start_.missing, ", "));
    }
    if (!start_.ignored.empty()) {
      line += fmt::format("; left out: {}", fmt::join(start_.ignored, ", "));
    }
    lines.push_back(std::move(line));
  }
  lines.push_back(fmt::format("data: {}: {}; tokenizer {}", data_.source(),
                              train::describe(documents_->counts()), tokenizer_.origin));
  lines.push_back(fmt::format(
      "rows: {} of {} places an epoch, {:.1f} % filled; {} documents longer than a row are cut",
      rows().size(), options_.seq_len, 100.0 * rows().filled(), rows().long_documents()));
  if (holds_out()) {
    lines.push_back(fmt::format("held out: {} documents, their unigram entropy is {:.4f} nats",
                                documents_->size() - trained_, entropy_));
  }
  return lines;
}

void TextTask::initialize(Step& step, uint64_t seed) {
  step.initialize(seed);
  for (const auto& [path, values] : start_.tensors) step.set_parameter(path, values);
  start_ = {};
}

void TextTask::start_evaluation() {
  ESPALIER_CHECK(holds_out(), ErrorKind::user, "train",
                 "--eval-every {} needs held-out documents; --holdout is 0", options_.eval_every);
  CompileOptions compile = options_.compile;
  compile.remat.clear();
  make_evaluator(compile);
}

std::vector<std::string> TextTask::columns() const {
  return {"perplexity", "eval_loss", eval_column()};
}

NamedNumbers TextTask::numbers(const StepRecord& record) const {
  return {{"perplexity", std::exp(record.loss)}};
}

std::string TextTask::quality(double loss) const {
  return fmt::format("perplexity {:.1f}", std::exp(loss));
}

Chart TextTask::loss_chart(const MetricsTable& metrics) const {
  Chart chart{
      .title = "Loss", .y_label = fmt::format("nats per {}", unit()), .smooth = true, .wide = true};
  chart.curves.push_back(curve_of(metrics, "loss", "training"));
  if (!holds_out()) return chart;
  if (Curve eval = curve_of(metrics, "eval_loss", "held-out"); !eval.x.empty()) {
    chart.curves.push_back(std::move(eval));
  }
  if (!metrics.steps.empty()) {
    chart.curves.push_back(
        {"unigram entropy of held-out",
         {static_cast<double>(metrics.steps.front()), static_cast<double>(metrics.steps.back())},
         {entropy_, entropy_}});
  }
  return chart;
}

}  // namespace espalier::train
