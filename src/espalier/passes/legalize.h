// SPDX-License-Identifier: Apache-2.0
// legalize: rewrites reductions into forms that loops have: a maximum reduces the last axis of at
// least two axes; other maxima are moved there by transposing and reshaping.
#pragma once

#include "espalier/ir/graph.h"

namespace espalier::passes {

ir::Graph legalize(const ir::Graph& graph);

}  // namespace espalier::passes
