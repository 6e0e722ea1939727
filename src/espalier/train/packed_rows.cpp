// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/packed_rows.h"

#include <algorithm>
#include <cmath>

#include "espalier/base/crc32c.h"
#include "espalier/base/error.h"
#include "espalier/base/rng.h"
#include "espalier/train/shuffle.h"

namespace espalier::train {
namespace {

// Streams of the run's seed.
constexpr uint64_t kPackStream = 0x6461746100000003ull;
constexpr uint64_t kRowStream = 0x6461746100000004ull;
constexpr int64_t kSpecial = 2;  // the places around a piece

/// Open rows by the places that are free in them. Every piece goes into the fullest row that has
/// room (best fit), of equals the one that was touched last.
class Packer {
 public:
  explicit Packer(int64_t seq_len) : by_room_(static_cast<size_t>(seq_len) + 1) {}

  /// The row of a piece that takes `places`.
  int64_t place(int64_t places) {
    auto room = static_cast<size_t>(places);
    while (room < by_room_.size() && by_room_[room].empty()) ++room;
    int64_t row = rows_;
    if (room == by_room_.size()) {
      room = by_room_.size() - 1;
      ++rows_;
    } else {
      row = by_room_[room].back();
      by_room_[room].pop_back();
    }
    const size_t left = room - static_cast<size_t>(places);
    // Less room than the smallest piece takes is none.
    if (left > kSpecial) by_room_[left].push_back(row);
    return row;
  }
  int64_t rows() const { return rows_; }

 private:
  std::vector<std::vector<int64_t>> by_room_;
  int64_t rows_ = 0;
};

}  // namespace

PackedRows::PackedRows(const TokenDocuments& documents, int64_t first, int64_t last,
                       const Options& options)
    : documents_(documents), options_(options) {
  ESPALIER_CHECK(options.seq_len > kSpecial, ErrorKind::user, "data",
                 "seq_len = {} leaves no place for a token between those around a text",
                 options.seq_len);
  ESPALIER_CHECK(first >= 0 && first < last && last <= documents.size(), ErrorKind::data, "data",
                 "documents [{}, {}) of {} are none to train on", first, last, documents.size());
  const int64_t longest = options.seq_len - kSpecial;
  std::vector<DocumentPiece> pieces;
  int64_t places = 0;
  for (int64_t i = first; i < last; ++i) {
    const int64_t end = documents.offsets()[static_cast<size_t>(i) + 1];
    int64_t begin = documents.offsets()[static_cast<size_t>(i)];
    long_documents_ += end - begin > longest;
    for (; begin < end; begin += longest) {
      pieces.push_back({begin, std::min(longest, end - begin), end - begin <= longest});
      places += pieces.back().size + kSpecial;
    }
  }

  // The longest pieces are packed first (best fit decreasing), which leaves little unused. Pieces
  // of one length are taken in a random order: neighbours in the data shall not share a row.
  std::vector<int64_t> row_of(pieces.size());
  int64_t rows = static_cast<int64_t>(pieces.size());
  if (options.pack) {
    Packer packer(options.seq_len);
    const Shuffle order(rng_key(options.seed, 0, kPackStream), pieces.size());
    std::vector<size_t> sorted(pieces.size());
    for (size_t i = 0; i < pieces.size(); ++i) sorted[i] = static_cast<size_t>(order(i));
    std::stable_sort(sorted.begin(), sorted.end(),
                     [&](size_t a, size_t b) { return pieces[a].size > pieces[b].size; });
    for (const size_t piece : sorted) row_of[piece] = packer.place(pieces[piece].size + kSpecial);
    rows = packer.rows();
  } else {
    for (size_t i = 0; i < pieces.size(); ++i) row_of[i] = static_cast<int64_t>(i);
  }

  starts_.assign(static_cast<size_t>(rows) + 1, 0);
  for (const int64_t row : row_of) ++starts_[static_cast<size_t>(row) + 1];
  for (size_t row = 0; row < static_cast<size_t>(rows); ++row) starts_[row + 1] += starts_[row];
  pieces_.resize(pieces.size());
  std::vector<size_t> next(starts_.begin(), starts_.end() - 1);
  for (size_t i = 0; i < pieces.size(); ++i) {
    pieces_[next[static_cast<size_t>(row_of[i])]++] = pieces[i];
  }
  filled_ = static_cast<double>(places) / static_cast<double>(rows * options.seq_len);
}

int64_t PackedRows::row_at(int64_t number) const {
  const auto epoch = static_cast<uint64_t>(number / size());
  const Shuffle order(rng_key(options_.seed, epoch, kRowStream), static_cast<uint64_t>(size()));
  return static_cast<int64_t>(order(static_cast<uint64_t>(number % size())));
}

void PackedRows::fill(int64_t first, int64_t count, const RowMarks& marks, TokenRows& out) const {
  ESPALIER_ASSERT(first >= 0 && count > 0 && count * options_.seq_len <= INT32_MAX);
  const auto places = static_cast<size_t>(count * options_.seq_len);
  out.rows = count;
  out.seq_len = options_.seq_len;
  out.input_ids.assign(places, marks.padding);
  out.segments.assign(places, 0);
  out.positions.assign(places, 0);
  for (int64_t i = 0; i < count; ++i) {
    auto place = static_cast<size_t>(i * options_.seq_len);
    int32_t segment = 0;
    for (const DocumentPiece& piece : row(row_at(first + i))) {
      ++segment;
      int32_t position = 0;
      const auto put = [&](int32_t id) {
        out.input_ids[place] = id;
        out.segments[place] = segment;
        out.positions[place++] = position++;
      };
      put(marks.before);
      for (int64_t k = 0; k < piece.size; ++k) {
        put(documents_.ids()[static_cast<size_t>(piece.begin + k)]);
      }
      put(marks.after);
    }
  }
}

CheckpointSection PackedRows::section(int64_t next_row) const {
  // Tells data sets and tokenizers apart without hashing gigabytes at each checkpoint.
  const auto ids = std::as_bytes(documents_.ids());
  const size_t piece = std::min(ids.size(), size_t{64} << 10);
  uint32_t crc = 0;
  for (const size_t from : {size_t{0}, (ids.size() - piece) / 2, ids.size() - piece}) {
    crc = crc32c(ids.subspan(from, piece), crc);
  }
  return {{"next_row", next_row},
          {"rows_per_epoch", size()},
          {"seq_len", options_.seq_len},
          {"pack", options_.pack},
          {"tokens", documents_.counts().tokens},
          {"tokens_crc32c", fmt::format("{:08x}", crc)}};
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
