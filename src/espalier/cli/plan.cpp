// SPDX-License-Identifier: Apache-2.0
// espalier plan
#include <cstdio>
#include <memory>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/cli/command.h"
#include "espalier/cli/plan_flags.h"
#include "espalier/io/atomic.h"
#include "espalier/train/plan_job.h"

namespace espalier::cli {
namespace {

struct State {
  train::PlanJobOptions options;
  PlanFlags plan;
  std::string html, save, dtype = "bfloat16", device = "h100", show_device;
  int64_t sweep = 0, rank = -1, devices = 0;
  uint64_t seed = 0;
  bool all = false, json = false;
};

void take(State& s) {
  train::PlanJobOptions& o = s.options;
  const auto dtype = parse_dtype(s.dtype);
  ESPALIER_CHECK(dtype.has_value(), ErrorKind::user, "plan", "\"{}\" is no type", s.dtype);
  o.dtype = *dtype;
  o.device = shard::load_device(s.device);
  o.mesh = shard::Mesh::parse(s.plan.mesh);
  if (s.devices > 0) o.mesh.check_devices(s.devices);
  o.plans = s.plan.plans();
}

int save_rank(const State& s) {
  ESPALIER_CHECK(s.rank >= 0 && !s.save.empty(), ErrorKind::user, "plan",
                 "--rank and --save go together");
  const train::SaveRankResult r = train::save_rank(s.options, s.rank, s.seed, s.save);
  fmt::print(
      "rank {} of {}: {} tensors, {} in {}; {:.3g} values a second, all {} ranks one after "
      "the other {}\n",
      s.rank, s.options.mesh.devices(), r.tensors, human_bytes(static_cast<int64_t>(r.bytes)),
      human_duration(r.seconds), r.values / r.seconds, s.options.mesh.devices(),
      human_duration(r.seconds * static_cast<double>(s.options.mesh.devices())));
  return 0;
}

int run(State& s) {
  if (!s.show_device.empty()) {
    if (s.show_device != "all") shard::load_device(s.show_device);  // names the nearest
    fmt::print("{}", shard::builtin_devices());
    return 0;
  }
  take(s);
  ESPALIER_CHECK(s.sweep >= 0, ErrorKind::user, "plan", "--sweep {} must not be negative", s.sweep);
  if (s.sweep > 0) {
    ESPALIER_CHECK(s.plan.mesh.empty() && s.html.empty() && s.save.empty() && s.rank < 0,
                   ErrorKind::user, "plan",
                   "--sweep tries meshes of its own and prints a table; leave out --mesh, --html, "
                   "--rank and --save");
    const auto rows = train::sweep(s.options, s.sweep);
    fmt::print("{}\n", s.json ? train::sweep_json(rows) : train::sweep_text(rows, s.options));
    return 0;
  }
  if (s.rank >= 0 || !s.save.empty()) return save_rank(s);
  const train::PlanAnswer answer = train::plan_model(s.options);
  if (!s.html.empty()) {
    io::write_file_atomically(s.html, train::plan_html(answer), {.stage = "plan"});
  }
  fmt::print("{}\n", s.json ? train::plan_json(answer) : train::plan_text(answer, s.all));
  return 0;
}

}  // namespace

void add_plan(Program& program) {
  Command* app =
      program.app.add_subcommand("plan", "where a shard plan puts a model, and what a step costs");
  const auto s = std::make_shared<State>();
  app->add_option("model", s->options.model,
                  "bert-base, bert-100l-5120h, byte-lm, or a config.json");
  s->plan.add_to(*app);
  app->add_option("--batch,--batch-size", s->options.batch, "samples of all devices together");
  app->add_option("--seq,--seq-len", s->options.seq, "positions of a sample");
  app->add_option("--labelled", s->options.labelled,
                  "share of positions that BERT's head works on");
  app->add_option("--moments", s->options.moments, "values the optimizer keeps for each parameter");
  app->add_option("--dtype", s->dtype, "of products and activations");
  app->add_option("--device", s->device, "cpu, tpu-v5e, a100, h100, h200, or a TOML file");
  app->add_option("--show-device", s->show_device,
                  "NAME or all: print the device tables and where figures are from");
  app->add_option("--devices", s->devices,
                  "fail when the mesh needs more than this many; 0: any number");
  app->add_option("--sweep", s->sweep, "try all meshes of so many devices and rank them; 0: none");
  app->add_option("--html", s->html, "write a picture of the placement");
  app->add_option("--rank", s->rank, "with --save: make the shards of this device; -1: none");
  app->add_option("--save", s->save, "safetensors file for them");
  app->add_option("--seed", s->seed, "of initial values");
  app->add_flag("--all", s->all, "a line for each parameter, equal layers not joined");
  app->add_flag("--json", s->json, "one JSON object");
  app->footer(
      "Transforms: column_parallel(AXIS[, MATRICES]), row_parallel(AXIS), fully_shard(AXIS[, "
      "MIN_SIZE]),\n"
      "tensor_parallel(AXIS, DIM), replicate, freeze, with_dtype(TYPE).\nExamples:\n"
      "  espalier plan bert-100l-5120h --mesh data=8,model=8 --preset bert-tp+fsdp\n"
      "  espalier plan bert-base --preset bert-tp --sweep 16 --device tpu-v5e --dtype bf16\n"
      "  espalier plan byte-lm --mesh data=4 --rule '*=fully_shard(data)'");
  app->callback([&program, s] { program.action = [s] { return run(*s); }; });
}

}  // namespace espalier::cli
