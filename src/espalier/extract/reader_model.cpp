// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/reader_model.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <map>
#include <optional>
#include <set>

#include "espalier/base/error.h"
#include "espalier/base/glob.h"
#include "espalier/extract/pack_cache.h"
#include "espalier/extract/reader_family.h"
#include "espalier/models/config_reader.h"
#include "espalier/train/run_options.h"
#include "espalier/train/run_state.h"

namespace espalier::extract {
namespace {

constexpr std::string_view kPrefix = "hook.";
/// What every family offers of a layer, and of none.
constexpr std::array<std::string_view, 5> kLayerHooks{"resid_pre", "attn_out", "resid_mid",
                                                      "mlp_out", "resid_post"};
constexpr std::array<std::string_view, 2> kOtherHooks{"embed", "final_norm"};

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

/// What a glob matches of the wanted layers and of no layer; nothing where no layer matters.
std::vector<std::string> of_layers(const std::string& pattern, std::string_view layers,
                                   const std::set<int64_t>& wanted, int64_t count) {
  std::vector<std::string> names;
  if (layers == "all" || pattern.find_first_of("*?[") == std::string::npos) return names;
  const Glob glob(pattern);
  bool any = false;
  for (const std::string_view kind : kLayerHooks) {
    for (int64_t layer = 0; layer < count; ++layer) {
      std::string name = fmt::format("{}.{}", kind, layer);
      if (!glob.matches(name)) continue;
      any = true;
      if (wanted.contains(layer)) names.push_back(std::move(name));
    }
  }
  for (const std::string_view name : kOtherHooks) {
    if (glob.matches(name)) names.emplace_back(name);
  }
  ESPALIER_CHECK(!any || !names.empty(), ErrorKind::user, "extract",
                 "--layers {} has no hook that \"{}\" matches", layers, pattern);
  return names;
}

/// Multiplications and additions of a forward pass: what grows with the tokens, and what grows with
/// the pairs of tokens of a row, causal ones counted half.
struct Work {
  double products = 0.0, attention = 0.0;
};

Work work_of(const ir::Graph& graph) {
  Work work;
  for (const ir::Node& node : graph.nodes()) {
    const auto shape = [&](size_t i) { return graph.type(node.inputs[i]).shape; };
    if (node.op == ir::Op::dot) {
      double flops = 2.0 * static_cast<double>(node.types[0].shape.numel());
      for (int64_t axis : node.attrs.integers(ir::Attr::lhs_contract)) {
        flops *= static_cast<double>(shape(0)[axis]);
      }
      work.products += flops;
    } else if (node.op == ir::Op::attention) {
      const bool causal = node.attrs.integer_or(ir::Attr::causal, 0) != 0;
      work.attention += (causal ? 2.0 : 4.0) * static_cast<double>(shape(0).numel()) *
                        static_cast<double>(shape(1)[1]);
    }
  }
  return work;
}

constexpr std::pair<std::string_view, ReaderFamily (*)(const std::filesystem::path&)> kFamilies[] =
    {{"qwen2", qwen2_family}, {"bert", bert_family}, {"byte-lm", byte_lm_family}};

/// What config.json says, or the state of a run whose model has none.
std::string model_type_of(const std::filesystem::path& files) {
  if (!std::filesystem::exists(files / "config.json") &&
      std::filesystem::exists(files / "state.json")) {
    return train::job_of(train::checkpoint_config(files), files);
  }
  constexpr int64_t kConfigLimit = int64_t{1} << 20;
  const std::string label = (files / "config.json").string();
  const models::ConfigReader config(
      "extract", io::read_text(label, kConfigLimit, {.stage = "extract"}), label);
  const auto* type = config.find("model_type");
  if (type == nullptr) return "";
  return type->is_string() ? type->get<std::string>() : type->dump();
}

class FolderReader final : public ReaderModel {
 public:
  FolderReader(ReaderFamily family, CompileOptions options, const std::filesystem::path& pack_cache,
               const std::filesystem::path& files)
      : family_(std::move(family)),
        options_(std::move(options)),
        packed_(std::make_shared<PackedWeights>(
            [this](std::string_view input) { family_.weights.release(path_of(input)); })),
        pack_cache_(pack_cache, files) {
    pack_cache_.load(*packed_);
  }

  int64_t layers() const override { return family_.layers; }
  int64_t width() const override { return family_.width; }
  int64_t longest() const override { return family_.longest; }
  int64_t vocab_size() const override { return family_.vocab_size; }
  bool reads_bytes() const override { return family_.id_dtype == DType::u8; }

  void select(const std::vector<std::string>& globs) override {
    globs_ = globs;
    steps_.clear();
    hooks_.clear();
    current_ = nullptr;
    // A small batch tells names and work; it is traced, not compiled.
    constexpr int64_t kProbe = 2;
    const train::Step probe = trace(1, kProbe);
    for (const ir::Output& output : probe.graph().outputs()) {
      if (!output.name.starts_with(kPrefix)) continue;
      hooks_.push_back(output.name.substr(kPrefix.size()));
      const Shape& shape = probe.graph().type(output.value).shape;
      const Shape wanted{1, kProbe, family_.width};
      ESPALIER_CHECK(shape == wanted, ErrorKind::unsupported, "extract",
                     "the hook {} is {} for one row of {} tokens; activations of this model must "
                     "be {}",
                     hooks_.back(), shape.str(), kProbe, wanted.str());
    }
    parameters_ = 0;
    for (const train::StateSlot& slot : probe.slots()) parameters_ += slot.type.shape.numel();
    const Work work = work_of(probe.graph());
    per_token_ = {work.products / kProbe, work.attention / (kProbe * kProbe)};
  }
  const std::vector<std::string>& hooks() const override { return hooks_; }
  int64_t parameters() const override { return parameters_; }

  void run(const TokenRows& batch) override {
    train::Step& wanted = step(batch.rows, batch.seq);
    if (current_ != nullptr && current_ != &wanted) current_->executable().rest();
    current_ = &wanted;
    if (reads_bytes()) {
      bytes_.assign(batch.ids.begin(), batch.ids.end());
      current_->set_batch("input_ids", bytes_.data());
    } else {
      current_->set_batch("input_ids", batch.ids.data());
    }
    current_->set_batch("position_ids", batch.positions.data());
    current_->set_batch("segments", batch.segments.data());
    current_->executable().set_profiling(profiling_);
    current_->run();
    if (fresh_) pack_cache_.save(*packed_);
    fresh_ = false;
  }

  const float* activation(size_t hook) override {
    outputs_.resize(hooks_.size());
    HostTensor& out = outputs_[hook];
    out = current_->executable().output(std::string(kPrefix) + hooks_[hook]);
    if (out.dtype() != DType::f32) {  // the interpreter's, in double
      out = HostTensor::from_doubles(DType::f32, out.shape(), out.to_doubles());
    }
    return out.as<float>().data();
  }

  int64_t compiles() const override { return static_cast<int64_t>(steps_.size()); }
  double compile_seconds() const override { return compile_seconds_; }
  double flops(int64_t rows, int64_t seq) const override {
    return static_cast<double>(rows * seq) *
           (per_token_.products + static_cast<double>(seq) * per_token_.attention);
  }
  int64_t packed_bytes() const override { return packed_->bytes(); }
  void set_profiling(bool on) override { profiling_ = on; }
  std::vector<ProfileRow> profile() const override { return current_->executable().profile(); }

 private:
  static std::string path_of(std::string_view input) {
    return std::string(input.substr(nn::input_name("").size()));
  }

  train::Step trace(int64_t rows, int64_t seq) const {
    return family_.trace(rows, seq,
                         {.compile = options_, .hooks = globs_, .used_parameters_only = true});
  }

  train::Step& step(int64_t rows, int64_t seq) {
    const auto found = steps_.find({rows, seq});
    if (found != steps_.end()) return found->second;
    const auto start = std::chrono::steady_clock::now();
    train::Step made = trace(rows, seq);
    if (options_.backend == "cpu") {
      made.compile_on(family_.weights.tensors, packed_);
    } else {
      fill_copies(made);
    }
    fresh_ = true;
    compile_seconds_ +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return steps_.emplace(std::pair{rows, seq}, std::move(made)).first->second;
  }

  /// The interpreter's state is in double: nothing to share.
  void fill_copies(train::Step& step) const {
    step.compile();
    for (const train::StateSlot& slot : step.slots()) {
      if (slot.path.empty()) continue;
      step.set_parameter(slot.path, family_.weights.tensors.at(slot.path));
    }
  }

  ReaderFamily family_;
  CompileOptions options_;
  std::shared_ptr<PackedWeights> packed_;
  PackCache pack_cache_;
  std::vector<std::string> globs_, hooks_;
  int64_t parameters_ = 0;
  Work per_token_;
  std::map<std::pair<int64_t, int64_t>, train::Step> steps_;
  train::Step* current_ = nullptr;
  std::vector<uint8_t> bytes_;
  std::vector<HostTensor> outputs_;
  double compile_seconds_ = 0.0;
  bool profiling_ = false;
  bool fresh_ = false;  // a step is about to run for the first time
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
      const std::vector<std::string> names = of_layers(part, layers, wanted, model_layers);
      globs.insert(globs.end(), names.begin(), names.end());
      if (names.empty()) globs.push_back(part);
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

std::filesystem::path model_files(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / "config.json")) return folder;
  const auto checkpoint = train::find_run(folder);
  return checkpoint ? checkpoint->folder : folder;
}

std::unique_ptr<ReaderModel> make_reader_model(ReaderFamily family, const CompileOptions& options,
                                               const std::filesystem::path& pack_cache,
                                               const std::filesystem::path& files) {
  return std::make_unique<FolderReader>(std::move(family), options, pack_cache, files);
}

std::unique_ptr<ReaderModel> open_reader_model(const std::filesystem::path& folder,
                                               const CompileOptions& options,
                                               const std::filesystem::path& pack_cache) {
  const std::filesystem::path files = model_files(folder);
  const std::string type = model_type_of(files);
  std::vector<std::string_view> known;
  for (const auto& [model_type, read] : kFamilies) {
    if (type == model_type) return make_reader_model(read(files), options, pack_cache, files);
    known.push_back(model_type);
  }
  fail(ErrorKind::unsupported, "extract", "{}: activations of {} cannot be read; there are {}",
       files.string(),
       type.empty() ? "a model without model_type" : fmt::format("model_type \"{}\"", type),
       fmt::join(known, ", "));
}

}  // namespace espalier::extract
