// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/augmentation.h"

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier::extract {
namespace {

constexpr int64_t kTurns = 4;
/// How often background 0 gets another colour too.
constexpr double kAllColours = 0.1;

Grid change(Grid grid, const Augmentation& a) {
  if (a.mirrored) grid = mirror(grid);
  for (int64_t i = 0; i < a.quarter_turns; ++i) grid = quarter_turn(grid);
  for (uint8_t& cell : grid.cells) cell = a.colours[cell];
  return grid;
}

ArcPair change(const ArcPair& pair, const Augmentation& a) {
  ArcPair changed{.input = change(pair.input, a), .output = {}};
  if (pair.output) changed.output = change(*pair.output, a);
  return changed;
}

}  // namespace

Grid mirror(const Grid& grid) {
  Grid result = grid;
  for (int64_t row = 0; row < grid.height; ++row) {
    const auto begin = result.cells.begin() + row * grid.width;
    std::reverse(begin, begin + grid.width);
  }
  return result;
}

Grid quarter_turn(const Grid& grid) {
  Grid result{.height = grid.width, .width = grid.height, .cells = {}};
  for (int64_t row = 0; row < result.height; ++row) {
    for (int64_t column = 0; column < result.width; ++column) {
      result.cells.push_back(grid.at(column, grid.width - 1 - row));
    }
  }
  return result;
}

ArcTask augment(const ArcTask& task, const Augmentation& a) {
  ArcTask result{.id = task.id, .train = {}, .test = {}};
  for (int64_t from : a.order) {
    result.train.push_back(change(task.train[static_cast<size_t>(from)], a));
  }
  for (const ArcPair& pair : task.test) result.test.push_back(change(pair, a));
  return result;
}

void check_augmentation(uint64_t seed, int64_t predictions) {
  ESPALIER_CHECK(seed >> 32 == 0, ErrorKind::user, "augmentation",
                 "the seed {} is not below 2^32, as NumPy wants it", seed);
  ESPALIER_CHECK(predictions > 0, ErrorKind::user, "augmentation",
                 "predictions per task = {} must be positive", predictions);
}

Augmenter::Augmenter(uint64_t seed) : colours_(seed), orders_(static_cast<uint32_t>(seed)) {
  check_augmentation(seed, 1);
}

std::array<uint8_t, 10> Augmenter::draw_colours() {
  const int first = colours_.uniform() < kAllColours ? 0 : 1;
  std::vector<uint8_t> drawn;
  for (int colour = first; colour < 10; ++colour) drawn.push_back(static_cast<uint8_t>(colour));
  colours_.shuffle(drawn);
  std::array<uint8_t, 10> colours{};
  std::copy(drawn.begin(), drawn.end(), colours.begin() + first);
  return colours;
}

std::vector<Augmentation> Augmenter::variants(const ArcTask& task, int64_t predictions) {
  check_augmentation(0, predictions);
  const int64_t repeat = std::max<int64_t>(1, predictions / (2 * kTurns));
  std::vector<Augmentation> variants;
  for (bool mirrored : {false, true}) {
    for (int64_t turns = 0; turns < kTurns; ++turns) {
      for (int64_t i = 0; i < repeat; ++i) {
        Augmentation a{.mirrored = mirrored, .quarter_turns = turns, .colours = {}, .order = {}};
        a.colours = draw_colours();
        a.order = orders_.permutation(static_cast<int64_t>(task.train.size()));
        variants.push_back(std::move(a));
      }
      if (static_cast<int64_t>(variants.size()) >= predictions) return variants;
    }
  }
  return variants;
}

}  // namespace espalier::extract
