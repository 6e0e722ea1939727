// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/step.h"

#include <cstring>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/tensor/convert.h"
#include "espalier/train/accumulate.h"

namespace espalier::train {

Tensor Trace::batch(std::string_view name, DType dtype, Shape shape) const {
  return {builder, builder.input("batch." + std::string(name), {dtype, std::move(shape)}, "batch")};
}

void copy_values(const HostTensor& from, HostTensor to, std::string_view what) {
  ESPALIER_CHECK(from.shape() == to.shape(), ErrorKind::user, "step",
                 "{}{} does not fit {}{} at {}", name(from.dtype()), from.shape().str(),
                 name(to.dtype()), to.shape().str(), what);
  convert_values(from, 0, to);
}

Loss Loss::mean_over(Tensor sum, Tensor count, std::vector<Metric> metrics) {
  Loss loss(sum / maximum(count, constant_like(count, 1.0)), std::move(metrics));
  loss.count = count;
  return loss;
}

Step::Step(ir::Graph graph, std::vector<StateSlot> slots, CompileOptions options,
           std::optional<Accumulation> accumulation)
    : graph_(std::move(graph)),
      slots_(std::move(slots)),
      options_(std::move(options)),
      accumulation_(std::move(accumulation)) {}

void Step::compile() { compile_with({}); }

void Step::compile_over(Step& other) {
  StateViews shared;
  for (const ir::Graph* graph : other.graphs()) {
    for (const std::string& name : kept_inputs(*graph)) {
      shared.emplace(name, other.state(name));
    }
  }
  compile_with(shared);
}

void Step::compile_on(const std::map<std::string, HostTensor>& values,
                      std::shared_ptr<PackedWeights> packed) {
  StateViews views;
  for (const StateSlot& slot : slots_) {
    const auto found = values.find(slot.path);
    ESPALIER_CHECK(!slot.path.empty() && found != values.end(), ErrorKind::user, "step",
                   "no value for {}", slot.name);
    views.emplace(slot.name, found->second);
  }
  batch_.clear();
  executable_ = espalier::compile(graph_, options_, views, std::move(packed));
}

std::vector<const ir::Graph*> Step::graphs() const {
  std::vector<const ir::Graph*> all{&graph_};
  if (accumulation_) all.push_back(&accumulation_->update);
  return all;
}

void Step::compile_with(const StateViews& shared) {
  batch_.clear();
  CompileOptions options = options_;
  // Weights laid out once would be those from before the other step's update.
  if (!shared.empty()) leave_out_prepack(options);
  executable_ = accumulation_ ? compile_accumulating(graph_, *accumulation_, options, shared)
                              : espalier::compile(graph_, options, shared);
}

Executable& Step::executable() {
  ESPALIER_CHECK(executable_ != nullptr, ErrorKind::user, "step",
                 "{} is not compiled yet; call compile first", graph_.name());
  return *executable_;
}

void Step::initialize(uint64_t seed) {
  if (executable_ == nullptr) compile();
  for (const StateSlot& slot : slots_) {
    HostTensor tensor = state(slot.name);
    if (!slot.path.empty()) {
      nn::fill(slot.init, seed, slot.path, tensor);
    } else if (slot.name == "seed") {
      std::memcpy(tensor.data(), &seed, sizeof(seed));
    } else {
      for (int64_t i = 0; i < tensor.numel(); ++i) tensor.set(i, slot.initial);
    }
  }
}

HostTensor Step::parameter(std::string_view path) {
  std::vector<std::string> paths;
  for (const StateSlot& slot : slots_) {
    if (slot.path.empty()) continue;
    if (slot.path == path) return state(slot.name);
    paths.push_back(slot.path);
  }
  fail(ErrorKind::user, "step", "no parameter at {}{}", path, nearest_hint(path, paths));
}

std::map<std::string, HostTensor> Step::parameters() {
  std::map<std::string, HostTensor> result;
  for (const StateSlot& slot : slots_) {
    if (!slot.path.empty()) result.emplace(slot.path, state(slot.name));
  }
  return result;
}

std::map<std::string, HostTensor> Step::other_state() {
  std::map<std::string, HostTensor> result;
  for (const StateSlot& slot : slots_) {
    if (slot.path.empty()) result.emplace(slot.name, state(slot.name));
  }
  return result;
}

void Step::set_parameter(std::string_view path, const HostTensor& values) {
  copy_values(values, parameter(path), path);
}

void Step::copy_parameters(Step& from) {
  for (const auto& [path, values] : from.parameters()) set_parameter(path, values);
}

int64_t Step::steps_done() { return state("step").as<int64_t>()[0]; }

void Step::set_batch(std::string_view name, const void* data) {
  Executable& e = executable();
  for (const auto& [known, index] : batch_) {
    if (known == name) return e.set_input(index, data);
  }
  batch_.emplace_back(name, e.input_index("batch." + std::string(name)));
  e.set_input(batch_.back().second, data);
}

}  // namespace espalier::train
