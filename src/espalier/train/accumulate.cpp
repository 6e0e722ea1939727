// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/accumulate.h"

#include <algorithm>
#include <numeric>

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::train {
namespace {

using ir::Attr;

constexpr std::string_view kPart = "part";

class AccumulatingExecutable final : public Executable {
 public:
  AccumulatingExecutable(const ir::Graph& part, const Step::Accumulation& accumulation,
                         CompileOptions options, const StateViews& shared)
      : numbers_(static_cast<size_t>(accumulation.parts)) {
    std::iota(numbers_.begin(), numbers_.end(), 0);
    leave_out_prepack(options);
    part_ = compile(part, options, shared);
    StateViews all = shared;
    for (const std::string& name : kept_inputs(part)) {
      all.insert_or_assign(name, part_->state(name));
      kept_.emplace_back(name, part_.get());
    }
    update_ = compile(accumulation.update, options, all);
    for (const std::string& name : kept_inputs(accumulation.update)) {
      if (!all.contains(name)) kept_.emplace_back(name, update_.get());
    }
    for (const int32_t id : part.inputs()) {
      const ir::Node& node = part.node(id);
      const std::string& name = node.attrs.text(Attr::name);
      const std::string& role = node.attrs.text(Attr::role);
      if (role == "parameter" || role == "state" || name == kPart) continue;
      const ir::TensorType& type = node.types[0];
      inputs_.push_back({name, part_->input_index(name), type.shape.numel() * size_of(type.dtype)});
      names_.push_back(name);
    }
    part_index_ = part_->input_index(kPart);
    add_stats(part_->stats());
    add_stats(update_->stats());
  }

  int32_t input_index(std::string_view name) const override {
    const auto at = std::find(names_.begin(), names_.end(), name);
    if (at == names_.end()) {
      fail(ErrorKind::user, "executable", "no input \"{}\"{}", name, nearest_hint(name, names_));
    }
    return static_cast<int32_t>(at - names_.begin());
  }
  void set_input(int32_t index, const void* data) override {
    inputs_[static_cast<size_t>(index)].data = static_cast<const std::byte*>(data);
  }
  HostTensor state(std::string_view name) override {
    for (const auto& [kept, owner] : kept_) {
      if (kept == name) return owner->state(name);
    }
    return part_->state(name);  // which has none either, and says so
  }
  HostTensor output(std::string_view name) const override { return update_->output(name); }

  void run() override {
    host_seconds_ = 0.0;
    for (const int64_t& number : numbers_) {
      part_->set_input(part_index_, &number);
      for (const Input& input : inputs_) {
        ESPALIER_CHECK(input.data != nullptr, ErrorKind::user, "executable",
                       "input {} has not been set", input.name);
        part_->set_input(input.index, input.data + number * input.bytes);
      }
      part_->run();
      host_seconds_ += part_->host_seconds_last_run();
    }
    update_->run();
    host_seconds_ += update_->host_seconds_last_run();
  }
  void rest() override {
    part_->rest();
    update_->rest();
  }

  const CompileStats& stats() const override { return stats_; }
  double host_seconds_last_run() const override { return host_seconds_; }
  void set_profiling(bool on) override {
    part_->set_profiling(on);
    update_->set_profiling(on);
  }
  std::vector<ProfileRow> profile() const override {
    std::vector<ProfileRow> rows = part_->profile();
    for (ProfileRow& row : update_->profile()) rows.push_back(std::move(row));
    return rows;
  }
  /// Of the last part and the update, one after the other.
  std::vector<ProfileEvent> last_events() const override {
    std::vector<ProfileEvent> events = part_->last_events();
    const auto rows = static_cast<int32_t>(events.size());
    const double end = events.empty() ? 0.0 : events.back().start + events.back().seconds;
    for (const ProfileEvent& event : update_->last_events()) {
      events.push_back({rows + event.row, end + event.start, event.seconds});
    }
    return events;
  }

 private:
  struct Input {
    std::string name;
    int32_t index;
    int64_t bytes;  // of one part
    const std::byte* data = nullptr;
  };

  void add_stats(const CompileStats& s) {
    stats_.seconds += s.seconds;
    stats_.pass_seconds += s.pass_seconds;
    stats_.kernel_seconds += s.kernel_seconds;
    stats_.loops += s.loops;
    stats_.distinct_loops += s.distinct_loops;
    stats_.loops_from_cache += s.loops_from_cache;
    stats_.predicted_bytes += s.predicted_bytes;
    stats_.arena_bytes += s.arena_bytes;
    stats_.peak_live_bytes += s.peak_live_bytes;
    stats_.state_bytes += s.state_bytes;
  }

  std::vector<int64_t> numbers_;  // of the parts: what the input "part" is read from
  std::unique_ptr<Executable> part_, update_;
  std::vector<std::pair<std::string, Executable*>> kept_;
  std::vector<Input> inputs_;
  std::vector<std::string> names_;
  int32_t part_index_ = 0;
  CompileStats stats_;
  double host_seconds_ = 0.0;
};

}  // namespace

std::vector<std::string> kept_inputs(const ir::Graph& graph) {
  std::vector<std::string> names;
  for (const int32_t id : graph.inputs()) {
    const ir::Attrs& attrs = graph.node(id).attrs;
    const std::string& role = attrs.text(Attr::role);
    if (role == "parameter" || role == "state") names.push_back(attrs.text(Attr::name));
  }
  return names;
}

void leave_out_prepack(CompileOptions& options) {
  const auto& off = options.disabled_passes;
  if (std::find(off.begin(), off.end(), "prepack") != off.end()) return;
  options.disabled_passes.emplace_back("prepack");
}

std::unique_ptr<Executable> compile_accumulating(const ir::Graph& part,
                                                 const Step::Accumulation& accumulation,
                                                 const CompileOptions& options,
                                                 const StateViews& shared) {
  return std::make_unique<AccumulatingExecutable>(part, accumulation, options, shared);
}

}  // namespace espalier::train
