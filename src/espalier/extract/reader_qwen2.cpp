// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/reader_family.h"
#include "espalier/models/qwen2_folder.h"
#include "espalier/models/qwen2_forward.h"

namespace espalier::extract {

ReaderFamily qwen2_family(const std::filesystem::path& folder) {
  models::Qwen2Folder loaded = models::load_qwen2(folder);
  const models::Qwen2Config& c = loaded.config;
  ReaderFamily family{.layers = c.num_hidden_layers,
                      .width = c.hidden_size,
                      .longest = c.max_position_embeddings,
                      .vocab_size = c.vocab_size};
  set_model(family, models::Qwen2ForCausalLm(c), std::move(loaded.weights),
            [](const models::Qwen2ForCausalLm& model, const ReaderInputs& in,
               const nn::Context& context) {
              qwen2_encode(model,
                           {.input_ids = in.ids,
                            .position_ids = in.positions,
                            .attention_mask = {},
                            .segments = in.segments},
                           context);
            });
  return family;
}

}  // namespace espalier::extract
