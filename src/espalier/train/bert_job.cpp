// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bert_job.h"

#include <cmath>
#include <memory>
#include <optional>

#include "espalier/base/error.h"
#include "espalier/train/bert_steps.h"
#include "espalier/train/bert_text.h"
#include "espalier/train/run_report.h"

namespace espalier::train {
namespace {

class BertTask final : public RunTask {
 public:
  BertTask(const BertOptions& options, const JobEvents& events)
      : options_(options),
        data_(ByteData::open(options.data)),
        tokenizer_(open_bert_tokenizer(options, data_)),
        config_(bert_config(options, tokenizer_.tokenizer.vocab_size())),
        vocabulary_(tokenizer_.tokenizer),
        documents_(read_documents(data_, tokenizer_.tokenizer)),
        trained_(documents_to_train(documents_, options.holdout_or_default())),
        rows_(documents_, 0, trained_, vocabulary_, mlm_options(options)),
        steps_([this](const ShapedSteps::BatchShape& s) { return make_step(s); },
               [say = events.say](const ShapedSteps::BatchShape& s) {
                 if (!say) return;
                 say(fmt::format("compiling once more for {} rows of {} with up to {} labels", s[0],
                                 s[1], s[2]));
               }) {
    if (trained_ < documents_.size()) {
      held_out_.emplace(documents_, trained_, documents_.size(), vocabulary_, mlm_options(options));
      entropy_ = unigram_entropy(documents_, trained_, documents_.size(), vocabulary_);
    }
  }

  std::string job() const override { return "bert"; }
  std::string title() const override { return "BERT, masked-language modelling"; }
  CheckpointSection config() const override { return bert_config_section(config_); }
  CheckpointSection options() const override {
    CheckpointSection section = bert_options_section(options_);
    section["hidden_dropout"] = config_.hidden_dropout_prob;
    section["attention_dropout"] = config_.attention_probs_dropout_prob;
    return section;
  }
  CheckpointSection data(int64_t next) const override {
    CheckpointSection section = rows_.section(next);
    section["source"] = data_.source();
    section["holdout"] = options_.holdout_or_default();
    return section;
  }
  std::string position() const override { return "next_row"; }
  std::string data_flags() const override {
    return "--data, --tokenizer, --seq-len, --pack, --mlm-prob and --holdout";
  }
  std::map<std::string, std::string> files() const override {
    std::map<std::string, std::string> files = tokenizer_.files;
    files["config.json"] = models::bert_config_json(config_);
    return files;
  }

  std::vector<std::string> describe() const override {
    const models::BertConfig& c = config_;
    std::vector<std::string> lines{
        fmt::format("bert: {} layers, hidden {}, heads {}, ffn {}, vocabulary {}, {:.2f} M "
                    "parameters; {}, batch {}{} x {}",
                    c.num_hidden_layers, c.hidden_size, c.num_attention_heads, c.intermediate_size,
                    c.vocab_size,
                    static_cast<double>(nn::param_count(models::BertForMaskedLm(c))) * 1e-6,
                    long_name(options_.compile.compute_dtype), options_.batch_size,
                    options_.accumulate > 1 ? fmt::format(" in {} parts", options_.accumulate) : "",
                    options_.seq_len),
        fmt::format("data: {}: {}; tokenizer {}", data_.source(),
                    train::describe(documents_.counts()), tokenizer_.origin),
        fmt::format("rows: {} of {} places an epoch, {:.1f} % filled; {} documents longer than a "
                    "row are cut",
                    rows_.rows_per_epoch(), options_.seq_len, 100.0 * rows_.rows().filled(),
                    rows_.rows().long_documents())};
    if (held_out_) {
      lines.push_back(fmt::format("held out: {} documents, their unigram entropy is {:.4f} nats",
                                  documents_.size() - trained_, entropy_));
    }
    return lines;
  }

  double flops_per_step() const override {
    return models::bert_train_flops(config_, options_.batch_size, options_.seq_len,
                                    static_cast<int64_t>(usual_labels()));
  }
  std::string flops_text() const override {
    return fmt::format(
        "{:.4g} GFLOP per step = 6 x weights x tokens + attention (12 x layers x seq x hidden x "
        "tokens) + the head for about {:.0f} labels",
        flops_per_step() * 1e-9, usual_labels());
  }

  Step& start() override {
    return steps_.at(
        {options_.part_size(), options_.seq_len, rows_.usual_capacity(options_.part_size())});
  }
  LoopBatch batch(int64_t first) override {
    fill_bert_batch(rows_, first, options_.batch_size, options_.accumulate, options_.part_size(),
                    batch_);
    const BertShape& shape = batch_.shape;
    Step& step = steps_.at({shape.rows, shape.seq_len, shape.label_room});
    set_bert_batch(step, batch_);
    LoopBatch set{&step, {}};
    for (const auto& [name, data] : batch_.inputs()) set.inputs.emplace("batch." + name, data);
    return set;
  }
  int64_t compilations() const override { return steps_.compilations(); }

  void start_evaluation() override {
    ESPALIER_CHECK(held_out_.has_value(), ErrorKind::user, "train",
                   "--eval-every {} needs held-out documents; --holdout is 0", options_.eval_every);
    CompileOptions compile = options_.compile;
    compile.remat.clear();
    evaluator_ = std::make_unique<BertEvaluator>(config_, options_.part_size(), compile);
    evaluator_->use_parameters_of(start());
  }
  Evaluation evaluate() override {
    const BertQuality quality =
        evaluator_->measure(*held_out_, options_.eval_batches * options_.batch_size);
    return {{{"eval_loss", quality.loss}, {"eval_accuracy", quality.accuracy}},
            fmt::format("loss {:.4f}, {:.1f} % right on {} labels of held-out documents "
                        "(unigram entropy {:.4f})",
                        quality.loss, 100.0 * quality.accuracy, quality.labels, entropy_)};
  }

  std::vector<std::string> columns() const override {
    return {"perplexity", "eval_loss", "eval_accuracy"};
  }
  NamedNumbers numbers(const StepRecord& record) const override {
    return {{"perplexity", std::exp(record.loss)}};
  }
  std::string quality(double loss) const override {
    return fmt::format("perplexity {:.1f}", std::exp(loss));
  }
  Chart loss_chart(const MetricsTable& metrics) const override {
    Chart chart{.title = "Loss", .y_label = "nats per label", .smooth = true, .wide = true};
    chart.curves.push_back(curve_of(metrics, "loss", "training"));
    if (!held_out_) return chart;
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

 private:
  Step make_step(const ShapedSteps::BatchShape& shape) const {
    return bert_train_step(options_, config_, {shape[0], shape[1], shape[2]});
  }
  /// Labels of a batch, on average.
  double usual_labels() const {
    return options_.mlm_prob * rows_.rows().filled() *
           static_cast<double>(options_.batch_size * options_.seq_len);
  }

  const BertOptions& options_;
  ByteData data_;
  BertTokenizer tokenizer_;
  models::BertConfig config_;
  MlmVocabulary vocabulary_;
  TokenDocuments documents_;
  int64_t trained_;  // documents; the others are held out
  MlmData rows_;
  std::optional<MlmData> held_out_;
  double entropy_ = 0.0;
  ShapedSteps steps_;
  BertBatch batch_;
  std::unique_ptr<BertEvaluator> evaluator_;
};

}  // namespace

JobResult train_bert(const BertOptions& options, const JobEvents& events) {
  validate_run(options);
  BertTask task(options, events);
  return run_job(task, options, events);
}

}  // namespace espalier::train
