// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/reader_family.h"
#include "espalier/models/byte_lm.h"
#include "espalier/nn/weights.h"
#include "espalier/train/byte_lm_options.h"
#include "espalier/train/run_state.h"

namespace espalier::extract {

ReaderFamily byte_lm_family(const std::filesystem::path& run) {
  train::LoadedCheckpoint loaded = train::open_run(run);
  const models::ByteLmConfig c = train::read_config(loaded);
  ReaderFamily family{.layers = c.layers,
                      .width = c.width,
                      .longest = c.seq_len,
                      .vocab_size = c.vocab,
                      .id_dtype = DType::u8};
  io::LoadedWeights weights =
      nn::load_weights(models::ByteLm(c), loaded.folder / "model.safetensors");
  set_model(family, models::ByteLm(c), std::move(weights),
            [](const models::ByteLm& model, const ReaderInputs& in, const nn::Context& context) {
              byte_lm_encode(model,
                             {.bytes = in.ids, .positions = in.positions, .segments = in.segments},
                             context);
            });
  return family;
}

}  // namespace espalier::extract
