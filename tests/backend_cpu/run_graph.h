// SPDX-License-Identifier: Apache-2.0
// Runs a graph on the CPU and in the interpreter over the same random inputs.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "espalier/backend/cpu/exec/cpu_executable.h"
#include "espalier/interp/interp.h"

namespace espalier::testing {

inline std::vector<HostTensor> random_host_inputs(const ir::Graph& graph, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<HostTensor> inputs;
  for (int32_t id : graph.inputs()) {
    const ir::TensorType& type = graph.node(id).types[0];
    HostTensor t(type.dtype, type.shape);
    for (int64_t i = 0; i < t.numel(); ++i) {
      t.set(i, is_float(type.dtype) ? normal(random) : static_cast<double>(random() % 7));
    }
    inputs.push_back(std::move(t));
  }
  return inputs;
}

/// Results in the order of the graph's outputs; aliased ones are read from their state.
inline std::vector<HostTensor> run_on_cpu(const ir::Graph& graph,
                                          const std::vector<HostTensor>& inputs,
                                          CompileOptions options = {}) {
  options.threads = options.threads > 0 ? options.threads : 2;
  const auto executable = cpu::make_cpu_executable(graph, options);
  const std::vector<int32_t> ids = graph.inputs();
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string& name = graph.node(ids[i]).attrs.text(ir::Attr::name);
    const std::string& role = graph.node(ids[i]).attrs.text(ir::Attr::role);
    if (role == "parameter" || role == "state") {
      HostTensor state = executable->state(name);
      std::memcpy(state.data(), inputs[i].data(), static_cast<size_t>(state.bytes()));
    } else {
      executable->set_input(executable->input_index(name), inputs[i].data());
    }
  }
  executable->run();
  std::vector<HostTensor> results;
  for (const ir::Output& output : graph.outputs()) {
    if (output.alias < 0) {
      results.push_back(executable->output(output.name).clone());
    } else {
      results.push_back(
          executable->state(graph.node(output.alias).attrs.text(ir::Attr::name)).clone());
    }
  }
  return results;
}

/// Every element within `tolerance` times the largest magnitude of its tensor: the graphs here are
/// short sums of numbers of one size.
inline void expect_cpu_matches_interp(const ir::Graph& graph, CompileOptions options = {},
                                      double tolerance = 2e-5, uint64_t seed = 1) {
  const std::vector<HostTensor> inputs = random_host_inputs(graph, seed);
  std::vector<interp::DoubleTensor> exact_inputs;
  for (const HostTensor& t : inputs) exact_inputs.push_back(interp::from_host(t));
  const auto want = interp::evaluate(graph, exact_inputs);
  const auto got = run_on_cpu(graph, inputs, options);
  ASSERT_EQ(want.size(), got.size());
  for (size_t o = 0; o < want.size(); ++o) {
    double scale = 0.0;
    for (double w : want[o].data) scale = std::max(scale, std::abs(w));
    if (scale == 0.0) scale = 1.0;
    int64_t worst = 0;
    double worst_error = 0.0;
    for (int64_t i = 0; i < got[o].numel(); ++i) {
      const double error = std::abs(got[o].get(i) - want[o].data[static_cast<size_t>(i)]) / scale;
      if (!(error <= worst_error)) {
        worst_error = error;
        worst = i;
      }
    }
    EXPECT_LE(worst_error, tolerance)
        << "output " << graph.outputs()[o].name << " element " << worst << " got "
        << got[o].get(worst) << " want " << want[o].data[static_cast<size_t>(worst)];
  }
}

}  // namespace espalier::testing
