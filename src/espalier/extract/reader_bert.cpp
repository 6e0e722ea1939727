// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/reader_family.h"
#include "espalier/models/bert_folder.h"
#include "espalier/models/bert_forward.h"

namespace espalier::extract {

ReaderFamily bert_family(const std::filesystem::path& folder) {
  models::BertFolder loaded = models::load_bert(folder, models::BertHeadIs::optional);
  const models::BertConfig& c = loaded.config;
  ReaderFamily family{.layers = c.num_hidden_layers,
                      .width = c.hidden_size,
                      .longest = c.max_position_embeddings,
                      .vocab_size = c.vocab_size};
  set_model(
      family, models::BertForMaskedLm(c), std::move(loaded.weights),
      [](const models::BertForMaskedLm& model, const ReaderInputs& in, const nn::Context& context) {
        bert_encode(model,
                    {.input_ids = in.ids,
                     .token_type_ids = {},
                     .position_ids = in.positions,
                     .attention_mask = {},
                     .segments = in.segments},
                    context);
      });
  return family;
}

}  // namespace espalier::extract
