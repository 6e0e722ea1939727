// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/reader_model.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <set>

#include "espalier/base/error.h"
#include "espalier/models/config_reader.h"
#include "espalier/models/qwen2_folder.h"
#include "espalier/models/qwen2_forward.h"
#include "espalier/train/step.h"

namespace espalier::extract {
namespace {

constexpr std::string_view kPrefix = "hook.";

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  for (;;) {
    const size_t comma = text.find(',');
    parts.emplace_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

std::set<int64_t> parse_layers(std::string_view text, int64_t count) {
  std::set<int64_t> layers;
  for (const std::string& part : split(text == "all" ? fmt::format("0-{}", count - 1) : text)) {
    const size_t dash = part.find('-');
    const auto first = number(std::string_view(part).substr(0, dash));
    const auto last =
        dash == std::string::npos ? first : number(std::string_view(part).substr(dash + 1));
    ESPALIER_CHECK(first && last && *first <= *last, ErrorKind::user, "extract",
                   "--layers {}: \"{}\" is no layer or range; write all, 10-23 or 0,3,7-9", text,
                   part);
    ESPALIER_CHECK(*last < count, ErrorKind::user, "extract",
                   "--layers {}: the model has layers 0 to {}", text, count - 1);
    for (int64_t layer = *first; layer <= *last; ++layer) layers.insert(layer);
  }
  return layers;
}

class Qwen2Reader final : public ReaderModel {
 public:
  Qwen2Reader(models::Qwen2Folder folder, CompileOptions options)
      : folder_(std::move(folder)), options_(std::move(options)) {}

  int64_t layers() const override { return folder_.config.num_hidden_layers; }
  int64_t width() const override { return folder_.config.hidden_size; }
  int64_t longest() const override { return folder_.config.max_position_embeddings; }
  int64_t vocab_size() const override { return folder_.config.vocab_size; }

  void select(const std::vector<std::string>& globs) override {
    globs_ = globs;
    steps_.clear();
    hooks_.clear();
    // The smallest batch tells the names; it is traced, not compiled.
    const train::Step probe = trace(1, 1);
    for (const ir::Output& output : probe.graph().outputs()) {
      if (output.name.starts_with(kPrefix)) hooks_.push_back(output.name.substr(kPrefix.size()));
    }
  }
  const std::vector<std::string>& hooks() const override { return hooks_; }

  void run(const TokenRows& batch) override {
    current_ = &step(batch.rows, batch.seq);
    current_->set_batch("input_ids", batch.ids.data());
    current_->set_batch("position_ids", batch.positions.data());
    current_->set_batch("segments", batch.segments.data());
    current_->run();
  }

  const float* activation(size_t hook) override {
    outputs_.resize(hooks_.size());
    outputs_[hook] = current_->executable().output(std::string(kPrefix) + hooks_[hook]);
    return outputs_[hook].as<float>().data();
  }

  int64_t compiles() const override { return static_cast<int64_t>(steps_.size()); }
  double compile_seconds() const override { return compile_seconds_; }
  double flops(int64_t rows, int64_t seq) const override {
    return models::qwen2_forward_flops(folder_.config, rows, seq);
  }
  void set_profiling(bool on) override { current_->executable().set_profiling(on); }
  std::vector<ProfileRow> profile() const override { return current_->executable().profile(); }

 private:
  train::Step trace(int64_t rows, int64_t seq) const {
    return train::make_forward(
        models::Qwen2ForCausalLm(folder_.config),
        [&](const models::Qwen2ForCausalLm& model,
            const train::Trace& trace) -> train::NamedTensors {
          const Shape shape{rows, seq};
          qwen2_encode(model,
                       {.input_ids = trace.batch("input_ids", DType::i32, shape),
                        .position_ids = trace.batch("position_ids", DType::i32, shape),
                        .attention_mask = {},
                        .segments = trace.batch("segments", DType::i32, shape)},
                       trace.context);
          return {};
        },
        {.compile = options_, .hooks = globs_});
  }

  train::Step& step(int64_t rows, int64_t seq) {
    const auto found = steps_.find({rows, seq});
    if (found != steps_.end()) return found->second;
    train::Step made = trace(rows, seq);
    made.compile();
    compile_seconds_ += made.executable().stats().seconds;
    for (const train::StateSlot& slot : made.slots()) {
      if (!slot.path.empty()) made.set_parameter(slot.path, folder_.weights.tensors.at(slot.path));
    }
    return steps_.emplace(std::pair{rows, seq}, std::move(made)).first->second;
  }

  models::Qwen2Folder folder_;
  CompileOptions options_;
  std::vector<std::string> globs_, hooks_;
  std::map<std::pair<int64_t, int64_t>, train::Step> steps_;
  train::Step* current_ = nullptr;
  std::vector<HostTensor> outputs_;
  double compile_seconds_ = 0.0;
};

}  // namespace

std::vector<std::string> hook_globs(std::string_view layers, std::string_view activation,
                                    int64_t model_layers) {
  const std::set<int64_t> wanted = parse_layers(layers, model_layers);
  std::vector<std::string> globs;
  for (const std::string& part : split(activation)) {
    const std::string_view name = part == "residual" ? "resid_post"
                                  : part == "mlp"    ? "mlp_out"
                                  : part == "attn"   ? "attn_out"
                                                     : "";
    if (name.empty()) {
      globs.push_back(part);
      continue;
    }
    for (int64_t layer : wanted) globs.push_back(fmt::format("{}.{}", name, layer));
  }
  return globs;
}

TokenRows::TokenRows(int64_t rows, int64_t seq)
    : rows(rows),
      seq(seq),
      ids(static_cast<size_t>(rows * seq)),
      positions(ids.size()),
      segments(ids.size(), -1) {}

std::unique_ptr<ReaderModel> open_reader_model(const std::filesystem::path& folder,
                                               const CompileOptions& options) {
  constexpr int64_t kConfigLimit = int64_t{1} << 20;
  const std::string label = (folder / "config.json").string();
  const models::ConfigReader config(
      "extract", io::read_text(label, kConfigLimit, {.stage = "extract"}), label);
  const auto* type = config.find("model_type");
  ESPALIER_CHECK(type != nullptr && *type == "qwen2", ErrorKind::unsupported, "extract",
                 "{}: activations of model_type {} cannot be read; supported: qwen2", label,
                 type == nullptr ? "(none)" : type->dump());
  return std::make_unique<Qwen2Reader>(models::load_qwen2(folder), options);
}

}  // namespace espalier::extract
