// SPDX-License-Identifier: Apache-2.0
// Parity checks: what this library computes against numbers that a reference implementation left in
// a folder (tests/goldens/make_byte_lm.py makes such folders).
//
//   expected.json         which model, its sizes, optimizer and number of steps
//   model.safetensors     parameters before the first step
//   expected.safetensors  input_bytes [steps,batch,seq]; of the first batch logits, hook.*, grad.*;
//                         train.loss of every step; after.*, the parameters after the last
//
// Deviations are the largest |got - want| of a tensor over its largest |want| (at least 1e-3).
// Rows of logits and hooks that the attention mask hides (Qwen2) are not compared. Bounds: in
// double 1e-9 where the reference computed in double throughout ("arithmetic": "float64", and every
// BERT and byte LM). On a machine with roundings they are derived from the model itself: the
// interpreter runs it in double and again rounding every result, which gives the deviation e that
// one rounding an op causes; a sum of K products in f32 has about sqrt(K/2) times the error of
// rounding it once, so with the longest sum of the model the bound is
// 4 (e_dtype + sqrt(K/2) e_f32), the same with e_f32 once more for a reference that rounded to f32
// on its way, and one rounding of the type that the folder stores. No bound depends on how far the
// expected numbers are: it grows with the model's own sensitivity to roundings. 4 covers the spread
// between two sets of roundings. Some results hang on a few of them: in bf16 and f16 on the sign of
// an input of relu, where a flip moves gradients by a whole term, and in every type on a gradient
// near zero, which Adam divides by its own size. e is therefore the worst of five runs, in four of
// which every parameter is off by up to one rounding (Monte Carlo arithmetic; Parker, UCLA
// CSD-970002). After training the bound is at most twice what Adam can move, about steps x learning
// rate. A key bias without RoPE has a gradient of zero, whose rounding noise Adam turns into whole
// steps: there that is the bound, once.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/tensor/dtype.h"

namespace espalier::train {

struct CheckOptions {
  std::string backend = "interp";
  DType dtype = DType::f32;
  /// How the byte LM is written: "library" or "handcraft".
  std::string variant = "library";
  bool fuse = true;
  bool flash = true;
  int threads = 0;
  std::string cache_dir;
};

struct CheckRow {
  std::string what;  // "logits", "hook.embed", "grad.decoder.bias", ...
  double deviation = 0.0;
  double bound = 0.0;
  /// NaN fails, and so does a bound that is not finite, which says nothing.
  bool pass() const;
};

struct CheckReport {
  std::string model;
  std::vector<CheckRow> rows;
  bool pass() const;
  /// The row that uses most of its bound.
  const CheckRow& worst() const;
};

/// Throws `data` for a folder that is not of this form, `unsupported` for a model that has no
/// check.
CheckReport check_folder(const std::filesystem::path& folder, const CheckOptions& options);

}  // namespace espalier::train
