// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/qwen2_job.h"

#include <memory>
#include <optional>

#include "espalier/models/qwen2_folder.h"
#include "espalier/train/qwen2_steps.h"
#include "espalier/train/text_task.h"

namespace espalier::train {
namespace {

/// Tokens of a vocabulary that is learned for the run.
int64_t learned_size(const Qwen2Options& options) {
  const std::string path = options.config_path();
  return path.empty() ? options.vocab_size : models::read_qwen2_config(path).vocab_size;
}

class Qwen2Task final : public TextTask {
 public:
  explicit Qwen2Task(const Qwen2Options& options)
      : TextTask(options,
                 [&](std::string_view text, const std::string& label) {
                   return learn_byte_pairs(text, label, learned_size(options));
                 }),
        options_(options),
        config_(open_model()),
        vocabulary_(tokenizer(), options.end_token),
        rows_(open_rows()) {
    if (holds_out()) {
      held_out_.emplace(documents(), trained(), documents().size(), vocabulary_,
                        row_options(options));
      measure_entropy(vocabulary_.is_ordinary);
    }
  }

  std::string job() const override { return "qwen2"; }
  std::string title() const override { return "Qwen2, causal language modelling"; }
  CheckpointSection config() const override { return section_of_json(config_json()); }
  CheckpointSection options() const override { return qwen2_options_section(options_); }

  double flops_per_step() const override {
    return models::qwen2_train_flops(config_, options_.batch_size, options_.seq_len);
  }
  std::string flops_text() const override {
    return fmt::format(
        "{:.4g} GFLOP per step = 3 x (2 x weights x tokens + 2 x layers x seq x hidden x tokens, "
        "half of attention, + the head)",
        flops_per_step() * 1e-9);
  }

  Step& start() override {
    if (!step_) {
      step_.emplace(qwen2_train_step(options_, config_));
      step_->compile();
    }
    return *step_;
  }
  LoopBatch batch(int64_t first) override {
    rows_.fill(first, options_.batch_size, options_.batch_size, batch_);
    LoopBatch set{&*step_, {}};
    for (const auto& [name, data] : inputs_of(batch_)) {
      step_->set_batch(name, data);
      set.inputs.emplace("batch." + name, data);
    }
    return set;
  }

  Evaluation evaluate() override {
    const CausalQuality quality =
        evaluator_->measure(*held_out_, options_.eval_batches * options_.batch_size);
    return {{{"eval_loss", quality.loss}, {eval_column(), quality.bits_per_byte}},
            fmt::format("loss {:.4f}, {:.4f} bits/byte on {} tokens of held-out documents "
                        "(unigram entropy {:.4f})",
                        quality.loss, quality.bits_per_byte, quality.tokens, entropy())};
  }

 private:
  models::Qwen2Config open_model() {
    models::Qwen2Config config = qwen2_run_config(options_, tokenizer().vocab_size());
    if (!options_.from.empty()) {
      start_from(models::load_qwen2_weights(options_.from, config));
    }
    return config;
  }
  CausalData open_rows() {
    read_text();
    return {documents(), 0, trained(), vocabulary_, row_options(options_)};
  }
  const PackedRows& rows() const override { return rows_.rows(); }
  std::string config_json() const override { return models::qwen2_config_json(config_); }
  std::string model_text() const override {
    const models::Qwen2Config& c = config_;
    return fmt::format("qwen2: {} layers, hidden {}, heads {} over {}, ffn {}, vocabulary {}, {}",
                       c.num_hidden_layers, c.hidden_size, c.num_attention_heads,
                       c.num_key_value_heads, c.intermediate_size, c.vocab_size,
                       model_line(nn::param_count(models::Qwen2ForCausalLm(c))));
  }
  std::string_view unit() const override { return "token"; }
  std::string eval_column() const override { return "eval_bits_per_byte"; }
  void make_evaluator(const CompileOptions& compile) override {
    evaluator_ =
        std::make_unique<Qwen2Evaluator>(config_, options_.part_size(), options_.seq_len, compile);
    evaluator_->use_parameters_of(start());
  }

  const Qwen2Options& options_;
  models::Qwen2Config config_;
  CausalVocabulary vocabulary_;
  CausalData rows_;
  std::optional<CausalData> held_out_;
  std::optional<Step> step_;
  CausalBatch batch_;
  std::unique_ptr<Qwen2Evaluator> evaluator_;
};

}  // namespace

JobResult train_qwen2(const Qwen2Options& options, const JobEvents& events) {
  validate_text(options);
  Qwen2Task task(options);
  return run_job(task, options, events);
}

}  // namespace espalier::train
