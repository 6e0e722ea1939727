// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/executable.h"

#include "espalier/backend/cpu/exec/cpu_executable.h"
#include "espalier/backend/interp_executable.h"
#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier {

std::unique_ptr<Executable> compile(const ir::Graph& graph, const CompileOptions& options) {
  static const std::vector<std::string> kBackends{"cpu", "interp", "interp-f32"};
  if (options.backend == "cpu") return cpu::make_cpu_executable(graph, options);
  if (options.backend == "interp") return make_interp_executable(graph, options, false);
  if (options.backend == "interp-f32") return make_interp_executable(graph, options, true);
  fail(ErrorKind::user, "compile", "no backend \"{}\"{}", options.backend,
       nearest_hint(options.backend, kBackends));
}

}  // namespace espalier
