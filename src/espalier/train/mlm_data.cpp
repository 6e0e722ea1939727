// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/mlm_data.h"

#include <algorithm>
#include <cmath>

#include "espalier/base/crc32c.h"
#include "espalier/base/error.h"
#include "espalier/base/rng.h"
#include "espalier/train/shuffle.h"

namespace espalier::train {
namespace {

// Streams of the run's seed that belong to masking.
constexpr uint64_t kRowStream = 0x6461746100000004ull;
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
    : documents_(documents),
      vocabulary_(std::move(vocabulary)),
      options_(options),
      rows_(documents, first, last,
            {.seq_len = options.seq_len, .pack = options.pack, .seed = options.seed}) {
  ESPALIER_CHECK(options.mlm_prob > 0.0 && options.mlm_prob <= 1.0, ErrorKind::user, "data",
                 "mlm_prob = {} is outside (0, 1]", options.mlm_prob);
}

void MlmData::fill(int64_t first, int64_t count, MlmBatch& batch) const {
  ESPALIER_ASSERT(first >= 0 && count > 0 && count * options_.seq_len <= INT32_MAX);
  const auto places = static_cast<size_t>(count * options_.seq_len);
  batch.rows = count;
  batch.seq_len = options_.seq_len;
  batch.input_ids.assign(places, vocabulary_.pad);
  batch.segments.assign(places, 0);
  batch.positions.assign(places, 0);
  batch.labels.assign(places, kNoLabel);
  for (int64_t i = 0; i < count; ++i) fill_row(first + i, i * options_.seq_len, batch);

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

/// Row `number` of the run into the places from `at` on.
void MlmData::fill_row(int64_t number, int64_t at, MlmBatch& batch) const {
  const auto epoch = static_cast<uint64_t>(number / rows_.size());
  const auto within = static_cast<uint64_t>(number % rows_.size());
  const Shuffle order(rng_key(options_.seed, epoch, kRowStream),
                      static_cast<uint64_t>(rows_.size()));
  const auto row = static_cast<int64_t>(order(within));
  const RngKey choose = rng_key(options_.seed, epoch, kChooseStream);
  const RngKey kind = rng_key(options_.seed, epoch, kKindStream);
  const RngKey token = rng_key(options_.seed, epoch, kTokenStream);
  const uint64_t chosen = threshold(options_.mlm_prob);
  const auto row_place = static_cast<uint64_t>(row * options_.seq_len);

  uint64_t t = 0;  // place in the row
  int32_t segment = 0, position = 0;
  const auto put = [&](int32_t id) {
    const size_t place = static_cast<size_t>(at) + t++;
    batch.input_ids[place] = id;
    batch.segments[place] = segment;
    batch.positions[place] = position++;
    return place;
  };
  for (const DocumentPiece& piece : rows_.row(row)) {
    ++segment;
    position = 0;
    put(vocabulary_.cls);
    const auto tokens =
        documents_.ids().subspan(static_cast<size_t>(piece.begin), static_cast<size_t>(piece.size));
    for (const int32_t id : tokens) {
      const uint64_t index = row_place + t;
      const size_t place = put(id);
      if (!vocabulary_.is_ordinary[static_cast<size_t>(id)]) continue;
      if (rng_bits(choose, index) >= chosen) continue;
      batch.labels[place] = id;
      const uint32_t what = rng_bits(kind, index);
      if (what < kMasked) {
        batch.input_ids[place] = vocabulary_.mask;
      } else if (what < kMaskedOrRandom) {
        // The product's upper half is uniform up to one part in 2^32 / tokens.
        const uint64_t scaled = uint64_t{rng_bits(token, index)} * vocabulary_.ordinary.size();
        batch.input_ids[place] = vocabulary_.ordinary[scaled >> 32];
      }
    }
    put(vocabulary_.sep);
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
  // Tells data sets and tokenizers apart without hashing gigabytes at each checkpoint.
  const auto ids = std::as_bytes(documents_.ids());
  const size_t piece = std::min(ids.size(), size_t{64} << 10);
  uint32_t crc = 0;
  for (const size_t from : {size_t{0}, (ids.size() - piece) / 2, ids.size() - piece}) {
    crc = crc32c(ids.subspan(from, piece), crc);
  }
  return {{"next_row", next_row},
          {"rows_per_epoch", rows_.size()},
          {"seq_len", options_.seq_len},
          {"pack", options_.pack},
          {"mlm_prob", options_.mlm_prob},
          {"tokens", documents_.counts().tokens},
          {"tokens_crc32c", fmt::format("{:08x}", crc)}};
}

WorkerShare::WorkerShare(int64_t batch, int64_t workers, int64_t rank) : batch(batch) {
  ESPALIER_CHECK(workers > 0 && rank >= 0 && rank < workers, ErrorKind::user, "data",
                 "rank {} is none of {} workers", rank, workers);
  ESPALIER_CHECK(batch > 0 && batch % workers == 0, ErrorKind::user, "data",
                 "batch_size = {} is not divisible by the {} workers", batch, workers);
  rows = batch / workers;
  offset = rows * rank;
}

int64_t documents_to_train(const TokenDocuments& documents, double holdout) {
  ESPALIER_CHECK(holdout >= 0.0 && holdout < 1.0, ErrorKind::user, "data",
                 "holdout = {} is outside [0, 1)", holdout);
  if (holdout == 0.0) return documents.size();
  ESPALIER_CHECK(documents.size() >= 2, ErrorKind::data, "data",
                 "{} document cannot be both trained on and held out", documents.size());
  const double tokens = static_cast<double>(documents.counts().tokens);
  const auto cut = static_cast<int64_t>(std::llround(tokens * (1.0 - holdout)));
  const auto offsets = documents.offsets();
  const auto it = std::lower_bound(offsets.begin(), offsets.end(), cut);
  return std::clamp<int64_t>(it - offsets.begin(), 1, documents.size() - 1);
}

}  // namespace espalier::train
