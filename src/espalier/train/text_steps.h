// SPDX-License-Identifier: Apache-2.0
// What the training steps of all models of text share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/base/glob.h"
#include "espalier/base/text.h"
#include "espalier/nn/module.h"
#include "espalier/train/optimizer.h"
#include "espalier/train/run_options.h"

namespace espalier::train {

/// The model with parameters that match a glob of `freeze` (separated by commas) not trainable.
/// Throws `user` with the nearest path when a glob matches none.
template <typename M>
M with_frozen(M model, const std::string& freeze) {
  for (const std::string& pattern : split_list(freeze)) {
    const Glob glob(pattern);
    bool hit = false;
    nn::for_each_param(model, [&](std::string_view path, nn::Param& p) {
      if (!glob.matches(path)) return;
      p.trainable = false;
      hit = true;
    });
    ESPALIER_CHECK(hit, ErrorKind::user, "train", "--freeze {} matches no parameter{}", pattern,
                   nearest_hint(pattern, nn::param_paths(model)));
  }
  return model;
}

/// AdamW without decay of vectors (biases and norms), or as options.optimizer says.
Optimizer text_optimizer(const RunOptions& options);

}  // namespace espalier::train
