// SPDX-License-Identifier: Apache-2.0
#include "espalier/cli/byte_lm_flags.h"

#include <sstream>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/tensor/dtype_names.h"
#include "espalier/train/cache_dir.h"

namespace espalier::cli {

void ModelFlags::add_to(CLI::App& app, train::ByteLmOptions& o) {
  const char* group = "Model";
  app.add_option("--model", model, "handcraft (basic ops) or library (layers)")->group(group);
  app.add_option("--num-layer,--layers", o.model.layers, "layers")->group(group);
  app.add_option("--d-model,--width", o.model.width, "width")->group(group);
  app.add_option("--heads,--num-head", o.model.heads, "attention heads")->group(group);
  app.add_option("--ffn", o.model.ffn, "width of the feed-forward part")->group(group);
  app.add_option("--seq-len", o.model.seq_len, "bytes of a sequence")->group(group);
  app.add_option("--dropout", o.model.dropout, "probability of dropping an element")->group(group);
  app.add_option("--init", init, "initial values: torch or jax")->group(group);
  const char* how = "Compilation";
  app.add_option("--dtype", dtype, "float32, bfloat16 or float16")->group(how);
  app.add_option("--compile", o.compile.fuse, "0: op by op, 1: fused loops")->group(how);
  app.add_option("--flash", o.compile.flash, "0: attention from basic ops, 1: flash attention")
      ->group(how);
  app.add_option("--remat", remat, "globs of scopes to recompute, separated by commas")->group(how);
  app.add_option("--disable-pass", o.compile.disabled_passes, "passes to leave out")->group(how);
}

void ModelFlags::from(const train::ByteLmOptions& o) {
  model = o.variant == models::ByteLmVariant::library ? "library" : "handcraft";
  init = o.model.init == nn::InitScheme::torch ? "torch" : "jax";
  dtype = long_name(o.compile.compute_dtype);
}

void ModelFlags::take(train::ByteLmOptions& o) const {
  o.variant = models::parse_byte_lm_variant(model);
  const std::vector<std::string> inits{"torch", "jax"};
  ESPALIER_CHECK(init == "torch" || init == "jax", ErrorKind::user, "cli",
                 "--init {} is neither torch nor jax{}", init, nearest_hint(init, inits));
  o.model.init = init == "torch" ? nn::InitScheme::torch : nn::InitScheme::jax;
  o.compile.compute_dtype = train::parse_compute_dtype(dtype);
  o.compile.remat.clear();
  std::istringstream globs(remat);
  for (std::string glob; std::getline(globs, glob, ',');) o.compile.remat.push_back(glob);
}

void add_machine_flags(CLI::App& app, CompileOptions& o) {
  const char* group = "Machine";
  o.cache_dir = train::default_cache_dir();
  app.add_option("--threads", o.threads, "0: as many as there are processors")->group(group);
  app.add_option("--backend", o.backend, "cpu, or interp: every op in double")->group(group);
  app.add_option("--cache-dir", o.cache_dir, "folder of compiled loops; empty: none")->group(group);
}

}  // namespace espalier::cli
