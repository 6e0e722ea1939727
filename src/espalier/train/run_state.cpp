// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/run_state.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/io/file.h"
#include "espalier/train/checkpoint_state.h"

namespace espalier::train {
namespace {

void copy_checked(const HostTensor& from, HostTensor to, const std::string& what,
                  const LoadedCheckpoint& loaded) {
  // The interpreter keeps floats as doubles; integers have one type everywhere.
  ESPALIER_CHECK(from.shape() == to.shape() && is_float(from.dtype()) == is_float(to.dtype()),
                 ErrorKind::data, "checkpoint", "{} is {}{} where the model has {}{}, at {}", what,
                 name(from.dtype()), from.shape().str(), name(to.dtype()), to.shape().str(),
                 loaded.folder.string());
  copy_values(from, to, what);
}

const HostTensor& find_parameter(const LoadedCheckpoint& loaded, const std::string& path) {
  const auto found = loaded.checkpoint.parameters.find(path);
  ESPALIER_CHECK(found != loaded.checkpoint.parameters.end(), ErrorKind::data, "checkpoint",
                 "no parameter {} in {}", path, loaded.folder.string());
  return found->second;
}

}  // namespace

void restore_parameters(Step& step, const LoadedCheckpoint& loaded) {
  for (const StateSlot& slot : step.slots()) {
    if (slot.path.empty()) continue;
    copy_checked(find_parameter(loaded, slot.path), step.state(slot.name), slot.path, loaded);
  }
}

void restore(Step& step, const LoadedCheckpoint& loaded) {
  restore_parameters(step, loaded);
  const auto& saved = loaded.checkpoint.state;
  for (const StateSlot& slot : step.slots()) {
    if (!slot.path.empty()) continue;
    const auto found = saved.find(slot.name);
    ESPALIER_CHECK(found != saved.end(), ErrorKind::user, "resume",
                   "the checkpoint has no \"{}\", which this optimizer and precision keep, at {}; "
                   "resume with the --optimizer, --clip, --freeze and --dtype of the run",
                   slot.name, loaded.folder.string());
    copy_checked(found->second, step.state(slot.name), slot.name, loaded);
  }
  for (const auto& [name, tensor] : saved) {
    const bool known =
        std::any_of(step.slots().begin(), step.slots().end(),
                    [&name = name](const StateSlot& slot) { return slot.name == name; });
    ESPALIER_CHECK(known, ErrorKind::user, "resume",
                   "the checkpoint has \"{}\", which this optimizer and precision do not keep, at "
                   "{}; resume with the --optimizer, --clip, --freeze and --dtype of the run",
                   name, loaded.folder.string());
  }
}

LoadedCheckpoint open_run(const std::filesystem::path& path) {
  std::error_code ignored;
  ESPALIER_CHECK(std::filesystem::is_directory(path, ignored), ErrorKind::user, "checkpoint",
                 "no folder at {}; give the --save-dir of a run", path.string());
  if (std::filesystem::exists(path / "state.json", ignored)) return load_checkpoint(path);
  auto loaded = load_newest(path);
  ESPALIER_CHECK(loaded.has_value(), ErrorKind::user, "checkpoint",
                 "no checkpoint in {}; train with --save-dir {} first", path.string(),
                 path.string());
  return std::move(*loaded);
}

std::optional<LoadedCheckpoint> find_run(const std::filesystem::path& dir) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(dir, ignored)) return std::nullopt;
  auto loaded = load_newest(dir);
  return loaded ? std::move(loaded) : read_run_file(dir);
}

std::optional<LoadedCheckpoint> read_run_file(const std::filesystem::path& dir) {
  constexpr int64_t kLargest = 1 << 20;
  const std::filesystem::path path = dir / kRunFile;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::nullopt;
  RunFile run = parse_run_file(io::read_text(path, kLargest, {.stage = "resume"}), path.string());
  LoadedCheckpoint begun;
  begun.folder = dir;
  begun.library = std::move(run.version);
  begun.checkpoint.seed = run.seed;
  begun.checkpoint.config = std::move(run.config);
  begun.checkpoint.options = std::move(run.options);
  begun.checkpoint.data = std::move(run.data);
  return begun;
}

}  // namespace espalier::train
