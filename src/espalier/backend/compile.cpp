// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/executable.h"

#include "espalier/backend/cpu/exec/cpu_executable.h"
#include "espalier/backend/interp_executable.h"
#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier {

std::unique_ptr<Executable> compile(const ir::Graph& graph, const CompileOptions& options,
                                    const StateViews& shared,
                                    std::shared_ptr<PackedWeights> packed) {
  static const std::vector<std::string> kBackends{"cpu", "interp", "interp-f32"};
  for (const ir::Node& node : graph.nodes()) {
    ESPALIER_CHECK(!ir::needs_mesh(node), ErrorKind::unsupported, "compile",
                   "{} in scope \"{}\" needs a mesh of devices, and backend {} runs one device; "
                   "interp::evaluate_on_mesh runs all of them in one process",
                   ir::name(node.op), *node.scope, options.backend);
  }
  if (options.backend == "cpu") {
    return cpu::make_cpu_executable(graph, options, shared, std::move(packed));
  }
  if (options.backend == "interp") return make_interp_executable(graph, options, false, shared);
  if (options.backend == "interp-f32") return make_interp_executable(graph, options, true, shared);
  fail(ErrorKind::user, "compile", "no backend \"{}\"{}", options.backend,
       nearest_hint(options.backend, kBackends));
}

void check_shared(std::string_view name, const ir::TensorType& wanted, const HostTensor& shared) {
  ESPALIER_CHECK(shared.dtype() == wanted.dtype && shared.shape() == wanted.shape, ErrorKind::user,
                 "compile", "the shared state {} is {}{} where {} is needed", name,
                 espalier::name(shared.dtype()), shared.shape().str(), wanted.str());
}

}  // namespace espalier
