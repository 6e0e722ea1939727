// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/qwen2_eval.h"

namespace espalier::train {

Qwen2Evaluation evaluate_qwen2(const LoadedCheckpoint& loaded, const ByteData& data,
                               const TextEvalOptions& options) {
  Qwen2Options run;
  apply_qwen2_options(loaded, run);
  const RunTokenizer tokenizer = open_run_tokenizer(run, data, {});
  const TokenDocuments documents = read_documents(data, tokenizer.tokenizer, options.max_bytes);
  const CausalVocabulary vocabulary(tokenizer.tokenizer, run.end_token);
  const CausalData rows(documents, 0, documents.size(), vocabulary, row_options(run));
  Qwen2Evaluator evaluator(qwen2_run_config(run, tokenizer.tokenizer.vocab_size()),
                           options.batch_size, run.seq_len, options.compile);
  restore_parameters(evaluator.compile(), loaded);
  return {
      .quality = evaluator.measure(rows),
      .documents = documents.counts(),
      .unigram_entropy = unigram_entropy(documents, 0, documents.size(), vocabulary.is_ordinary)};
}

}  // namespace espalier::train
