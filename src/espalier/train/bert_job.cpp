// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bert_job.h"

#include <memory>
#include <optional>

#include "espalier/models/bert_folder.h"
#include "espalier/train/bert_steps.h"
#include "espalier/train/text_task.h"

namespace espalier::train {
namespace {

/// Tokens of a vocabulary that is learned for the run.
int64_t learned_size(const BertOptions& options) {
  const std::string path = options.config_path();
  return path.empty() ? options.vocab_size : models::read_bert_config(path).vocab_size;
}

class BertTask final : public TextTask {
 public:
  BertTask(const BertOptions& options, const JobEvents& events)
      : TextTask(options,
                 [&](std::string_view text, const std::string& label) {
                   return learn_word_pieces(text, label, learned_size(options));
                 }),
        options_(options),
        config_(open_model()),
        vocabulary_(tokenizer()),
        rows_(open_rows()),
        steps_([this](const ShapedSteps::BatchShape& s) { return make_step(s); },
               [say = events.say](const ShapedSteps::BatchShape& s) {
                 if (!say) return;
                 say(fmt::format("compiling once more for {} rows of {} with up to {} labels", s[0],
                                 s[1], s[2]));
               }) {
    if (holds_out()) {
      held_out_.emplace(documents(), trained(), documents().size(), vocabulary_,
                        mlm_options(options));
      measure_entropy(vocabulary_.is_ordinary);
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
    CheckpointSection section = TextTask::data(next);
    section["mlm_prob"] = options_.mlm_prob;
    return section;
  }
  std::string data_flags() const override {
    return "--data, --tokenizer, --seq-len, --pack, --mlm-prob and --holdout";
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

  Evaluation evaluate() override {
    const BertQuality quality =
        evaluator_->measure(*held_out_, options_.eval_batches * options_.batch_size);
    return {{{"eval_loss", quality.loss}, {eval_column(), quality.accuracy}},
            fmt::format("loss {:.4f}, {:.1f} % right on {} labels of held-out documents "
                        "(unigram entropy {:.4f})",
                        quality.loss, 100.0 * quality.accuracy, quality.labels, entropy())};
  }

 private:
  models::BertConfig open_model() {
    models::BertConfig config = bert_config(options_, tokenizer().vocab_size());
    if (!options_.from.empty()) {
      start_from(models::load_bert(options_.from, models::BertHeadIs::optional).weights);
    }
    return config;
  }
  MlmData open_rows() {
    read_text();
    return {documents(), 0, trained(), vocabulary_, mlm_options(options_)};
  }
  const PackedRows& rows() const override { return rows_.rows(); }
  std::string config_json() const override { return models::bert_config_json(config_); }
  std::string model_text() const override {
    const models::BertConfig& c = config_;
    return fmt::format("bert: {} layers, hidden {}, heads {}, ffn {}, vocabulary {}, {}",
                       c.num_hidden_layers, c.hidden_size, c.num_attention_heads,
                       c.intermediate_size, c.vocab_size,
                       model_line(nn::param_count(models::BertForMaskedLm(c))));
  }
  std::string_view unit() const override { return "label"; }
  std::string eval_column() const override { return "eval_accuracy"; }
  void make_evaluator(const CompileOptions& compile) override {
    evaluator_ = std::make_unique<BertEvaluator>(config_, options_.part_size(), compile);
    evaluator_->use_parameters_of(start());
  }
  Step make_step(const ShapedSteps::BatchShape& shape) const {
    return bert_train_step(options_, config_, {shape[0], shape[1], shape[2]});
  }
  /// Labels of a batch, on average.
  double usual_labels() const {
    return options_.mlm_prob * rows().filled() *
           static_cast<double>(options_.batch_size * options_.seq_len);
  }

  const BertOptions& options_;
  models::BertConfig config_;
  MlmVocabulary vocabulary_;
  MlmData rows_;
  std::optional<MlmData> held_out_;
  ShapedSteps steps_;
  BertBatch batch_;
  std::unique_ptr<BertEvaluator> evaluator_;
};

}  // namespace

JobResult train_bert(const BertOptions& options, const JobEvents& events) {
  validate_text(options);
  BertTask task(options, events);
  return run_job(task, options, events);
}

}  // namespace espalier::train
