// SPDX-License-Identifier: Apache-2.0
#include "espalier/cli/run_flags.h"

#include <cstdio>

#include "espalier/cli/byte_lm_flags.h"

namespace espalier::cli {

void RunFlags::add_to(Command& app) {
  app.add_option("RUN", run, "folder of a run, or one of its checkpoints")->required();
  app.add_option("--dtype", dtype, "float32, bfloat16 or float16")->group("Machine");
  add_machine_flags(app, compile);
}

train::LoadedCheckpoint RunFlags::open() {
  compile.compute_dtype = train::parse_compute_dtype(dtype);
  train::LoadedCheckpoint loaded = train::open_run(run);
  if (!loaded.warnings.empty()) fmt::print(stderr, "espalier: warning: {}\n", loaded.warnings);
  return loaded;
}

}  // namespace espalier::cli
