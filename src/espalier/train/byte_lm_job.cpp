// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/byte_lm_job.h"

#include <memory>
#include <numbers>
#include <optional>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/train/byte_lm_steps.h"
#include "espalier/train/data.h"
#include "espalier/train/run_report.h"

namespace espalier::train {
namespace {

class ByteLmTask final : public RunTask {
 public:
  explicit ByteLmTask(const ByteLmOptions& options)
      : options_(options),
        data_(ByteData::open(options.data)),
        parts_(split(data_, options.holdout_or_default(), options.model.seq_len)),
        sequences_(parts_.train, options.model.seq_len, options.seed),
        batch_(static_cast<size_t>(options.batch_size * options.model.seq_len)) {}

  std::string job() const override { return "byte-lm"; }
  std::string title() const override { return "byte-level language model"; }
  CheckpointSection config() const override { return config_section(options_.model); }
  CheckpointSection options() const override { return options_section(options_); }
  CheckpointSection data(int64_t next) const override {
    return {{"source", data_.source()},
            {"bytes", static_cast<int64_t>(data_.bytes().size())},
            {"fingerprint", static_cast<int64_t>(data_.fingerprint())},
            {"holdout", options_.holdout_or_default()},
            {"sequences", next}};
  }
  std::string position() const override { return "sequences"; }
  std::string data_flags() const override { return "--data and --holdout"; }

  std::vector<std::string> describe() const override {
    const models::ByteLmConfig& m = options_.model;
    const std::string held_out =
        parts_.held_out.empty()
            ? std::string()
            : fmt::format(", {} held out",
                          human_bytes(static_cast<int64_t>(parts_.held_out.size())));
    return {
        fmt::format("byte-lm: {} layers, width {}, heads {}, ffn {}, seq {}, {:.2f} M parameters; "
                    "{}, batch {}",
                    m.layers, m.width, m.heads, m.ffn, m.seq_len,
                    static_cast<double>(nn::param_count(models::ByteLm(m))) * 1e-6,
                    long_name(options_.compile.compute_dtype), options_.batch_size),
        fmt::format("data: {}, {}, {} sequences an epoch{}", data_.source(),
                    human_bytes(static_cast<int64_t>(data_.bytes().size())),
                    sequences_.sequences_per_epoch(), held_out)};
  }
  double flops_per_step() const override {
    return models::byte_lm_train_flops(options_.model) * static_cast<double>(options_.batch_size);
  }
  std::string flops_text() const override { return train::flops_text(options_.model); }

  Step& start() override {
    step_.emplace(byte_lm_train_step(options_));
    step_->compile();
    return *step_;
  }
  LoopBatch batch(int64_t first) override {
    sequences_.fill(first, options_.batch_size, batch_);
    sequences_.prefetch(first + options_.batch_size, options_.batch_size);
    step_->set_batch("bytes", batch_.data());
    return {&*step_, {{"batch.bytes", batch_.data()}}};
  }

  void start_evaluation() override {
    ESPALIER_CHECK(!parts_.held_out.empty(), ErrorKind::user, "train",
                   "--eval-every {} needs held-out data; --holdout is 0", options_.eval_every);
    CompileOptions compile = options_.compile;
    compile.remat.clear();
    evaluator_ = std::make_unique<ByteLmEvaluator>(options_.model, options_.variant,
                                                   options_.part_size(), compile);
  }
  Evaluation evaluate() override {
    evaluator_->step().copy_parameters(*step_);
    const double bits =
        evaluator_->bits_per_byte(parts_.held_out, options_.eval_batches * options_.batch_size);
    return {{{"eval_bits_per_byte", bits}}, fmt::format("{:.4f} bits/byte on held-out text", bits)};
  }

  std::vector<std::string> columns() const override {
    return {"bits_per_byte", "eval_bits_per_byte"};
  }
  NamedNumbers numbers(const StepRecord& record) const override {
    return {{"bits_per_byte", record.loss / std::numbers::ln2}};
  }
  std::string quality(double loss) const override {
    return fmt::format("{:.3f} bits/byte", loss / std::numbers::ln2);
  }
  Chart loss_chart(const MetricsTable& metrics) const override {
    Chart chart{.title = "Loss", .y_label = "bits per byte", .smooth = true, .wide = true};
    chart.curves.push_back(curve_of(metrics, "bits_per_byte", "training"));
    if (Curve eval = curve_of(metrics, "eval_bits_per_byte", "held-out"); !eval.x.empty()) {
      chart.curves.push_back(std::move(eval));
    }
    return chart;
  }

 private:
  const ByteLmOptions& options_;
  ByteData data_;
  DataSplit parts_;
  ByteSequences sequences_;
  std::vector<uint8_t> batch_;
  std::optional<Step> step_;
  std::unique_ptr<ByteLmEvaluator> evaluator_;
};

}  // namespace

JobResult train_byte_lm(const ByteLmOptions& options, const JobEvents& events) {
  validate_run(options);
  ByteLmTask task(options);
  return run_job(task, options, events);
}

}  // namespace espalier::train
