// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/mlm_data.h"

#include <algorithm>
#include <cmath>

#include "espalier/base/error.h"
#include "espalier/base/rng.h"

namespace espalier::train {
namespace {

// Streams of the run's seed that belong to masking.
constexpr uint64_t kChooseStream = 0x6461746100000005ull;
constexpr uint64_t kKindStream = 0x6461746100000006ull;
constexpr uint64_t kTokenStream = 0x6461746100000007ull;

/// `probability` in units of 2^-32.
uint64_t threshold(double probability) {
  return static_cast<uint64_t>(std::llround(probability * 0x1p32));
}

const uint64_t kMasked = threshold(0.8);
const uint64_t kMaskedOrRandom = threshold(0.9);

}  // namespace

MlmVocabulary::MlmVocabulary(const text::Tokenizer& tokenizer)
    : cls(tokenizer.require_id("[CLS]")),
      sep(tokenizer.require_id("[SEP]")),
      mask(tokenizer.require_id("[MASK]")),
      pad(tokenizer.require_id("[PAD]")),
      is_ordinary(static_cast<size_t>(tokenizer.vocab_size())) {
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const bool special = id == cls || id == sep || id == mask || id == pad ||
                         tokenizer.is_special(id) || tokenizer.token(id).empty();
    is_ordinary[static_cast<size_t>(id)] = !special;
    if (!special) ordinary.push_back(id);
  }
  ESPALIER_CHECK(!ordinary.empty(), ErrorKind::data, "data",
                 "all {} tokens of the vocabulary are special", tokenizer.vocab_size());
}

MlmData::MlmData(const TokenDocuments& documents, int64_t first, int64_t last,
                 MlmVocabulary vocabulary, const MlmOptions& options)
    : vocabulary_(std::move(vocabulary)),
      options_(options),
      rows_(documents, first, last,
            {.seq_len = options.seq_len, .pack = options.pack, .seed = options.seed}) {
  ESPALIER_CHECK(options.mlm_prob > 0.0 && options.mlm_prob <= 1.0, ErrorKind::user, "data",
                 "mlm_prob = {} is outside (0, 1]", options.mlm_prob);
}

void MlmData::fill(int64_t first, int64_t count, MlmBatch& batch) const {
  rows_.fill(first, count, {vocabulary_.cls, vocabulary_.sep, vocabulary_.pad}, batch);
  const size_t places = batch.input_ids.size();
  batch.labels.assign(places, kNoLabel);
  for (int64_t i = 0; i < count; ++i) mask_row(first + i, i * options_.seq_len, batch);

  batch.label_count =
      static_cast<int64_t>(places) - std::count(batch.labels.begin(), batch.labels.end(), kNoLabel);
  const int64_t capacity = std::max(batch.capacity(), capacity_for(count, batch.label_count));
  batch.label_index.assign(static_cast<size_t>(capacity), 0);
  batch.label_ids.assign(static_cast<size_t>(capacity), kNoLabel);
  size_t used = 0;
  for (size_t place = 0; place < places; ++place) {
    if (batch.labels[place] == kNoLabel) continue;
    batch.label_index[used] = static_cast<int32_t>(place);
    batch.label_ids[used++] = batch.labels[place];
  }
}

/// Masks row `number` of the run, whose places begin at `at`.
void MlmData::mask_row(int64_t number, int64_t at, MlmBatch& batch) const {
  const auto epoch = static_cast<uint64_t>(number / rows_.size());
  const RngKey choose = rng_key(options_.seed, epoch, kChooseStream);
  const RngKey kind = rng_key(options_.seed, epoch, kKindStream);
  const RngKey token = rng_key(options_.seed, epoch, kTokenStream);
  const uint64_t chosen = threshold(options_.mlm_prob);
  const auto row_place = static_cast<uint64_t>(rows_.row_at(number) * options_.seq_len);
  for (int64_t t = 0; t < options_.seq_len; ++t) {
    int32_t& id = batch.input_ids[static_cast<size_t>(at + t)];
    if (!vocabulary_.is_ordinary[static_cast<size_t>(id)]) continue;
    const uint64_t index = row_place + static_cast<uint64_t>(t);
    if (rng_bits(choose, index) >= chosen) continue;
    batch.labels[static_cast<size_t>(at + t)] = id;
    const uint32_t what = rng_bits(kind, index);
    if (what < kMasked) {
      id = vocabulary_.mask;
    } else if (what < kMaskedOrRandom) {
      // The product's upper half is uniform up to one part in 2^32 / tokens.
      const uint64_t scaled = uint64_t{rng_bits(token, index)} * vocabulary_.ordinary.size();
      id = vocabulary_.ordinary[scaled >> 32];
    }
  }
}

int64_t MlmData::usual_capacity(int64_t rows) const {
  const double places = static_cast<double>(rows * options_.seq_len);
  const double p = options_.mlm_prob;
  const double room = p * places + options_.label_sigmas * std::sqrt(places * p * (1.0 - p));
  const double labels = std::clamp(room, 1.0, places);
  return (static_cast<int64_t>(std::ceil(labels)) + 63) / 64 * 64;
}

int64_t MlmData::capacity_for(int64_t rows, int64_t labels) const {
  int64_t capacity = usual_capacity(rows);
  while (capacity < labels) capacity = (capacity * 5 / 4 + 63) / 64 * 64;
  return capacity;
}

CheckpointSection MlmData::section(int64_t next_row) const {
  CheckpointSection section = rows_.section(next_row);
  section["mlm_prob"] = options_.mlm_prob;
  return section;
}

WorkerShare::WorkerShare(int64_t batch, int64_t workers, int64_t rank) : batch(batch) {
  ESPALIER_CHECK(workers > 0 && rank >= 0 && rank < workers, ErrorKind::user, "data",
                 "rank {} is none of {} workers", rank, workers);
  ESPALIER_CHECK(batch > 0 && batch % workers == 0, ErrorKind::user, "data",
                 "batch_size = {} is not divisible by the {} workers", batch, workers);
  rows = batch / workers;
  offset = rows * rank;
}

}  // namespace espalier::train
