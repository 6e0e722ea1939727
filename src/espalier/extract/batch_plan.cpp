// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/batch_plan.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <set>
#include <string>

#include "espalier/base/error.h"
#include "espalier/extract/choice.h"

namespace espalier::extract {
namespace {

constexpr std::array<std::string_view, 3> kNames{"pad", "bucket", "pack"};

/// A row under construction.
struct Row {
  int64_t seq;
  std::vector<int64_t> samples;
};

/// The shortest of seq, seq / 2, ... that holds `length` and is no shorter than `shortest`.
int64_t bucket_of(int64_t length, const BatchOptions& o) {
  int64_t seq = o.seq;
  while (seq % 2 == 0 && seq / 2 >= o.shortest && seq / 2 >= length) seq /= 2;
  return seq;
}

/// The fewest of rows, rows / 2, ... that hold `used` rows.
int64_t rows_for(int64_t used, int64_t rows) {
  while (rows % 2 == 0 && rows / 2 >= used) rows /= 2;
  return rows;
}

/// Longest first, each into the fullest row that still has room (best fit): at most 11/9 of the
/// fewest rows (Johnson et al., SIAM J. Comput. 1974), and far less for many short samples.
std::vector<Row> pack(std::span<const int64_t> lengths, const BatchOptions& o) {
  std::vector<int64_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return lengths[static_cast<size_t>(a)] > lengths[static_cast<size_t>(b)];
  });
  std::vector<Row> rows;
  std::set<std::pair<int64_t, size_t>> room;  // free columns, row
  for (int64_t sample : order) {
    const int64_t length = lengths[static_cast<size_t>(sample)];
    auto found = room.lower_bound({length, 0});
    if (found == room.end()) {
      rows.push_back({o.seq, {}});
      found = room.insert({o.seq, rows.size() - 1}).first;
    }
    const auto [free, row] = *found;
    room.erase(found);
    if (free > length) room.insert({free - length, row});
    rows[row].samples.push_back(sample);
  }
  for (Row& row : rows) std::sort(row.samples.begin(), row.samples.end());
  return rows;
}

}  // namespace

Batching parse_batching(std::string_view text) {
  return parse_choice<Batching>("batching", text, kNames);
}

std::string_view name(Batching batching) { return kNames[static_cast<size_t>(batching)]; }

std::vector<Batch> plan_batches(std::span<const int64_t> lengths, const BatchOptions& o) {
  ESPALIER_CHECK(o.rows > 0 && o.seq > 0 && o.shortest > 0, ErrorKind::user, "batching",
                 "batch size {}, sequence length {} and shortest bucket {} must be positive",
                 o.rows, o.seq, o.shortest);
  for (int64_t length : lengths) {
    ESPALIER_CHECK(length > 0 && length <= o.seq, ErrorKind::internal, "batching",
                   "a sample of {} tokens does not fit rows of {}", length, o.seq);
  }
  std::vector<Row> rows;
  if (o.batching == Batching::pack) {
    rows = pack(lengths, o);
  } else {
    for (size_t i = 0; i < lengths.size(); ++i) {
      const int64_t seq = o.batching == Batching::pad ? o.seq : bucket_of(lengths[i], o);
      rows.push_back({seq, {static_cast<int64_t>(i)}});
    }
    std::stable_sort(rows.begin(), rows.end(),
                     [](const Row& a, const Row& b) { return a.seq > b.seq; });
  }
  std::vector<Batch> batches;
  int64_t used = 0;  // rows of the last batch
  for (const Row& row : rows) {
    if (batches.empty() || batches.back().seq != row.seq || used == o.rows) {
      batches.push_back({.rows = o.rows, .seq = row.seq, .placements = {}});
      used = 0;
    }
    int64_t column = 0;
    for (int64_t sample : row.samples) {
      batches.back().placements.push_back({sample, used, column});
      column += lengths[static_cast<size_t>(sample)];
    }
    ++used;
  }
  // Rows that nobody stands in would be computed all the same, and the last batch may have many.
  for (Batch& batch : batches) batch.rows = rows_for(batch.placements.back().row + 1, o.rows);
  return batches;
}

double useful_share(std::span<const int64_t> lengths, std::span<const Batch> batches) {
  int64_t useful = 0, computed = 0;
  for (int64_t length : lengths) useful += length;
  for (const Batch& batch : batches) computed += batch.rows * batch.seq;
  return computed == 0 ? 1.0 : static_cast<double>(useful) / static_cast<double>(computed);
}

}  // namespace espalier::extract
