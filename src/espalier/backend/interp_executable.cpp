// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/interp_executable.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/interp/interp.h"
#include "espalier/passes/pass.h"

namespace espalier {
namespace {

using ir::Attr;

DType held_as(DType dtype) { return is_float(dtype) ? DType::f64 : dtype; }

class InterpExecutable : public Executable {
 public:
  InterpExecutable(const ir::Graph& graph, bool round_f32, const StateViews& shared)
      : graph_(graph), round_f32_(round_f32) {
    for (int32_t id : graph_.inputs()) {
      const ir::Node& node = graph_.node(id);
      Input input{node.attrs.text(Attr::name), node.attrs.text(Attr::role), id, node.types[0], {}};
      if (const auto at = shared.find(input.name); input.kept() && at != shared.end()) {
        check_shared(input.name, {held_as(input.type.dtype), input.type.shape}, at->second);
        input.state = at->second;
      } else if (input.kept()) {
        input.state = HostTensor(held_as(input.type.dtype), input.type.shape);
        stats_.state_bytes += input.state.bytes();
      }
      names_.push_back(input.name);
      inputs_.push_back(std::move(input));
    }
    for (const ir::Output& output : graph_.outputs()) output_names_.push_back(output.name);
    stats_.predicted_bytes = stats_.state_bytes;
  }

  int32_t input_index(std::string_view name) const override {
    const auto at = std::find(names_.begin(), names_.end(), name);
    if (at == names_.end()) {
      fail(ErrorKind::user, "executable", "no input \"{}\"{}", name, nearest_hint(name, names_));
    }
    return static_cast<int32_t>(at - names_.begin());
  }

  void set_input(int32_t index, const void* data) override {
    ESPALIER_CHECK(index >= 0 && index < static_cast<int32_t>(inputs_.size()), ErrorKind::user,
                   "executable", "input {} of {} does not exist", index, inputs_.size());
    Input& input = inputs_[static_cast<size_t>(index)];
    ESPALIER_CHECK(!input.kept(), ErrorKind::user, "executable",
                   "input \"{}\" is kept by the executable; write to state() instead", input.name);
    // The interpreter only reads it.
    input.state = HostTensor(input.type.dtype, input.type.shape, const_cast<void*>(data), nullptr);
  }

  HostTensor state(std::string_view name) override {
    const Input& input = inputs_[static_cast<size_t>(input_index(name))];
    ESPALIER_CHECK(input.kept(), ErrorKind::user, "executable",
                   "input \"{}\" of role {} has no state", name, input.role);
    return input.state;
  }

  HostTensor output(std::string_view name) const override {
    const auto at = std::find(output_names_.begin(), output_names_.end(), name);
    if (at == output_names_.end()) {
      fail(ErrorKind::user, "executable", "no output \"{}\"{}", name,
           nearest_hint(name, output_names_));
    }
    const auto index = static_cast<size_t>(at - output_names_.begin());
    ESPALIER_CHECK(index < outputs_.size() && outputs_[index].defined(), ErrorKind::user,
                   "executable", "output \"{}\" is read before the first run, or replaces an input",
                   name);
    return outputs_[index];
  }

  void run() override {
    const auto start = std::chrono::steady_clock::now();
    std::vector<interp::DoubleTensor> values;
    for (const Input& input : inputs_) {
      ESPALIER_CHECK(input.state.data() != nullptr || input.type.shape.numel() == 0,
                     ErrorKind::user, "executable", "input \"{}\" was not set", input.name);
      values.push_back({input.type, input.state.to_doubles()});
    }
    std::vector<interp::DoubleTensor> results =
        interp::evaluate(graph_, values, {.round_f32 = round_f32_, .watch = {}});
    outputs_.assign(results.size(), {});
    for (size_t i = 0; i < results.size(); ++i) {
      const int32_t alias = graph_.outputs()[i].alias;
      if (alias < 0) {
        outputs_[i] = HostTensor::from_doubles(held_as(results[i].type.dtype),
                                               results[i].type.shape, results[i].data);
        continue;
      }
      // Written through, because callers hold views.
      HostTensor& kept = std::find_if(inputs_.begin(), inputs_.end(), [&](const Input& input) {
                           return input.node == alias;
                         })->state;
      for (size_t e = 0; e < results[i].data.size(); ++e) {
        kept.set(static_cast<int64_t>(e), results[i].data[e]);
      }
    }
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  const CompileStats& stats() const override { return stats_; }
  double host_seconds_last_run() const override { return 0.0; }
  void set_profiling(bool on) override { profiling_ = on; }
  std::vector<ProfileRow> profile() const override {
    if (!profiling_) return {};
    return {{.kind = "interp", .label = graph_.name(), .calls = 1, .seconds = seconds_}};
  }
  std::vector<ProfileEvent> last_events() const override {
    if (!profiling_) return {};
    return {{.row = 0, .start = 0.0, .seconds = seconds_}};
  }

 private:
  struct Input {
    std::string name;
    std::string role;
    int32_t node;
    ir::TensorType type;
    HostTensor state;  // kept, or a view of what set_input was given
    bool kept() const { return role == "parameter" || role == "state"; }
  };

  ir::Graph graph_;
  bool round_f32_;
  std::vector<Input> inputs_;
  std::vector<std::string> names_;
  std::vector<std::string> output_names_;
  std::vector<HostTensor> outputs_;
  CompileStats stats_;
  bool profiling_ = false;
  double seconds_ = 0.0;
};

}  // namespace

std::unique_ptr<Executable> make_interp_executable(const ir::Graph& graph,
                                                   const CompileOptions& options, bool round_f32,
                                                   const StateViews& shared) {
  if (options.compute_dtype != DType::f32) {
    const ir::Graph narrow = passes::precision(graph, {.compute_dtype = options.compute_dtype});
    return std::make_unique<InterpExecutable>(narrow, round_f32, shared);
  }
  return std::make_unique<InterpExecutable>(graph, round_f32, shared);
}

}  // namespace espalier
