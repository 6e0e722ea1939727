// SPDX-License-Identifier: Apache-2.0
// config.json of every model that is read from Hugging Face folders.
#include "espalier/models/bert.h"
#include "espalier/models/qwen2.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace espalier;
  const std::string_view text = fuzz::as_text(data, size);
  fuzz::refuse_or_read([&] {
    const std::string printed = bert_config_json(models::parse_bert_config(text, "input"));
    const auto again = models::parse_bert_config(printed, "printed");
    fuzz::require(bert_config_json(again) == printed, "what is printed of BERT reads back");
  });
  fuzz::refuse_or_read([&] {
    const std::string printed = qwen2_config_json(models::parse_qwen2_config(text, "input"));
    const auto again = models::parse_qwen2_config(printed, "printed");
    fuzz::require(qwen2_config_json(again) == printed, "what is printed of Qwen2 reads back");
  });
  return 0;
}
