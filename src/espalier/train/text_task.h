// SPDX-License-Identifier: Apache-2.0
// What runs of all models of text share: documents in packed rows, those held out, first values
// from a folder, and what is said and drawn about it. A model adds its rows, steps and quality.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/io/weights.h"
#include "espalier/train/packed_rows.h"
#include "espalier/train/run_job.h"
#include "espalier/train/run_text.h"
#include "espalier/train/text_options.h"

namespace espalier::train {

class TextTask : public RunTask {
 public:
  CheckpointSection data(int64_t next) const override;
  std::string position() const override { return "next_row"; }
  std::string data_flags() const override {
    return "--data, --tokenizer, --seq-len, --pack and --holdout";
  }
  std::map<std::string, std::string> files() const override;
  std::vector<std::string> describe() const override;
  /// Initial values, and over them those of the folder the run starts from.
  void initialize(Step& step, uint64_t seed) override;
  void start_evaluation() override;

  std::vector<std::string> columns() const override;
  NamedNumbers numbers(const StepRecord& record) const override;
  std::string quality(double loss) const override;
  Chart loss_chart(const MetricsTable& metrics) const override;

 protected:
  /// Opens data and tokenizer.
  TextTask(const TextOptions& options, const LearnTokenizer& learn);

  // --- what a model says ---
  virtual const PackedRows& rows() const = 0;
  virtual std::string config_json() const = 0;
  /// "bert: 2 layers, hidden 128, ...; float32, batch 32 x 128", by model_line.
  virtual std::string model_text() const = 0;
  /// "label" or "token": what the loss is a mean over.
  virtual std::string_view unit() const = 0;
  /// Compiles the evaluation for the parameters of the run.
  virtual void make_evaluator(const CompileOptions& compile) = 0;
  /// The column of an evaluation beside its loss.
  virtual std::string eval_column() const = 0;

  // --- what a model works with ---
  const text::Tokenizer& tokenizer() const { return tokenizer_.tokenizer; }
  /// Cuts the text into documents; to be called once all else that may be wrong has been looked at.
  void read_text();
  const TokenDocuments& documents() const { return *documents_; }
  /// Documents that are trained on; the others are held out.
  int64_t trained() const { return trained_; }
  bool holds_out() const { return trained_ < documents_->size(); }
  double entropy() const { return entropy_; }
  /// Measures the held-out documents, of whose tokens the `counted` ones (by id).
  void measure_entropy(const std::vector<bool>& counted);
  void start_from(io::LoadedWeights weights) { start_ = std::move(weights); }
  /// The end of a line about a model.
  std::string model_line(int64_t parameters) const;

 private:
  const TextOptions& options_;
  ByteData data_;
  RunTokenizer tokenizer_;
  std::optional<TokenDocuments> documents_;
  int64_t trained_ = 0;
  double entropy_ = 0.0;     // nats, of the held-out documents
  io::LoadedWeights start_;  // until they are in the step
};

}  // namespace espalier::train
