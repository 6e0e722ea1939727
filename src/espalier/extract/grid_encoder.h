// SPDX-License-Identifier: Apache-2.0
// Grids as text.
//
//   MinimalGridEncoder()               012\n345
//   GridWithSeparationEncoder('|')     0|1|2\n3|4|5
//   RepeatNumberEncoder(n=3)           000111222\n333444555
//   RowNumberEncoder(E)                each line of E after its number: 1 012\n2 345
//   ReplaceNumberEncoder(E)            the digits of E as letters that vocabularies hold whole
//   GridCodeBlockEncoder(E)            E between ```grid and ```
//   GridShapeEncoder(E)                the same, with the shape: ```grid shape: 2x3
//
// Encoders nest as they are written: GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder())).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "espalier/extract/arc_task.h"

namespace espalier::extract {

class GridEncoder {
 public:
  virtual ~GridEncoder() = default;
  virtual std::string encode(const Grid& grid) const = 0;
};

inline constexpr std::string_view kDefaultGridEncoder =
    "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))";

/// Reads an encoder as written above. Throws `user`, with the place and the nearest name, for
/// anything else.
std::unique_ptr<GridEncoder> parse_grid_encoder(std::string_view text);

}  // namespace espalier::extract
