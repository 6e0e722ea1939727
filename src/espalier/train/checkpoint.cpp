// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>
#include <utility>

#include "espalier/base/crc32c.h"
#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/base/version.h"
#include "espalier/io/atomic.h"
#include "espalier/io/safetensors.h"
#include "espalier/train/checkpoint_state.h"

namespace espalier::train {
namespace {
namespace fs = std::filesystem;
constexpr std::string_view kStage = "checkpoint";
constexpr std::string_view kPrefix = "step-";
constexpr const char* kModel = "model.safetensors";
constexpr const char* kState = "state.safetensors";
constexpr const char* kJson = "state.json";
constexpr int64_t kJsonLimit = 16 << 20;

/// The step in a folder's name; nothing for other names.
std::optional<int64_t> step_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  if (!name.starts_with(kPrefix) || name.size() < kPrefix.size() + 8) return std::nullopt;
  const char* begin = name.data() + kPrefix.size();
  const char* end = name.data() + name.size();
  int64_t step = 0;
  const auto [stop, error] = std::from_chars(begin, end, step);
  if (error != std::errc() || stop != end || step < 0) return std::nullopt;
  return step;
}

CheckpointFile write_tensors(const io::AtomicFolder& folder, const char* name,
                             const std::map<std::string, HostTensor>& tensors) {
  io::OutputFile out = folder.create(name);
  io::write_safetensors(out, tensors);
  out.sync_and_close();
  return {out.written(), out.crc32c()};
}

CheckpointState read_state(const fs::path& folder) {
  const std::string text =
      io::read_text(folder / kJson, kJsonLimit, {.stage = std::string(kStage)});
  return parse_checkpoint_state(text, (folder / kJson).string());
}

std::map<std::string, HostTensor> read_tensors(const fs::path& path, const CheckpointFile& stated) {
  auto mapped = io::MappedFile::open(path, {.stage = std::string(kStage)});
  const auto bytes = mapped->bytes();
  ESPALIER_CHECK(std::cmp_equal(bytes.size(), stated.bytes), ErrorKind::data, kStage,
                 "{} bytes where {} were written, at {}", bytes.size(), stated.bytes,
                 path.string());
  const uint32_t found = crc32c(bytes);
  ESPALIER_CHECK(found == stated.crc32c, ErrorKind::data, kStage,
                 "the checksum does not match: stated {:08x}, found {:08x}, at {}", stated.crc32c,
                 found, path.string());
  return io::SafetensorsFile::parse(bytes, path.string(), std::move(mapped)).tensors();
}

/// True when everything but the checksums of the tensors is as it was written.
bool looks_complete(const fs::path& folder) {
  try {
    const CheckpointState state = read_state(folder);
    return std::cmp_equal(fs::file_size(folder / kModel), state.model.bytes) &&
           std::cmp_equal(fs::file_size(folder / kState), state.state.bytes);
  } catch (const std::exception&) {
    return false;
  }
}

std::string print(const CheckpointValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return json_quote(*text);
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const auto* number = std::get_if<int64_t>(&value)) return fmt::format("{}", *number);
  return fmt::format("{}", std::get<double>(value));
}
}  // namespace

fs::path save_checkpoint(const fs::path& dir, const Checkpoint& checkpoint) {
  ESPALIER_CHECK(checkpoint.step >= 0, ErrorKind::internal, kStage, "step {} is negative",
                 checkpoint.step);
  const auto earlier = list_checkpoints(dir);
  const std::string kept = earlier.empty()
                               ? "there is no earlier checkpoint"
                               : "previous checkpoint kept: " + earlier.front().string();
  const io::FileContext context{std::string(kStage), kept};
  io::create_folders(dir, context);
  fs::path target = dir / fmt::format("{}{:08}", kPrefix, checkpoint.step);
  io::AtomicFolder folder(target, context);
  CheckpointState state{.step = checkpoint.step,
                        .seed = checkpoint.seed,
                        .config = checkpoint.config,
                        .options = checkpoint.options,
                        .data = checkpoint.data,
                        .library = fmt::format("espalier {}", version())};
  state.model = write_tensors(folder, kModel, checkpoint.parameters);
  state.state = write_tensors(folder, kState, checkpoint.state);
  for (const auto& [name, text] : checkpoint.files) {
    io::OutputFile file = folder.create(name);
    file.write(text);
    file.sync_and_close();
  }
  io::OutputFile out = folder.create(kJson);
  out.write(print_checkpoint_state(state));
  out.sync_and_close();
  folder.commit();
  return target;
}

CheckpointSection checkpoint_config(const fs::path& folder) { return read_state(folder).config; }

LoadedCheckpoint load_checkpoint(const fs::path& folder) {
  CheckpointState state = read_state(folder);
  const auto named = step_of(folder);
  ESPALIER_CHECK(!named || *named == state.step, ErrorKind::data, kStage,
                 "the folder holds step {}, at {}", state.step, folder.string());
  LoadedCheckpoint loaded;
  loaded.folder = folder;
  loaded.library = std::move(state.library);
  loaded.checkpoint = {.step = state.step,
                       .seed = state.seed,
                       .config = std::move(state.config),
                       .options = std::move(state.options),
                       .data = std::move(state.data),
                       .parameters = read_tensors(folder / kModel, state.model),
                       .state = read_tensors(folder / kState, state.state)};
  return loaded;
}

std::optional<LoadedCheckpoint> load_newest(const fs::path& dir) {
  std::string problems;
  for (const fs::path& folder : list_checkpoints(dir)) {
    try {
      LoadedCheckpoint loaded = load_checkpoint(folder);
      if (!problems.empty()) {
        loaded.warnings = fmt::format("{}using {} instead\n", problems, folder.string());
      }
      return loaded;
    } catch (const Error& error) {
      // Only damage is passed over: a newer format, no memory or no permission ends the search.
      std::error_code ignored;
      const bool incomplete = !fs::exists(folder / kJson, ignored) ||
                              !fs::exists(folder / kModel, ignored) ||
                              !fs::exists(folder / kState, ignored);
      if (error.kind() != ErrorKind::data && !incomplete) throw;
      problems += fmt::format("damaged checkpoint {}: {}\n", folder.string(), error.what());
    }
  }
  if (problems.empty()) return std::nullopt;
  fail(ErrorKind::data, kStage, "every checkpoint in {} is damaged:\n{}", dir.string(), problems);
}

std::vector<fs::path> list_checkpoints(const fs::path& dir) {
  std::vector<std::pair<int64_t, fs::path>> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir, error)) {
    if (const auto step = step_of(entry.path())) found.emplace_back(*step, entry.path());
  }
  // A folder that is not there holds no checkpoints; one that cannot be read may.
  if (error && error != std::errc::no_such_file_or_directory) {
    io::fail_errno(error.value(), {.stage = std::string(kStage)}, "cannot list the folder", dir);
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<fs::path> folders;
  folders.reserve(found.size());
  for (auto& [step, path] : found) folders.push_back(std::move(path));
  return folders;
}

void keep_last(const fs::path& dir, int64_t count) {
  ESPALIER_CHECK(count >= 1, ErrorKind::user, kStage, "cannot keep {} checkpoints; keep at least 1",
                 count);
  int64_t complete = 0;
  for (const fs::path& folder : list_checkpoints(dir)) {
    if (!looks_complete(folder)) continue;
    if (++complete > count) io::remove_folder(folder, {.stage = std::string(kStage)});
  }
}

std::vector<fs::path> set_aside_after(const fs::path& dir, int64_t step) {
  std::vector<fs::path> moved;
  for (const fs::path& folder : list_checkpoints(dir)) {
    if (*step_of(folder) <= step) continue;
    std::error_code error;
    fs::path target = dir / ("aside-" + folder.filename().string());
    for (int copy = 2; fs::exists(target, error); ++copy) {
      target = dir / fmt::format("aside-{}-{}", folder.filename().string(), copy);
    }
    fs::rename(folder, target, error);
    if (error) {
      io::fail_errno(error.value(), {.stage = std::string(kStage)}, "cannot rename the folder",
                     folder);
    }
    moved.push_back(target);
  }
  if (!moved.empty()) io::sync_folder(dir, {.stage = std::string(kStage)});
  return moved;
}

std::string differences(const CheckpointSection& saved, const CheckpointSection& now) {
  CheckpointSection all = saved;
  all.insert(now.begin(), now.end());
  std::string text;
  for (const auto& [key, unused] : all) {
    const auto before = saved.find(key), after = now.find(key);
    if (before != saved.end() && after != now.end() && before->second == after->second) continue;
    text += fmt::format("{}{} is {} in the checkpoint and {} now", text.empty() ? "" : "; ", key,
                        before == saved.end() ? "absent" : print(before->second),
                        after == now.end() ? "absent" : print(after->second));
  }
  return text;
}

}  // namespace espalier::train
