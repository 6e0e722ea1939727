// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/executable.h"

#include "espalier/backend/cpu/exec/cpu_executable.h"
#include "espalier/backend/interp_executable.h"
#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier {

std::unique_ptr<Executable> compile(const ir::Graph& graph, const CompileOptions& options) {
  static const std::vector<std::string> kBackends{"cpu", "interp", "interp-f32"};
  for (const ir::Node& node : graph.nodes()) {
    ESPALIER_CHECK(!ir::needs_mesh(node), ErrorKind::unsupported, "compile",
                   "{} in scope \"{}\" needs a mesh of devices, and backend {} runs one device; "
                   "interp::evaluate_on_mesh runs all of them in one process",
                   ir::name(node.op), node.scope, options.backend);
  }
  if (options.backend == "cpu") return cpu::make_cpu_executable(graph, options);
  if (options.backend == "interp") return make_interp_executable(graph, options, false);
  if (options.backend == "interp-f32") return make_interp_executable(graph, options, true);
  fail(ErrorKind::user, "compile", "no backend \"{}\"{}", options.backend,
       nearest_hint(options.backend, kBackends));
}

}  // namespace espalier
