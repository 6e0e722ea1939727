// SPDX-License-Identifier: Apache-2.0
// Variants of a task: mirrored, rotated, with other colours and another order of examples.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "espalier/extract/arc_task.h"
#include "espalier/extract/mersenne.h"

namespace espalier::extract {

/// What was done to a task, in this order.
struct Augmentation {
  bool mirrored = false;              // columns reversed
  int64_t quarter_turns = 0;          // counter-clockwise
  std::array<uint8_t, 10> colours{};  // new colour of 0 to 9
  std::vector<int64_t> order;         // example i of the variant is example order[i] of the task
};

Grid mirror(const Grid& grid);
/// Counter-clockwise by 90 degrees.
Grid quarter_turn(const Grid& grid);
ArcTask augment(const ArcTask& task, const Augmentation& augmentation);

/// Throws `user` unless the seed is below 2^32 and predictions > 0.
void check_augmentation(uint64_t seed, int64_t predictions);

/// Draws the variants of task after task from one seed.
class Augmenter {
 public:
  explicit Augmenter(uint64_t seed);

  /// The variants of a task that make `predictions` prompts for each of its tests: both mirrorings
  /// by four turns, each max(1, predictions / 8) times, as many as are needed. So a number above 8
  /// that is no multiple of 8 is rounded down to one. Throws `user` unless predictions > 0.
  std::vector<Augmentation> variants(const ArcTask& task, int64_t predictions);

 private:
  std::array<uint8_t, 10> draw_colours();
  PythonRandom colours_;
  NumpyRandom orders_;
};

}  // namespace espalier::extract
