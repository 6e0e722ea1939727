// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bert_eval.h"

namespace espalier::train {

BertEvaluation evaluate_bert(const LoadedCheckpoint& loaded, const ByteData& data,
                             const TextEvalOptions& options) {
  BertOptions run;
  apply_bert_options(loaded, run);
  const RunTokenizer tokenizer = open_run_tokenizer(run, data, {});
  const TokenDocuments documents = read_documents(data, tokenizer.tokenizer, options.max_bytes);
  const MlmVocabulary vocabulary(tokenizer.tokenizer);
  const MlmData rows(documents, 0, documents.size(), vocabulary, mlm_options(run));
  BertEvaluator evaluator(bert_config(run, tokenizer.tokenizer.vocab_size()), options.batch_size,
                          options.compile);
  restore_parameters(evaluator.compile(rows, run.seq_len), loaded);
  return {
      .quality = evaluator.measure(rows),
      .documents = documents.counts(),
      .unigram_entropy = unigram_entropy(documents, 0, documents.size(), vocabulary.is_ordinary)};
}

}  // namespace espalier::train
