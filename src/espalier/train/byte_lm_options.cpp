// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/byte_lm_options.h"

#include "espalier/train/run_state.h"

namespace espalier::train {

Optimizer byte_lm_optimizer(const RunOptions& options) {
  // Biases, norms and embeddings are not decayed: only what matrix products multiply with.
  const DecayMask mask{.except = {}, .only = [](std::string_view path, const Shape& shape) {
                         return shape.rank() >= 2 && !path.starts_with("embedding") &&
                                !path.starts_with("position");
                       }};
  return make_optimizer(options.optimizer, options.steps, mask);
}

CheckpointSection config_section(const models::ByteLmConfig& m) {
  return {{"num_layer", m.layers}, {"d_model", m.width}, {"heads", m.heads},
          {"ffn", m.ffn},          {"vocab", m.vocab},   {"seq_len", m.seq_len}};
}

CheckpointSection options_section(const ByteLmOptions& o) {
  CheckpointSection section = run_section(o);
  section["dropout"] = o.model.dropout;
  section["init"] = std::string(o.model.init == nn::InitScheme::torch ? "torch" : "jax");
  section["model"] =
      std::string(o.variant == models::ByteLmVariant::library ? "library" : "handcraft");
  return section;
}

bool take_over_run(ByteLmOptions& o) {
  const auto loaded = find_run(o.save_dir);
  if (!loaded) return false;
  o.model = read_config(*loaded);
  apply_run_section(*loaded, o);
  const SavedSection saved(loaded->checkpoint.options, loaded->folder);
  std::string init = "torch", variant = "library";
  saved.take("dropout", o.model.dropout);
  saved.take("init", init);
  saved.take("model", variant);
  o.model.init = init == "jax" ? nn::InitScheme::jax : nn::InitScheme::torch;
  o.variant = models::parse_byte_lm_variant(variant);
  return true;
}

models::ByteLmConfig read_config(const LoadedCheckpoint& loaded) {
  check_job(loaded, "byte-lm");
  const SavedSection saved(loaded.checkpoint.config, loaded.folder);
  models::ByteLmConfig m;
  m.layers = saved.size("num_layer");
  m.width = saved.size("d_model");
  m.heads = saved.size("heads");
  m.ffn = saved.size("ffn");
  m.vocab = saved.size("vocab");
  m.seq_len = saved.size("seq_len");
  return m;
}

std::string flops_text(const models::ByteLmConfig& m) {
  const double all = models::byte_lm_train_flops(m);
  const double attention = 6.0 * static_cast<double>(m.layers * m.seq_len * m.seq_len * m.width);
  return fmt::format(
      "{:.4g} GFLOP per sequence = matmul {:.4g} (6 x weights x seq) + causal attention {:.3g} "
      "(12 x layers x seq^2 x width, half of it)",
      all * 1e-9, (all - attention) * 1e-9, attention * 1e-9);
}

}  // namespace espalier::train
