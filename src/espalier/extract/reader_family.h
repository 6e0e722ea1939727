// SPDX-License-Identifier: Apache-2.0
// What a family of models adds to ReaderModel: sizes, weights and a traced forward pass. One file
// a family.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "espalier/extract/reader_model.h"
#include "espalier/io/weights.h"
#include "espalier/nn/module.h"
#include "espalier/train/step.h"

namespace espalier::extract {

/// Graph inputs of a batch, [rows, seq] each: batch.input_ids, batch.position_ids, batch.segments.
struct ReaderInputs {
  Tensor ids, positions, segments;
};

struct ReaderFamily {
  int64_t layers = 0, width = 0, longest = 0, vocab_size = 0;
  DType id_dtype = DType::i32;  // of the graph input; i32 or u8
  io::LoadedWeights weights;
  /// A forward step of that batch, not compiled: hooks are its only results, [rows, seq, width].
  std::function<train::Step(int64_t rows, int64_t seq, const train::StepOptions& options)> trace;
};

/// Sets `weights` and `trace`. Parameters of `model` keep the types they have in the files.
/// `encode(model, inputs, context)` offers the hooks.
template <typename M, typename Encode>
void set_model(ReaderFamily& family, M model, io::LoadedWeights weights, Encode encode) {
  for (auto& [path, values] : weights.tensors) {
    if (values.dtype() != DType::f64) continue;
    HostTensor single(DType::f32, values.shape());
    train::copy_values(values, single, path);
    values = single;
    weights.mapped.erase(path);
  }
  nn::for_each_param(
      model,
      [&](std::string_view path, nn::Param& p) {
        const auto at = weights.tensors.find(p.tied_to.empty() ? std::string(path) : p.tied_to);
        if (at != weights.tensors.end()) p.dtype = at->second.dtype();
      },
      nn::Tied::visit);
  family.weights = std::move(weights);
  family.trace = [model = std::move(model), encode, ids = family.id_dtype](
                     int64_t rows, int64_t seq, const train::StepOptions& options) {
    return train::make_forward(
        model,
        [&](const M& traced, const train::Trace& trace) -> train::NamedTensors {
          const Shape shape{rows, seq};
          encode(traced,
                 ReaderInputs{.ids = trace.batch("input_ids", ids, shape),
                              .positions = trace.batch("position_ids", DType::i32, shape),
                              .segments = trace.batch("segments", DType::i32, shape)},
                 trace.context);
          return {};
        },
        options);
  };
}

/// The model that reads activations of a family. With `pack_cache`, as open_reader_model says;
/// `files` are what its contents belong to.
std::unique_ptr<ReaderModel> make_reader_model(ReaderFamily family, const CompileOptions& options,
                                               const std::filesystem::path& pack_cache = {},
                                               const std::filesystem::path& files = {});

/// Hugging Face folders, and runs of `espalier train`; a row each in the table of reader_model.cpp.
ReaderFamily qwen2_family(const std::filesystem::path& folder);
ReaderFamily bert_family(const std::filesystem::path& folder);
/// A run of the byte LM, or one of its checkpoints.
ReaderFamily byte_lm_family(const std::filesystem::path& run);

}  // namespace espalier::extract
