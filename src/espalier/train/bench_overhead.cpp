// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/bench_overhead.h"

#include <chrono>
#include <map>

#include "espalier/autodiff/grad.h"
#include "espalier/base/error.h"
#include "espalier/io/json.h"
#include "espalier/nn/tree.h"
#include "espalier/passes/pass.h"

namespace espalier::train {
namespace {

using Clock = std::chrono::steady_clock;
using models::BertForMaskedLm;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

constexpr int64_t kLayers[] = {2, 4, 8, 12, 100};

/// Little work, so that hundreds of layers are measured in a moment.
BertBenchSetting narrow(int64_t layers) {
  return {.layers = layers, .hidden = 64, .batch = 1, .seq = 32, .dropout = 0.1, .remat = {}};
}

/// A step of some 100 ms on two cores.
BertBenchSetting medium(double dropout) {
  return {.layers = 2, .hidden = 256, .batch = 8, .seq = 128, .dropout = dropout, .remat = {}};
}

double run_seconds(Step& step, BertBenchBatch& batch, int64_t i) {
  batch.feed(step, i);
  const auto start = Clock::now();
  step.run();
  return seconds_since(start);
}

}  // namespace

Step bert_step_by_hand(const BertBenchSetting& setting, const CompileOptions& compile) {
  auto [trained, frozen] =
      nn::partition(BertForMaskedLm(setting.config()),
                    [](std::string_view, const nn::Param& leaf) { return leaf.trainable; });
  std::vector<StateSlot> slots;
  nn::for_each_param(trained, [&](std::string_view path, const nn::Param& p) {
    slots.push_back({.name = nn::input_name(path),
                     .type = {p.dtype, p.shape},
                     .path = std::string(path),
                     .init = p.init});
  });

  ir::Builder forward("forward");
  const ir::TensorType counter{DType::i64, {}};
  const nn::Context context{.training = true,
                            .rng = {.seed = {forward, forward.input("seed", counter, "state")},
                                    .step = {forward, forward.input("step", counter, "state")}},
                            .hooks = nullptr};
  nn::bind(trained, forward);
  const BertForMaskedLm model = nn::combine(std::move(trained), std::move(frozen));
  forward.output("loss", bert_bench_loss(setting, model, {forward, context}).value.value());
  const ir::Graph traced =
      passes::canonicalize(forward.finish(), {.compute_dtype = compile.compute_dtype,
                                              .fuse = compile.fuse,
                                              .flash = compile.flash,
                                              .remat = compile.remat,
                                              .disabled = compile.disabled_passes});

  ir::Builder builder("train_step");
  ir::Rewriter copy(traced, builder);
  std::map<std::string, ir::Value> inputs;
  for (size_t i = 0; i < traced.nodes().size(); ++i) {
    const ir::Value value = copy.copy(static_cast<int32_t>(i));
    const ir::Node& node = traced.nodes()[i];
    if (node.op == ir::Op::input) inputs.emplace(node.attrs.text(ir::Attr::name), value);
  }
  builder.set_scope("");
  for (const char* name : {"step", "seed"}) {
    if (!inputs.contains(name)) inputs.emplace(name, builder.input(name, counter, "state"));
  }
  const ir::Value loss = copy[traced.outputs().front().value];

  std::vector<ir::Value> wrt;
  wrt.reserve(slots.size());
  for (const StateSlot& slot : slots) wrt.push_back(inputs.at(slot.name));
  const std::vector<ir::Value> found = autodiff::gradients(builder, loss, wrt);
  std::vector<Gradient> gradients;
  for (size_t i = 0; i < wrt.size(); ++i) {
    gradients.push_back({slots[i].path, {builder, wrt[i]}, {builder, found[i]}});
  }
  builder.set_scope("");
  const Tensor step{builder, inputs.at("step")};
  std::vector<StateUpdate> state;
  {
    ir::Builder::Scope scope(builder, "optimizer");
    OptimizerNodes update = apply(bert_bench_optimizer(), gradients, step);
    builder.output("loss", loss);
    builder.output("learning_rate", update.learning_rate.value());
    for (size_t i = 0; i < wrt.size(); ++i) {
      builder.output(slots[i].name, update.parameters[i].value(), wrt[i]);
    }
    state = std::move(update.state);
    state.push_back({"step", step, step + 1.0});
  }
  for (const StateUpdate& s : state) {
    builder.output(s.name, s.after.value(), s.before.value());
    slots.push_back(
        {.name = s.name, .type = s.before.type(), .initial = s.initial, .path = {}, .init = {}});
  }
  slots.push_back({.name = "seed", .type = counter, .path = {}, .init = {}});
  return {builder.finish(), std::move(slots), compile};
}

std::vector<OverheadResult> bench_overhead(const OverheadOptions& options,
                                           const std::function<void(const OverheadResult&)>& done) {
  ESPALIER_CHECK(options.steps > 0 && options.pairs > 0, ErrorKind::user, "bench",
                 "--steps {} and --pairs {} must be positive", options.steps, options.pairs);
  std::vector<OverheadResult> results;
  for (const int64_t layers : kLayers) {
    const BertBenchSetting setting = narrow(layers);
    Step step = bert_bench_step(setting, {.remat = {}, .threads = options.threads});
    step.initialize(0);
    // In turn, as a loop that loads ahead has them.
    BertBenchBatch batches[] = {BertBenchBatch(setting, 0), BertBenchBatch(setting, 1)};
    for (BertBenchBatch& batch : batches) batch.feed(step, 0);
    step.run();
    std::vector<double> host;
    double sum_of_losses = 0.0;
    for (int64_t i = 0; i < options.steps; ++i) {
      const auto set = Clock::now();
      batches[i % 2].point(step);
      const double setting_seconds = seconds_since(set);
      step.run();
      const auto read = Clock::now();
      sum_of_losses += step.loss();
      host.push_back(setting_seconds + step.executable().host_seconds_last_run() +
                     seconds_since(read));
    }
    ESPALIER_CHECK(sum_of_losses > 0.0, ErrorKind::check, "bench", "the losses sum up to {}",
                   sum_of_losses);
    results.push_back({.layers = layers,
                       .leaves = static_cast<int64_t>(step.slots().size()),
                       .host_us_per_step = 1e6 * median(host)});
    if (done) done(results.back());
  }
  return results;
}

std::vector<ByHandResult> bench_by_hand(const OverheadOptions& options,
                                        const std::function<void(const ByHandResult&)>& done) {
  std::vector<ByHandResult> results;
  for (const double dropout : {0.0, 0.1}) {
    const BertBenchSetting setting = medium(dropout);
    const CompileOptions compile{.remat = {}, .threads = options.threads};
    Step library = bert_bench_step(setting, compile);
    Step by_hand = bert_step_by_hand(setting, compile);
    ByHandResult result{.dropout = dropout};
    result.same_program = dump_stage(library.graph(), compile, "fused") ==
                          dump_stage(by_hand.graph(), compile, "fused");
    BertBenchBatch batch(setting, 0);
    library.initialize(0);
    by_hand.initialize(0);
    for (Step* step : {&library, &by_hand}) run_seconds(*step, batch, 0);
    std::vector<double> a, b, ratios;
    for (int64_t i = 0; i < options.pairs; ++i) {
      // Each goes first every other time.
      if (i % 2 == 0) a.push_back(run_seconds(library, batch, i));
      b.push_back(run_seconds(by_hand, batch, i));
      if (i % 2 != 0) a.push_back(run_seconds(library, batch, i));
      ratios.push_back(b.back() / a.back());
    }
    result.library_seconds = median(a);
    result.by_hand_seconds = median(b);
    result.ratio = median(ratios);
    results.push_back(result);
    if (done) done(result);
  }
  return results;
}

std::string overhead_json(const OverheadResult& r) {
  const nlohmann::ordered_json line{{"bench", "step-overhead"},
                                    {"layers", r.layers},
                                    {"leaves", r.leaves},
                                    {"host_us_per_step", r.host_us_per_step}};
  return line.dump();
}

std::string overhead_line(const OverheadResult& r) {
  return fmt::format("{:>4} layers, {:>5} leaves: {:.1f} us on the host a step", r.layers, r.leaves,
                     r.host_us_per_step);
}

std::string by_hand_json(const ByHandResult& r) {
  const nlohmann::ordered_json line{{"bench", "step-overhead"},
                                    {"compare", "by-hand"},
                                    {"dropout", r.dropout},
                                    {"same_program", r.same_program},
                                    {"make_train_step_seconds", r.library_seconds},
                                    {"by_hand_seconds", r.by_hand_seconds},
                                    {"ratio", r.ratio}};
  return line.dump();
}

std::string by_hand_line(const ByHandResult& r) {
  return fmt::format(
      "dropout {}: make_train_step {:.2f} ms, by hand {:.2f} ms, ratio {:.3f}; the fused programs "
      "are {}",
      r.dropout, 1e3 * r.library_seconds, 1e3 * r.by_hand_seconds, r.ratio,
      r.same_program ? "the same" : "different");
}

}  // namespace espalier::train
