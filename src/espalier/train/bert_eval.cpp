// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bert_eval.h"

#include <algorithm>

namespace espalier::train {

BertEvaluation evaluate_bert(const LoadedCheckpoint& loaded, const ByteData& data,
                             const BertEvalOptions& options) {
  BertOptions run;
  apply_bert_options(loaded, run);
  const BertTokenizer tokenizer = open_bert_tokenizer(run, data);
  auto bytes = data.bytes();
  if (options.max_bytes > 0) {
    bytes = bytes.first(std::min(bytes.size(), static_cast<size_t>(options.max_bytes)));
  }
  const TokenDocuments documents =
      tokenize_documents(bytes, format_of(data.source()), data.source(), tokenizer.tokenizer);
  const MlmVocabulary vocabulary(tokenizer.tokenizer);
  const MlmData rows(documents, 0, documents.size(), vocabulary, mlm_options(run));
  BertEvaluator evaluator(bert_config(run, tokenizer.tokenizer.vocab_size()), options.batch_size,
                          options.compile);
  restore_parameters(evaluator.compile(rows, run.seq_len), loaded);
  return {.quality = evaluator.measure(rows),
          .documents = documents.counts(),
          .unigram_entropy = unigram_entropy(documents, 0, documents.size(), vocabulary)};
}

}  // namespace espalier::train
