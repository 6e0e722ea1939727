// SPDX-License-Identifier: Apache-2.0
// A model that activations are read from: one compiled forward pass for each shape of batch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/backend/executable.h"

namespace espalier::extract {

/// Names of hooks for --layers and --activation. `layers`: "all", "10-23" or "0,3,7-9".
/// `activation`: residual, mlp, attn (for each of the layers), names of hooks, or globs, which
/// match hooks of these layers and of none; with commas between several. Throws `user` for layers
/// that the model does not have, and for a list that cannot be read.
std::vector<std::string> hook_globs(std::string_view layers, std::string_view activation,
                                    int64_t model_layers);

/// Tokens of a batch, row-major [rows, seq]. Padding is a segment of its own.
struct TokenRows {
  int64_t rows = 0, seq = 0;
  std::vector<int32_t> ids, positions, segments;

  TokenRows(int64_t rows, int64_t seq);
};

class ReaderModel {
 public:
  virtual ~ReaderModel() = default;
  virtual int64_t layers() const = 0;
  virtual int64_t width() const = 0;
  virtual int64_t longest() const = 0;  // sequence the positions allow
  virtual int64_t vocab_size() const = 0;
  /// Whether token ids are bytes of text.
  virtual bool reads_bytes() const = 0;
  /// Which activations `run` computes, by glob; the graph stops after the last of them. Throws
  /// `user` for a glob without a hook, with the nearest.
  virtual void select(const std::vector<std::string>& globs) = 0;
  /// Names, in the order of computation.
  virtual const std::vector<std::string>& hooks() const = 0;
  /// How many parameters they need. No others are read from the files.
  virtual int64_t parameters() const = 0;
  /// Compiles at the first batch of a shape.
  virtual void run(const TokenRows& batch) = 0;
  /// Activation `hook` of the last run: f32 [rows, seq, width].
  virtual const float* activation(size_t hook) = 0;
  virtual int64_t compiles() const = 0;
  virtual double compile_seconds() const = 0;
  /// FLOP of a batch of this shape up to the last hook: matmuls 2 x weights x tokens, attention
  /// 4 x seq^2 x width a row and layer, half of it where it is causal.
  virtual double flops(int64_t rows, int64_t seq) const = 0;
  /// Bytes of weights in the layouts of kernels, once for all shapes.
  virtual int64_t packed_bytes() const = 0;
  /// Times of kernels from now on; `profile` has those of the shape that ran last.
  virtual void set_profiling(bool on) = 0;
  virtual std::vector<ProfileRow> profile() const = 0;
};

/// The folder that has a model's files: the newest checkpoint of a run, else `folder` itself.
std::filesystem::path model_files(const std::filesystem::path& folder);

/// A Hugging Face folder of Qwen2, Qwen2.5 or BERT, or a run of `espalier train` (or one of its
/// checkpoints). Throws `unsupported` for another model_type.
///
/// Weights stay in the files' pages and types; those of matrix products are laid out once for all
/// shapes, and their pages are given back. With `pack_cache`, a folder, what was laid out is kept
/// there, and mapped the next time.
std::unique_ptr<ReaderModel> open_reader_model(const std::filesystem::path& folder,
                                               const CompileOptions& options,
                                               const std::filesystem::path& pack_cache = {});

}  // namespace espalier::extract
